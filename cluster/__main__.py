"""`python -m cluster` is `thermapair`."""

import sys

from cluster.cli import main

sys.exit(main())
