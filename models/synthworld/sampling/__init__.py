"""Who and what is shown: people, views and surroundings, sampled from the ranges of a domain."""
