"""`thermapair evaluate landmarks`: landmarkers trained on lab frames with and without generated ones, into a ledger."""
