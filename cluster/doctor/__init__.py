"""What `thermapair doctor` looks at: this machine, and what it means for a run."""
