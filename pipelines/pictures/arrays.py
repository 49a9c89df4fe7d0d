"""numpy's files from anywhere: a header is read before an array is made, and what is wrong is one reason."""

import math
import zipfile
from typing import IO

import numpy as np
from numpy.lib import format as npy

from models.errors import UserError
from pipelines.pictures.open import BadPicture

HEADER = 4096
"""Bytes that a header of numbers may have; numpy's own have 128."""


def read_array(file: IO[bytes], size: int, where: str) -> np.ndarray:
    """Return the array of numbers that `file`, a .npy of `size` bytes, holds, in its own shape and type.

    Raises BadPicture for anything but numbers, and for a shape that the bytes are too few or too many for.
    """
    try:
        version = npy.read_magic(file)
        header = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}[version]
        shape, fortran, kind = header(file, max_header_size=HEADER)  # type: ignore[call-arg]
        length = math.prod(shape) * kind.itemsize
        if kind.kind not in "fiub":
            raise BadPicture(f"array: {where} holds {kind}, not numbers")
        if min(shape, default=1) < 0 or length != size - file.tell():
            raise BadPicture(f"array: {where} says shape {shape} of {kind}, and has {size - file.tell()} bytes for it")
        content = file.read(length)
        return np.frombuffer(content, kind).reshape(shape, order="F" if fortran else "C")
    except BadPicture:
        raise
    except Exception as error:  # damaged bytes lead a reader anywhere
        raise BadPicture(f"array: {where} cannot be read ({type(error).__name__}: {str(error)[:200]})") from None


class ArrayArchive:
    """The arrays of an .npz, read one by one. Raises a UserError, naming `where` it lies, for what is no such archive."""

    def __init__(self, file: IO[bytes], where: str) -> None:
        self.where = where
        try:
            self._archive = zipfile.ZipFile(file)
        except Exception as error:  # damaged bytes lead a reader anywhere
            raise UserError(f"{where} is no .npz of arrays ({error})") from None
        self._members = {one.filename.removesuffix(".npy"): one for one in self._archive.infolist()}

    def __contains__(self, name: str) -> bool:
        return name in self._members

    def __getitem__(self, name: str) -> np.ndarray:
        """Return an array. Raises BadPicture for one that is damaged, or no numbers."""
        where = f"{name} of {self.where}"
        try:
            member = self._members[name]
            with self._archive.open(member) as file:
                return read_array(file, member.file_size, where)
        except BadPicture:
            raise
        except Exception as error:  # zipfile: BadZipFile, NotImplementedError, RuntimeError for a password
            raise BadPicture(f"array: {where} cannot be read ({type(error).__name__}: {str(error)[:200]})") from None
