"""FLIR's radiometric JPEG: a picture in colours to look at, with the sensor's counts and its constants in APP1 segments.

The segments together are an FFF file: a directory of records, of which one holds the counts, raw or as a PNG, and one the
camera: Planck constants, emissivity, distance and air. The layout is the one that ExifTool documents.
"""

import struct
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from models.radiometry import roughness
from pipelines.pictures.open import BadPicture, open_any

RAW, CAMERA = 0x01, 0x20
"""Kinds of records."""
ORDER = 2
"""What a record's first two bytes mean in its own order of bytes."""
MARK = b"FLIR\0"
MOST_RECORDS = 1000
ZERO = 273.15


@dataclass(frozen=True)
class Camera:
    """What a camera says of its counts: Planck constants, object, air and window. Temperatures in kelvin, metres."""

    r1: float
    b: float
    f: float
    o: float
    r2: float
    emissivity: float = 1.0
    distance: float = 0.0
    reflected: float = 293.15
    air: float = 293.15
    window: float = 293.15
    window_transmission: float = 1.0
    humidity: float = 0.5
    alpha1: float = 0.006569
    alpha2: float = 0.01262
    beta1: float = -0.002276
    beta2: float = -0.00667
    x: float = 1.9

    def signal(self, kelvin: float) -> float:
        """Return the counts of a black body."""
        return self.r1 / (self.r2 * (np.exp(self.b / kelvin) - self.f)) - self.o

    def transmission(self) -> float:
        """Return what the air between lets through, of its humidity and temperature."""
        air = self.air - ZERO
        water = self.humidity * np.exp(1.5587 + 6.939e-2 * air - 2.7816e-4 * air**2 + 6.8455e-7 * air**3)
        root = np.sqrt(self.distance)
        first, second = (
            np.exp(-root * (alpha + beta * np.sqrt(water)))
            for alpha, beta in ((self.alpha1, self.beta1), (self.alpha2, self.beta2))
        )
        return float(self.x * first + (1 - self.x) * second)

    def to_celsius(self, counts: np.ndarray) -> np.ndarray:
        """Return the temperature float32 [H, W] of what is looked at, degrees Celsius; NaN where no body has such counts.

        counts = W * (e * t * object + (1 - e) * t * reflected + (1 - t) * air) + (1 - W) * window, each the counts of a black
        body of its temperature; e emissivity, t and W transmission of air and window.
        """
        t, w, e = self.transmission(), self.window_transmission, self.emissivity
        beside = w * ((1 - e) * t * self.signal(self.reflected) + (1 - t) * self.signal(self.air))
        beside += (1 - w) * self.signal(self.window)
        body = (counts.astype(np.float64) - beside) / (w * e * t) + self.o
        with np.errstate(all="ignore"):
            kelvin = self.b / np.log(self.r1 / (self.r2 * body) + self.f)
        return np.where((body > 0) & (kelvin > 0), kelvin - ZERO, np.nan).astype(np.float32)


class Radiometric(NamedTuple):
    """counts: uint16 [H, W] of the sensor."""

    counts: np.ndarray
    camera: Camera

    def celsius(self, emissivity: float | None = None, distance: float | None = None) -> np.ndarray:
        """Return degrees Celsius float32 [H, W]; what is given takes the place of what the camera was told."""
        given = {"emissivity": emissivity, "distance": distance}
        camera = replace(self.camera, **{name: value for name, value in given.items() if value is not None})
        return camera.to_celsius(self.counts)


def read_radiometric(data: bytes) -> Radiometric | None:
    """Return what a JPEG's FLIR segments hold, None of any file without one.

    Raises BadPicture where there are such segments, but no counts or constants can be read from them.
    """
    content = _join_segments(data)
    if not content:
        return None
    try:
        records = _read_directory(content)
        if not {RAW, CAMERA} <= records.keys():
            raise ValueError("no record of counts and of the camera's constants")
        return Radiometric(_read_counts(records[RAW]), _read_camera(records[CAMERA]))
    except (ValueError, struct.error) as error:
        raise BadPicture(
            f"radiometric: the sensor's counts are in FLIR's segment, and cannot be read ({error}); export 16-bit TIFF or "
            "CSV of temperatures by the camera's software"
        ) from None


