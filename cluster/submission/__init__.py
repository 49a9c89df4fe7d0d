"""Jobs on a running Ray cluster: what goes there with them, and how they are followed."""
