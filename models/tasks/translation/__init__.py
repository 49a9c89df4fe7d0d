"""Training a translator from thermal to visible pictures."""
