"""Frames of thermal cameras, opened in one place: pictures of any depth, pages, matrices, FLIR's radiometric JPEG."""

import logging
from typing import Literal

import numpy as np

from models.radiometry import Implausible, check_counts, decode, find_fault
from models.temperature import Numbers, UnitName, name_of, numbers_of
from pipelines.pictures.codecs import MAX_PIXELS
from pipelines.pictures.flir import Radiometric, read_radiometric
from pipelines.pictures.matrices import SUFFIXES, is_matrix, open_matrices
from pipelines.pictures.open import FORMATS, MAX_PAGES, BadPicture, open_any_pages

log = logging.getLogger(__name__)

EXTENSIONS = (*FORMATS, *SUFFIXES)
"""Of files that frames may lie in."""
MAX_FRAMES = 4096
"""Of one file, where all are looked at once and kept small; together they have as many pixels as one picture may have."""


def open_frames(
    data: bytes,
    name: str,
    unit: UnitName | Numbers | Literal["grey"] = "centikelvin",
    pages: int = MAX_PAGES,
    max_pixels: int = MAX_PIXELS,
) -> list[np.ndarray]:
    """Return the frames in a file, upright: degrees Celsius float32 [H, W] with NaN for no reading, or uint8 [H, W] grey
    levels where a picture has no more bits. `name` is the file's.

    unit: of values of more than 8 bits; those of a radiometric JPEG are degrees by its own constants. grey: the counts
    themselves, whatever they mean, uint16, int16, int32 or float32.

    Raises:
        BadPicture: what cannot be opened, colours, and values that cannot be in `unit`; it begins with the kind and a colon.
    """
    numbers = None if unit == "grey" else numbers_of(unit)
    if radiometric := read_radiometric(data):
        return [_measure(radiometric, numbers)]
    if numbers and (numbers.emissivity is not None or numbers.distance is not None):
        raise BadPicture("not radiometric: emissivity and distance are for FLIR's radiometric JPEG, which this is not")
    # Page by page, each in the unit.
    frames = []
    for page, values in enumerate(found := open_values(data, name, pages, max_pixels)):
        where = f" (page {page})" if len(found) > 1 else ""
        if values.ndim == 3:
            if (values[..., :1] != values[..., 1:3]).any():
                raise BadPicture(f"colours: a palette cannot be undone; export 16-bit centikelvin, or grey{where}")
            values = values[..., 0]  # grey may be stored in three equal channels
        try:
            frames.append(np.ascontiguousarray(_decode(values, numbers, _stored_order(data))))
        except Implausible as error:
            raise BadPicture(f"{error}{where}") from None
    return frames


def open_temperatures(
    data: bytes, name: str, unit: UnitName | Numbers = "centikelvin", pages: int = MAX_PAGES
) -> list[np.ndarray]:
    """Return the frames of `open_frames` in degrees Celsius. Raises BadPicture for grey levels, too."""
    frames = open_frames(data, name, unit, pages)
    if any(frame.dtype == np.uint8 for frame in frames):
        raise BadPicture(f"8-bit: grey levels are no temperatures; export 16-bit {name_of(unit)}")
    return frames


def open_scenes(
    data: bytes,
    name: str,
    unit: UnitName | Numbers | None = None,
    pages: int = MAX_PAGES,
    max_pixels: int = MAX_PIXELS,
) -> list[np.ndarray]:
    """Return the pages of a picture that may be visible or thermal: uint8 [H, W, 3] or [H, W], else degrees Celsius float32.

    unit: without it only a radiometric JPEG is in degrees; other values of more than 8 bits are as they are stored, and what
    of a radiometric JPEG cannot be read is the picture that it shows. Raises BadPicture as `open_frames` does.
    """
    try:
        if radiometric := read_radiometric(data):
            return [_measure(radiometric, numbers_of(unit or "centikelvin"))]
    except BadPicture as error:
        if unit:
            raise
        log.warning("%s: %s; the picture that it shows is taken", name, error)
    values = open_values(data, name, pages, max_pixels)
    if unit is None or values[0].dtype == np.uint8:
        return values
    return open_frames(data, name, unit, pages, max_pixels)


def open_values(data: bytes, name: str, pages: int = MAX_PAGES, max_pixels: int = MAX_PIXELS) -> list[np.ndarray]:
    """Return what a file's pages hold as it is stored: uint8 [H, W, 3], or uint8, uint16, int16, int32, float32 [H, W]."""
    return (open_matrices if is_matrix(name) else open_any_pages)(data, name, max_pixels, pages)


def _decode(values: np.ndarray, numbers: Numbers | None, stored: str) -> np.ndarray:
    """Return a page in its unit, as `open_frames` has it. Raises Implausible."""
    if values.dtype == np.uint8:
        return values
    if numbers:
        return decode(values, numbers, stored)
    check_counts(values)
    return values


def _measure(radiometric: Radiometric, numbers: Numbers | None) -> np.ndarray:
    """Return degrees of a radiometric JPEG, or its counts without `numbers`."""
    if numbers is None:
        return radiometric.counts
    celsius = radiometric.celsius(numbers.emissivity, numbers.distance)
    fault = find_fault(celsius) if np.isfinite(celsius).any() else "no pixel has a temperature"
    if fault:
        raise BadPicture(f"radiometric: by the constants in the file {fault}")
    return celsius


def _stored_order(data: bytes) -> str:
    """Return the order of bytes that a file states: PNG's is big, TIFF and .npy say theirs."""
    big = data.startswith((b"\x89PNG", b"MM")) or (data.startswith(b"\x93NUMPY") and b"'>" in data[:128])
    return "big" if big else "little"
