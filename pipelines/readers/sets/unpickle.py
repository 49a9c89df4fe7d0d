"""Arrays out of a pickle, and nothing else: the one place that reads a foreign pickle, and it runs no code of it.

A pickle is a program. Every name that it may ask for is answered with a stand-in of this file, which keeps what it is
given; arrays are then built from the bytes kept. No numpy object ever takes its state from the pickle.
"""

import io
import math
import pickle
from typing import Any, BinaryIO

import numpy as np

from models.errors import UserError

MAX_BYTES = 4 * 2**30


def arrays(file: BinaryIO, where: str) -> dict[str, np.ndarray]:
    """Return a pickled dict of name -> array (or nested lists of numbers) as float32 arrays.

    Raises:
        UserError: `file` asks for anything but numpy arrays and plain containers, is no such dict, or damaged.
    """
    try:
        found = _Restricted(file).load()
        if not isinstance(found, dict):
            raise UserError(f"{where} holds a {type(found).__name__}, not a dict of arrays")
        return {_name(key, where): _array(value) for key, value in found.items()}
    except UserError as error:
        raise UserError(f"{where}: {error}") from None
    except Exception as error:  # a damaged pickle fails in as many ways as there are opcodes
        raise UserError(f"{where} is no pickle of arrays, or damaged ({type(error).__name__}: {error})") from None


def npz_of(found: dict[str, np.ndarray]) -> bytes:
    """Return arrays as an uncompressed .npz, whose members are read one at a time."""
    sink = io.BytesIO()
    np.savez(sink, **found)  # type: ignore[arg-type]
    return sink.getvalue()


class _Kind:
    """Stands in for numpy.dtype: keeps the name of a number's type and its byte order."""

    def __init__(self, name: str, *_: object) -> None:
        self.name, self.order = name, "="

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.order = state[1]

    def numpy(self) -> np.dtype[Any]:
        if not isinstance(self.name, str) or self.name.lstrip("<>=|")[:1] not in "fiub" or self.order not in "<>=|":
            raise UserError(f"an array of {self.name!r}, not of numbers")
        return np.dtype(self.name).newbyteorder(self.order)  # type: ignore[arg-type]


class _Array:
    """Stands in for numpy.ndarray."""

    def __init__(self) -> None:
        self.state: tuple[Any, ...] = ()

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.state = state  # version, shape, dtype, Fortran order, bytes


def _reconstruct(*_: object) -> _Array:
    return _Array()


def _frombuffer(content: Any, kind: Any, shape: Any, order: str) -> _Array:
    made = _Array()
    made.state = (1, shape, kind, order == "F", content)
    return made


def _encode(text: str, coding: str) -> bytes:
    """Stands in for codecs.encode, which old protocols write bytes with."""
    if coding not in ("latin1", "latin-1"):
        raise UserError(f"text in the coding {coding!r}")
    return text.encode("latin1")


_KNOWN: dict[tuple[str, str], Any] = {
    ("numpy", "ndarray"): _Array,
    ("numpy", "dtype"): _Kind,
    ("_codecs", "encode"): _encode,
    ("collections", "OrderedDict"): dict,
} | {
    (f"numpy.{core}.{module}", name): standing
    for core in ("core", "_core")
    for module, name, standing in (
        ("multiarray", "_reconstruct", _reconstruct),
        ("numeric", "_frombuffer", _frombuffer),
    )
}


class _Restricted(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        try:
            return _KNOWN[module, name]
        except KeyError:
            raise UserError(
                f"asks for {module}.{name}; only numpy arrays and plain containers are read, nothing was run"
            ) from None


def _name(key: object, where: str) -> str:
    if not isinstance(key, str) or not key or "/" in key or "\\" in key or key == "file":
        raise UserError(f"{key!r} is not the name of a picture")
    return key


def _array(value: Any) -> np.ndarray:
    """Return what a stand-in or a list holds as float32."""
    if not isinstance(value, _Array):
        return np.asarray(_plain(value), np.float32)
    _, shape, kind, fortran, content = value.state
    shape = tuple(int(side) for side in shape)
    wanted = kind.numpy()
    if min(shape, default=1) < 0 or math.prod(shape) * wanted.itemsize != len(content):
        raise UserError(f"an array of shape {shape} with {len(content)} bytes")
    flat = np.frombuffer(bytes(content), wanted)
    return flat.reshape(shape, order="F" if fortran else "C").astype(np.float32)


def _plain(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    if isinstance(value, int | float):
        return value
    raise UserError(f"a {type(value).__name__} where numbers are needed")
