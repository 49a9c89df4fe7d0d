"""`thermapair evaluate lapig`: pairs that are made, or given, and read part by part into a ledger."""
