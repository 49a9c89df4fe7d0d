"""Small pictures render quickly without a compiler; building kernels would take longer than all of these tests."""

import os

os.environ.setdefault("THERMAPAIR_COMPILE", "0")
