"""A training run: its job, one worker of it, Ray Train, checkpoints, metrics, and the part that it exports."""
