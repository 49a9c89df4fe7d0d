"""`thermapair evaluate translation`: translators side by side, and beside no translation, part by part into a ledger."""
