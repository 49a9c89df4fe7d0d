"""The training loop and its checkpoints; what is trained is in `models/tasks`."""
