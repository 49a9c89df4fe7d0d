"""Pictures as bytes and back: JPEG 95 for what is seen, PNG for labels, 16-bit PNG in centikelvin for temperature."""

import io

import cv2
import numpy as np
from PIL import Image

from models.errors import UserError

MAX_PIXELS = 64_000_000
"""Larger pictures are refused from their header, before a decoder allocates anything."""


def encode_jpeg(rgb: np.ndarray) -> bytes:
    """Encode uint8 [H, W, 3] RGB at quality 95."""
    return bytes(cv2.imencode(".jpg", rgb[..., ::-1], (cv2.IMWRITE_JPEG_QUALITY, 95))[1])


def encode_png_rgb(rgb: np.ndarray) -> bytes:
    """Encode uint8 [H, W, 3] RGB losslessly."""
    return encode_png(rgb[..., ::-1])


def encode_png(values: np.ndarray) -> bytes:
    """Encode uint8 or uint16 [H, W] (or [H, W, 3] BGR) losslessly; level 1 is four times as fast as the default."""
    return bytes(cv2.imencode(".png", values, (cv2.IMWRITE_PNG_COMPRESSION, 1))[1])


def decode(data: bytes, max_pixels: int = MAX_PIXELS) -> np.ndarray:
    """Return uint8 [H, W, 3] RGB, or uint8 / uint16 [H, W] as stored. Raises UserError for what is no sane picture."""
    # The size, from the header alone.
    try:
        with Image.open(io.BytesIO(data)) as header:
            width, height = header.size
    except MemoryError:
        raise
    except Exception as error:  # damaged bytes lead a decoder anywhere
        raise UserError(f"not a picture: {error}") from None
    if width * height > max_pixels:
        raise UserError(f"picture of {width} x {height} pixels is over the limit of {max_pixels} pixels")
    # The pixels, colours in the order red, green, blue.
    values = _pixels(data)
    if values is None:
        raise UserError(f"picture of {width} x {height} pixels cannot be decoded (truncated?)")
    return np.ascontiguousarray(values[..., 2::-1]) if values.ndim == 3 else values


def _pixels(data: bytes) -> np.ndarray | None:
    """Return what OpenCV decodes, uint8, uint16 or float32 [H, W] or [H, W, C] BGR as stored; None where it cannot."""
    try:
        return cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error as error:
        if error.code == cv2.Error.StsNoMem:
            raise MemoryError(str(error)) from error
        return None
