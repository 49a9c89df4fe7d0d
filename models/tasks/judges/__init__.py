"""Training of the judges: of another architecture, seed and people than the models they judge."""
