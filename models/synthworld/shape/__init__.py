"""The surface: a distance field, marched, named by class, with its landmarks."""
