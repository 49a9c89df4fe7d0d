"""Checkpoints that authors have published, made into parts of a bundle."""
