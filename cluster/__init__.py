"""Where and how work runs: the `thermapair` command, what a machine can do, job submission."""
