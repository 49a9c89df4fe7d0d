"""Every way in which a picture can be wrong has its own reason, found before anything large is decoded."""

import io
import struct
import tracemalloc
import zlib

import numpy as np
import pytest
from PIL import Image

from pipelines.pictures.open import BadPicture, open_photo


def encoded(kind: str, mode: str = "RGB", size: tuple[int, int] = (64, 48), **options: object) -> bytes:
    values = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(values).convert(mode).save(buffer, kind, **options)
    return buffer.getvalue()


def png(width: int, height: int, depth: int, colours: int, data: bytes = b"") -> bytes:
    """A PNG with the given header, whatever its data."""

    def chunk(name: bytes, content: bytes) -> bytes:
        checksum = zlib.crc32(name + content)
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", checksum)

    header = struct.pack(">IIBBBBB", width, height, depth, colours, 0, 0, 0)
    parts = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(data)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + parts


def animation(kind: str) -> bytes:
    frames = [Image.new("RGB", (40, 40), colour) for colour in ("red", "green", "blue")]
    buffer = io.BytesIO()
    frames[0].save(buffer, kind, save_all=True, append_images=frames[1:])
    return buffer.getvalue()


def torn_tiff() -> bytes:
    """A TIFF whose first page announces a second one, which has no size."""
    data = encoded("TIFF", size=(8, 6))
    end = 10 + 12 * struct.unpack_from("<H", data, 8)[0]
    return data[:end] + struct.pack("<I", len(data)) + data[end + 4 :] + bytes(6)


HOSTILE = {
    "empty": (b"", "a.jpg", "empty"),
    "text": (b"hello, I am a picture", "a.jpg", "not a picture"),
    "svg": (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "a.png", "not a picture"),
    "truncated jpeg": (encoded("JPEG")[:700], "a.jpg", "truncated"),
    "truncated png": (encoded("PNG")[:3000], "a.png", "truncated"),
    "header alone": (encoded("JPEG")[:20], "a.jpg", "not a picture"),
    "60,000 px wide": (png(60_000, 10, 8, 2), "a.png", "too large"),
    "bomb": (png(16_000, 16_000, 8, 2), "a.png", "too large"),
    "cmyk": (encoded("JPEG", "CMYK"), "a.jpg", "CMYK"),
    "16-bit grey": (png(8, 8, 16, 0, b"\0" * (17 * 8)), "a.png", "16-bit"),
    "16-bit colour": (png(8, 8, 16, 2, b"\0" * (49 * 8)), "a.png", "16-bit"),
    "float tiff": (encoded("TIFF", "F"), "a.tiff", "16-bit"),
    "animated gif": (animation("GIF"), "a.gif", "animated"),
    "animated webp": (animation("WEBP"), "a.webp", "animated"),
    "animated png": (animation("PNG"), "a.png", "animated"),
    "torn tiff": (torn_tiff(), "a.tif", "not a picture"),
    "many pages": (animation("TIFF"), "a.tif", "animated"),
    "png called jpg": (encoded("PNG"), "a.jpg", "wrong extension"),
    "jpeg called png": (encoded("JPEG"), "a.png", "wrong extension"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_pictures_are_refused_by_name(name: str) -> None:
    data, file, reason = HOSTILE[name]
    with pytest.raises(BadPicture) as caught:
        open_photo(data, file)
    assert str(caught.value).startswith(f"{reason}:")


def test_a_large_header_allocates_nothing() -> None:
    tracemalloc.start()
    with pytest.raises(BadPicture, match="too large"):
        open_photo(png(60_000, 50_000, 8, 2), "a.png")
    assert tracemalloc.get_traced_memory()[1] < 5 * 2**20
    tracemalloc.stop()


@pytest.mark.parametrize(
    ("kind", "mode", "file"),
    [
        ("JPEG", "RGB", "a.JPG"),
        ("JPEG", "L", "a.jpeg"),
        ("PNG", "RGBA", "a.png"),
        ("PNG", "P", "a.png"),
        ("PNG", "1", "a.png"),
        ("WEBP", "RGB", "a.webp"),
        ("BMP", "RGB", "a.bmp"),
        ("TIFF", "RGB", "a.tif"),
    ],
)
def test_ordinary_pictures_open(kind: str, mode: str, file: str) -> None:
    picture = open_photo(encoded(kind, mode), file)
    assert picture.shape == (48, 64, 3)
    assert picture.dtype == np.uint8


def test_a_turned_photograph_is_opened_upright() -> None:
    exif = Image.Exif()
    exif[274] = 6  # the camera was held on its side
    assert open_photo(encoded("JPEG", exif=exif), "a.jpg").shape == (64, 48, 3)
