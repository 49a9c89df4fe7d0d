"""The vocabulary of rows is consistent in itself."""

import re
from typing import get_args

import numpy as np
import pytest

from models.columns import COLUMNS, SPLITS, THERMAL_KINDS, Codec, Column, Per
from tests.models.rows_of import check_columns


@pytest.mark.parametrize("name", COLUMNS)
def test_every_column_says_what_it_is(name: str) -> None:
    column = COLUMNS[name]
    assert re.fullmatch(r"[a-z][a-z0-9_]*", name)
    assert column.dtype in ("text", "bytes") or np.dtype(column.dtype).name == column.dtype
    assert column.meaning and column.meaning == column.meaning.strip()
    assert column.per in get_args(Per) and column.codec in get_args(Codec)
    assert all(
        (side in ("S", "S/8", "L", "C", "stages")) if isinstance(side, str) else side > 0 for side in column.shape
    )
    assert not (column.dtype == "text" and (column.shape or column.unit))


@pytest.mark.parametrize(("name", "column"), [item for item in COLUMNS.items() if item[1].codec])
def test_what_is_encoded_can_be(name: str, column: Column) -> None:
    takes = {"picture": ("uint8", 3), "png": ("bool uint8", 2), "centikelvin": ("uint16", 2), "json": ("text", 0)}
    dtypes, dimensions = takes[column.codec]
    assert column.dtype in dtypes.split() and len(column.shape) == dimensions


def test_pictures_of_unknown_size_are_encoded() -> None:
    assert all(column.codec for column in COLUMNS.values() if "S" in column.shape)


def test_words_of_a_kind_differ() -> None:
    for words in (SPLITS, THERMAL_KINDS):
        assert len(set(words)) == len(words)


@pytest.mark.parametrize(
    "wrong",
    [
        {"faces": np.zeros(2, np.int64)},
        {"faces": np.zeros((2, 1), np.int32)},
        {"faces": np.zeros(3, np.int32)},
        {"scores": np.zeros(2, np.float32)},
        {"scores": np.array(["{}", None], object)},
        {"thermal": np.zeros((2, 8, 8), np.uint16)},
        {"thermal": np.zeros((2, 1, 8, 8), np.uint16)},
        {},
    ],
)
def test_the_check_of_a_stage_sees_what_is_wrong(wrong: dict[str, np.ndarray]) -> None:
    good = {
        "faces": np.zeros(2, np.int32),
        "scores": np.array(["{}", ""], object),
        "thermal": np.zeros((2, 3, 8, 8), np.uint16),
    }
    check_columns(good, good, rows=2, layers=3, size=8)
    found = {**good, **wrong} if wrong else {}
    with pytest.raises(AssertionError):
        check_columns(found, good, rows=2, layers=3, size=8)
