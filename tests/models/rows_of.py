"""Whether a stage's output is what the vocabulary of rows says: dtype and shape of every column."""

from collections.abc import Iterable

import numpy as np

from models.columns import COLUMNS, Columns


def check_columns(found: Columns, wanted: Iterable[str], rows: int, layers: int, size: int) -> None:
    """Assert that `found` holds exactly the columns `wanted` of `rows` rows, each as `COLUMNS` describes it."""
    assert set(found) == set(wanted)
    letters = {"S": size, "C": layers}
    for name, values in found.items():
        column = COLUMNS[name]
        inner = tuple(letters[side] if isinstance(side, str) else side for side in column.shape)
        shape = (rows, *((layers,) if column.per == "layer" else ()), *inner)
        assert values.shape == shape, f"{name}: {values.shape}, the vocabulary says {shape}"
        if column.dtype == "text":
            assert values.dtype == object and all(isinstance(value, str) for value in values.flat), name
        else:
            assert values.dtype == np.dtype(column.dtype), f"{name}: {values.dtype}, not {column.dtype}"
