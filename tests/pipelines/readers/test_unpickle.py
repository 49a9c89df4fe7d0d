"""A foreign pickle: arrays come out as they went in, and nothing that it asks for is run."""

import io
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from models.errors import UserError
from pipelines.readers.sets import unpickle

NUMBERS = st.sampled_from(["<f4", ">f4", "<f8", ">f8", "<i4", "u1", "<i8", "<f2"])


def read(content: bytes) -> dict[str, np.ndarray]:
    return unpickle.arrays(io.BytesIO(content), "annotations.pkl")


@settings(max_examples=60)
@given(st.data(), st.integers(0, 5), st.booleans())
def test_arrays_come_out_as_they_went_in(data: st.DataObject, protocol: int, fortran: bool) -> None:
    kind = np.dtype(data.draw(NUMBERS))
    values = data.draw(arrays(kind, array_shapes(max_dims=3, max_side=5), elements={"min_value": 0, "max_value": 100}))
    stored = np.asfortranarray(values) if fortran else values
    found = read(pickle.dumps({"000000.png": stored, "b.png": stored}, protocol=protocol))
    assert list(found) == ["000000.png", "b.png"]
    np.testing.assert_array_equal(found["b.png"], values.astype(np.float32))


def test_lists_and_older_numpys_names_are_read() -> None:
    points = np.arange(6, dtype=np.float64).reshape(3, 2) / 7
    np.testing.assert_allclose(read(pickle.dumps({"a.png": points.tolist()}))["a.png"], points, rtol=1e-6)
    older = pickle.dumps({"a.png": points}, protocol=2).replace(b"numpy._core.multiarray", b"numpy.core.multiarray")
    np.testing.assert_allclose(read(older)["a.png"], points, rtol=1e-6)


class Hostile:
    """Unpickled by pickle.load, it makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


class Shell(Hostile):
    def __reduce__(self) -> tuple[Any, ...]:
        import os

        return os.system, (f"touch {self.path}",)


class Opened(Hostile):
    def __reduce__(self) -> tuple[Any, ...]:
        return open, (str(self.path), "w")


@pytest.mark.parametrize("kind", [Hostile, Shell, Opened])
@pytest.mark.parametrize("protocol", range(6))
def test_a_hostile_pickle_runs_nothing(kind: type[Hostile], protocol: int, tmp_path: Path) -> None:
    file = tmp_path / "made"
    content = pickle.dumps({"a.png": np.zeros(2), "b.png": kind(file)}, protocol=protocol)
    with pytest.raises(
        UserError, match=r"asks for .*; only numpy arrays and plain containers are read, nothing was run"
    ):
        read(content)
    assert not file.exists()
    pickle.loads(content)  # noqa: S301  the same bytes do make it where nobody is careful
    assert file.exists()


@pytest.mark.parametrize(
    "content",
    [
        b"cbuiltins\neval\n(S'1'\ntR.",
        b"cnumpy\nfromfile\n(S'/etc/passwd'\ntR.",
        b"cnumpy._core.multiarray\nscalar\n.",
        b"c_codecs\nencode\n(Vabc\nVrot13\ntR.",
        pickle.dumps({"a.png": np.array([object], dtype=object)}),
        pickle.dumps({"a.png": np.array(["text"])}),
        pickle.dumps([np.zeros(3)]),
        pickle.dumps({3: np.zeros(3)}),
        pickle.dumps({"../../a": np.zeros(3)}),
        pickle.dumps({"a.png": {"b": 1}}),
        pickle.dumps({"a.png": np.zeros(300)})[:-60],
        b"",
        b"\x80\x04\x95" + b"\xff" * 8,
    ],
)
def test_anything_else_is_refused_by_name(content: bytes) -> None:
    with pytest.raises(UserError, match="annotations.pkl"):
        read(content)


def test_an_array_of_more_than_its_bytes_is_refused() -> None:
    content = pickle.dumps({"a.png": np.zeros((3, 2), np.uint8)}, protocol=2)
    assert content.count(b"K\x03K\x02\x86") == 1
    with pytest.raises(UserError, match=r"shape \(63, 2\) with 6 bytes"):
        read(content.replace(b"K\x03K\x02\x86", b"K\x3fK\x02\x86"))
