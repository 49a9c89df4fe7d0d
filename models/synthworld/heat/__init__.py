"""Temperature of every pixel, from a heat balance of skin, covers and surroundings."""
