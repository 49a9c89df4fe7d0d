"""What a training run keeps: its job, its checkpoints, its metrics, and the part that it exports."""
