"""`python -m cluster` is `thermapair`."""

from cluster.cli import entry

entry()
