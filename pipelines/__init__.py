"""The jobs: Ray Data graphs and Ray Train runs over the stages and tasks of `models`."""
