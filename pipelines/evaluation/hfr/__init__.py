"""`thermapair evaluate hfr`: recognisers adapted with pairs of several sources, cell by cell into a ledger."""
