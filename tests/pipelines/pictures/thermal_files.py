"""Files of thermal cameras, made by hand: TIFFs of any numbers, and FLIR's radiometric JPEG."""

import io
import struct
import zlib

import numpy as np
from PIL import Image

from pipelines.pictures.codecs import encode_png


def tiff(pages: np.ndarray, order: str = "<", packed: bool = False) -> bytes:
    """Return a TIFF of grey pages [N, H, W] of any kind of numbers, their bytes in `order`, maybe deflated."""
    content = bytearray((b"II*\0" if order == "<" else b"MM\0*") + struct.pack(f"{order}I", 8))
    count, height, width = pages.shape
    kind = {"u": 1, "i": 2, "f": 3}[pages.dtype.kind]
    for number, page in enumerate(pages):
        data = page.astype(page.dtype.newbyteorder(order)).tobytes()
        data = zlib.compress(data) if packed else data
        tags = [(256, width), (257, height), (258, 8 * pages.dtype.itemsize), (259, 8 if packed else 1), (262, 1),
                (273, len(content) + 2 + 11 * 12 + 4), (277, 1), (278, height), (279, len(data)), (339, kind),
                (296, 1)]  # fmt: skip
        content += struct.pack(f"{order}H", len(tags))
        for tag, value in sorted(tags):
            content += struct.pack(f"{order}HHII", tag, 4, 1, value)
        after = len(content) + 4 + len(data)
        content += struct.pack(f"{order}I", after if number + 1 < count else 0) + data
    return bytes(content)


def radiometric_jpeg(
    counts: np.ndarray, constants: dict[int, float], offset: int, *, packed: bool = True, swapped: bool = True,
    segment: int = 60_000,
) -> bytes:  # fmt: skip
    """Return FLIR's radiometric JPEG of counts uint16 [H, W].

    constants: floats of the camera's record by their place. offset: the Planck constant O. packed: the counts as a PNG, its
    bytes `swapped`. segment: bytes of content of an APP1 segment.
    """
    # The records.
    height, width = counts.shape
    raw = encode_png(counts.byteswap() if swapped else counts) if packed else counts.astype("<u2").tobytes()
    raw = struct.pack("<HHH26x", 2, width, height) + raw
    camera = bytearray(0x400)
    struct.pack_into("<H", camera, 0, 2)
    for place, value in constants.items():
        struct.pack_into("<f", camera, place, value)
    struct.pack_into("<i", camera, 0x308, offset)
    # Their directory, behind a header in the other order of bytes.
    start = 64 + 2 * 32
    entries = [(0x01, start, len(raw)), (0x20, start + len(raw), len(camera))]
    content = b"FFF\0".ljust(0x14, b"\0") + struct.pack(">III", 101, 64, len(entries))
    content = content.ljust(64, b"\0")
    content += b"".join(struct.pack(">H10xII12x", kind, place, size) for kind, place, size in entries)
    content += raw + bytes(camera)
    # As segments of a JPEG in colours.
    parts = [content[k : k + segment] for k in range(0, len(content), segment)]
    segments = b""
    for number, part in enumerate(parts):
        body = b"FLIR\0\x01" + bytes([number, len(parts) - 1]) + part
        segments += b"\xff\xe1" + struct.pack(">H", len(body) + 2) + body
    shown = io.BytesIO()
    levels = (np.clip((counts - counts.min()) / max(int(np.ptp(counts)), 1), 0, 1) * 255).astype(np.uint8)
    Image.fromarray(np.stack([levels, levels // 2, 255 - levels], axis=-1)).save(shown, "JPEG")
    return shown.getvalue()[:2] + segments + shown.getvalue()[2:]
