"""Measurements of bundles and of recipes: rows in, figures, cards and pages out, in a ledger that resumes."""
