"""The people of a job: given by a file, or sampled from the distribution that a recogniser showed of people."""
