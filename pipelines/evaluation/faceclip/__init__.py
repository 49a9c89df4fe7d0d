"""`thermapair evaluate faceclip`: trainings and readings into a ledger that resumes."""
