"""Probabilistic face landmarks on visible and thermal pictures: points, each with its variance."""
