"""The HTTP service: the stages of the jobs behind Ray Serve."""
