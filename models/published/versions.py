"""Parts that are written whole or not at all, of checkpoints that are checked first."""

import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor

from models.errors import UserError
from models.weights.store import seal, verify


def check_finite(state: Mapping[str, Tensor], path: Path) -> None:
    """Raise a UserError for weights with NaN or infinity, which would make all that they compute NaN."""
    odd = [key for key, value in state.items() if not torch.isfinite(value).all()]
    if odd:
        raise UserError(f"{path}: {odd[0]} holds NaN or infinity: a training that diverged, or a damaged file.")


@contextmanager
def new_version(folder: Path) -> Iterator[Path]:
    """Give a copy of a part (or an empty folder) to write in; after the block it is sealed and takes the part's place.

    What stops the block leaves the part as it was. Raises EnvironmentFault for a part that is damaged.
    """
    there = folder.is_dir() and any(folder.iterdir())
    if there:
        verify(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}.") as temporary:
        new, old = Path(temporary) / "new", Path(temporary) / "old"
        if there:
            shutil.copytree(folder, new)
        else:
            new.mkdir()
        yield new
        seal(new)
        if there:
            folder.rename(old)
        new.rename(folder)
