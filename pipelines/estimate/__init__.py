"""What a job will take: rates of a machine, and what follows from them."""
