"""Plans: every sample, photograph or file of a run, in pieces that are never written again."""
