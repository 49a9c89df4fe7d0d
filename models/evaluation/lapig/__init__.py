"""What `thermapair evaluate lapig` reads off pairs: who, in what pose, of which words, how well the halves agree, in degrees."""
