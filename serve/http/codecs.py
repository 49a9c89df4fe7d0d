"""Pictures from requests and into answers. Nothing is decoded whose header has not been looked at."""

import base64
import binascii
import io
import json
from contextlib import suppress
from typing import Any

import numpy as np
from fastapi import Response

from models.temperature import from_centikelvin
from pipelines.config.profile import Limits
from pipelines.pictures.codecs import encode_png, encode_png_rgb
from pipelines.pictures.open import BadPicture, open_photo
from pipelines.report.sheet import colour_degrees
from serve.http.answers import ThermalScale
from serve.http.content_negotiation import CENTIKELVIN, NPY, PNG
from serve.http.problems import ProblemError

SCALE = ThermalScale()
THERMAL_HEADERS = {
    "X-Thermal-Unit": SCALE.unit,
    "X-Thermal-Scale": str(SCALE.scale),
    "X-Thermal-Offset": str(SCALE.offset),
}
"""Of a 16-bit answer: degrees Celsius = value * scale + offset."""
BLANKS = {ord(letter): None for letter in " \t\r\n"}
"""What may stand between the letters of base64: `base64 FILE` writes lines, JSON by hand is wrapped."""


def from_base64(text: str, number: int) -> bytes:
    """Return the bytes of picture `number` of a request: a `data:` prefix is allowed, and lines of any length (RFC 2045)."""
    if text.startswith("data:"):
        text = text.partition(",")[2]
    # Most have no blanks, and to look for them takes longer than to decode.
    for letters in (lambda: text, lambda: text.translate(BLANKS)):
        with suppress(binascii.Error, ValueError):
            return base64.b64decode(letters(), validate=True)
    raise ProblemError("bad-picture", f"picture {number}: not base64", "Encode the file's bytes in base64.")


def open_picture(data: bytes, number: int, limits: Limits) -> np.ndarray:
    """Return picture `number` of a request upright as uint8 [H, W, 3] RGB.

    Raises:
        ProblemError: it has too many pixels, by its header, or is not taken; the message says why.
    """
    try:
        return open_photo(data, max_pixels=max_pixels(limits))
    except BadPicture as error:
        raise picture_problem(error, number) from None


def max_pixels(limits: Limits) -> int:
    """Return how many pixels one picture may have."""
    return int(limits.megapixels * 10**6)


def picture_problem(error: BadPicture, number: int) -> ProblemError:
    """Return why picture `number` of a request is not taken."""
    kind = "too-many-pixels" if "too large" in str(error) else "bad-picture"
    return ProblemError(kind, f"picture {number}: {error}", "Send another picture, or the same one converted.")


def json_response(answer: dict[str, Any]) -> Response:
    """Return `answer` as JSON: bytes in base64, arrays as lists, NaN as null."""
    try:
        text = json.dumps(answer, allow_nan=False, default=_convert)
    except ValueError:  # a NaN is in it: everything has to be looked at
        text = json.dumps(_plain(answer), allow_nan=False)
    return Response(text, media_type="application/json")


def png_response(rgb: np.ndarray) -> Response:
    """Return uint8 [H, W, 3] RGB as a PNG."""
    return Response(encode_png_rgb(rgb), media_type=str(PNG))


def false_colour_response(counts: np.ndarray) -> Response:
    """Return uint16 [H, W] centikelvin as a coloured PNG to look at, its range in the headers. It holds no temperatures."""
    # The palette spans the picture's own range, at least one degree of it.
    celsius = from_centikelvin(counts)
    low, high = (float(value) for value in (np.nanmin(celsius), np.nanmax(celsius)))
    result = png_response(colour_degrees(celsius, (low, max(high, low + 1))))
    result.headers.update({"X-Colours-From": f"{low:.2f} degC", "X-Colours-To": f"{max(high, low + 1):.2f} degC"})
    return result


def centikelvin_response(counts: np.ndarray) -> Response:
    """Return uint16 [H, W] centikelvin as a 16-bit PNG with unit and scale in the headers."""
    return Response(encode_png(counts), media_type=str(CENTIKELVIN), headers=THERMAL_HEADERS)


def npy_response(values: np.ndarray, **headers: str) -> Response:
    """Return `values` as an NPY file."""
    sink = io.BytesIO()
    np.save(sink, values, allow_pickle=False)
    return Response(sink.getvalue(), media_type=str(NPY), headers=headers)


def _plain(value: Any) -> Any:
    """Return `value` as JSON holds it, at any depth, with None for NaN."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, bytes | np.ndarray | np.generic):
        return _plain(_convert(value))
    return None if isinstance(value, float) and value != value else value


def _convert(value: Any) -> Any:
    """Return bytes in base64, and arrays and their values as Python's; what is in them is not looked at."""
    return base64.b64encode(value).decode() if isinstance(value, bytes) else value.tolist()
