"""What takes long to make is made once a run of pytest, by whichever of its processes needs it first."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from filelock import FileLock


def make_once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], object]) -> Path:
    """Return the folder `name` that `make` has filled; nobody may change what is in it."""
    base = factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        base = base.parent  # each worker's lies in that of the run
    folder, begun = base / name, base / f"{name}.begun"
    with FileLock(base / f"{name}.lock"):
        if not folder.exists():
            begun.mkdir()
            make(begun)
            begun.rename(folder)
    return folder
