"""Stages that take no time and no weights, for tests of the graph and for runs of the scale."""
