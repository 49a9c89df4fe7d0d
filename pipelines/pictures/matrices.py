"""Matrices of numbers as files: `.npy`, of one frame or a stack of them, and `.csv` as cameras' software exports it."""

import io
from pathlib import PurePath

import numpy as np

from pipelines.pictures.arrays import read_array
from pipelines.pictures.codecs import MAX_PIXELS
from pipelines.pictures.open import MAX_BYTES, MAX_PAGES, BadPicture

SUFFIXES = (".npy", ".csv")
HEADER = 60
"""Lines of a `.csv` that may stand before its numbers: names and settings of the camera."""


def is_matrix(name: str) -> bool:
    """Whether a file's name says that it holds matrices."""
    return PurePath(name).suffix.lower() in SUFFIXES


def open_matrices(data: bytes, name: str, max_pixels: int = MAX_PIXELS, pages: int = MAX_PAGES) -> list[np.ndarray]:
    """Return the frames in a file as it holds them: uint8, uint16, int16, int32 or float32 [H, W] each.

    Raises BadPicture for what is no matrix of numbers, too large, or of over `pages` frames.
    """
    if not data:
        raise BadPicture("empty: the file has no bytes")
    if len(data) > MAX_BYTES:
        raise BadPicture(f"too large: {len(data)} bytes; the limit is {MAX_BYTES}")
    stack = _open_npy(data, name, max_pixels) if name.lower().endswith(".npy") else _open_csv(data, max_pixels)
    if len(stack) > pages:
        raise BadPicture(f"too many pages: {len(stack)}; the limit is {pages}, so split the file")
    return [_narrow(frame) for frame in stack]


def _open_npy(data: bytes, name: str, max_pixels: int) -> list[np.ndarray]:
    """Return the frames of an array [H, W] or [N, H, W]."""
    values = read_array(io.BytesIO(data), len(data), name)
    if values.dtype == bool or values.ndim not in (2, 3) or not values.size:
        raise BadPicture(
            f"not a matrix: {values.dtype} of shape {values.shape}; numbers [height, width] or [frames, height, width]"
        )
    if values.size > max_pixels:
        raise BadPicture(f"too large: {values.size} values; the limit is {max_pixels}")
    return list(values) if values.ndim == 3 else [values]


def _open_csv(data: bytes, max_pixels: int) -> list[np.ndarray]:
    """Return the blocks of numbers in a text, float64 [H, W] each; a blank line parts them.

    Cells are parted by semicolons, tabs, commas or spaces; with the first two a comma is a decimal point. An empty cell is
    NaN. Lines before the first numbers are passed over.
    """
    try:
        text = data.decode("utf-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig")
    except UnicodeDecodeError:
        raise BadPicture("not a matrix: the file is no text") from None
    between = next((mark for mark in (";", "\t", ",") if mark in text), None)
    blocks, block, pixels = list[np.ndarray](), list[list[float]](), 0
    for number, line in enumerate(text.splitlines(), 1):
        cells = _parse_line(line, between)
        # A blank line ends a block; what stands before the first numbers says nothing of them.
        if cells is None and (line.strip() or not block):
            if block or blocks or number > HEADER:
                raise BadPicture(f"not a matrix: line {number} holds no numbers: {line.strip()[:40]!r}")
            continue
        if cells is None:
            blocks.append(np.array(block))
            block = []
            continue
        if block and len(cells) != len(block[0]):
            raise BadPicture(f"not a matrix: line {number} has {len(cells)} numbers where {len(block[0])} are needed")
        block.append(cells)
        pixels += len(cells)
        if pixels > max_pixels:
            raise BadPicture(f"too large: over {max_pixels} values")
    if block:
        blocks.append(np.array(block))
    if not blocks:
        raise BadPicture("not a matrix: no line holds numbers")
    return blocks


def _parse_line(line: str, between: str | None) -> list[float] | None:
    """Return the numbers of a line, None where it has none or something else."""
    cells = [cell.strip().strip('"') for cell in line.split(between)]
    if between and cells and not cells[-1]:
        cells.pop()  # the line ends with the mark
    if between in (";", "\t"):
        cells = [cell.replace(",", ".") for cell in cells]
    try:
        numbers = [float(cell) if cell else float("nan") for cell in cells]
    except ValueError:
        return None
    return numbers if any(cells) and len(numbers) > 1 else None


def _narrow(values: np.ndarray) -> np.ndarray:
    """Return numbers in the kind that pictures have them in: float32, or whole numbers of at most 32 bits."""
    values = values.astype(values.dtype.newbyteorder("="))
    if values.dtype.kind == "f" or values.dtype.itemsize == 8:
        with np.errstate(over="ignore"):  # what is beyond becomes infinite, which is no reading
            return values.astype(np.float32)
    if values.dtype in (np.uint8, np.uint16, np.int16):
        return values
    return values.astype(np.int16 if values.dtype == np.int8 else np.int32)