def _join_segments(data: bytes) -> bytes:
    """Return the FLIR segments of a JPEG, one after the other by their number; empty without one."""
    found, place = dict[int, bytes](), 2
    while data[:2] == b"\xff\xd8" and place + 4 <= len(data) and data[place] == 0xFF and data[place + 1] != 0xDA:
        end = place + 2 + int.from_bytes(data[place + 2 : place + 4], "big")
        body = data[place + 4 : end]
        if data[place + 1] == 0xE1 and body.startswith(MARK) and len(body) > 8:
            found[body[6]] = body[8:]
        place = max(end, place + 4)
    return b"".join(found[number] for number in sorted(found))


def _read_directory(content: bytes) -> dict[int, bytes]:
    """Return the first record of each kind. Raises ValueError for content that is no FFF file."""
    if content[:4] != b"FFF\0":
        raise ValueError("no FFF file")
    order = next((mark for mark in "><" if 100 <= struct.unpack_from(f"{mark}I", content, 0x14)[0] < 200), "")
    if not order:
        raise ValueError("its header states no version")
    start, count = struct.unpack_from(f"{order}II", content, 0x18)
    records = dict[int, bytes]()
    for number in range(min(count, MOST_RECORDS)):
        kind, at, size = struct.unpack_from(f"{order}H10xII", content, start + 32 * number)
        if size and at + size <= len(content):
            records.setdefault(kind, content[at : at + size])
    return records


def _order_of(record: bytes) -> str:
    for mark in "<>":
        if struct.unpack_from(f"{mark}H", record)[0] == ORDER:
            return mark
    raise ValueError("a record states no order of bytes")


def _read_counts(record: bytes) -> np.ndarray:
    """Return uint16 [H, W]. Most cameras that keep a PNG wrote its bytes the wrong way round: the smoother reading counts."""
    order = _order_of(record)
    width, height = struct.unpack_from(f"{order}HH", record, 2)
    body = record[0x20:]
    if body.startswith(b"\x89PNG"):
        counts = open_any(body)
        if counts.ndim != 2 or counts.dtype != np.uint16:
            raise ValueError("its PNG is not of 16 bits")
        return min((counts.byteswap(), counts), key=roughness)
    if min(width, height) < 1 or len(body) < 2 * width * height:
        raise ValueError(f"{len(body)} bytes for {width} x {height} counts")
    return np.frombuffer(body, f"{order}u2", width * height).reshape(height, width).astype(np.uint16)


def _read_camera(record: bytes) -> Camera:
    """Return the constants. Raises ValueError where they cannot be any."""
    order = _order_of(record)

    def read(*places: int) -> list[float]:
        return [struct.unpack_from(f"{order}f", record, place)[0] for place in places]

    emissivity, distance, reflected, air, window, transmission, humidity = read(
        0x20, 0x24, 0x28, 0x2C, 0x30, 0x34, 0x3C
    )
    r1, b, f, r2 = read(0x58, 0x5C, 0x60, 0x30C)
    (o,) = struct.unpack_from(f"{order}i", record, 0x308)
    if not all(np.isfinite(value) and value > 0 for value in (r1, b, f, r2)):
        raise ValueError("its Planck constants are none")
    camera = Camera(r1, b, f, o, r2)
    # What the camera was not told stays as it usually is.
    if 0 < emissivity <= 1:
        camera = replace(camera, emissivity=emissivity)
    if 0 <= distance < 10_000:
        camera = replace(camera, distance=distance)
    told = {"reflected": reflected, "air": air, "window": window}
    camera = replace(camera, **{name: kelvin for name, kelvin in told.items() if 150 < kelvin < 1500})
    if 0 < transmission <= 1:
        camera = replace(camera, window_transmission=transmission)
    if 0 <= humidity <= 100:
        camera = replace(camera, humidity=humidity / 100 if humidity > 2 else humidity)
    attenuation = dict(
        zip(("alpha1", "alpha2", "beta1", "beta2", "x"), read(0x70, 0x74, 0x78, 0x7C, 0x80), strict=True)
    )
    return (
        replace(camera, **attenuation)
        if attenuation["x"] > 0 and all(map(np.isfinite, attenuation.values()))
        else camera
    )
