"""What is done with finished outputs."""
