"""`thermapair evaluate hfr`: what pairs are worth to a recogniser that is adapted to thermal probes."""
