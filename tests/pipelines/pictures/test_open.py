"""Every way in which a picture can be wrong has its own reason, found before anything large is decoded."""

import io
import struct
import tracemalloc
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from pipelines.pictures.codecs import decode
from pipelines.pictures.open import (
    BadPicture,
    keep_bytes,
    open_any,
    open_any_pages,
    open_classes,
    open_pages,
    open_photo,
)
from tests.pipelines.pictures.thermal_files import tiff


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


def test_pages_of_a_tiff_are_pictures_within_the_limits_of_one() -> None:
    pages = open_pages(animation("TIFF"), "a.tif")
    assert [page[0, 0].tolist() for page in pages] == [[255, 0, 0], [0, 128, 0], [0, 0, 255]]
    assert all(page.shape == (40, 40, 3) for page in pages)
    with pytest.raises(BadPicture, match="too large: 40 x 40 px"):
        open_pages(animation("TIFF"), "a.tif", max_pixels=2 * 1600)
    with pytest.raises(BadPicture, match="animated: 3 frames"):
        open_pages(animation("GIF"), "a.gif")
    with pytest.raises(BadPicture, match="not a picture|truncated"):
        open_pages(torn_tiff(), "a.tif")
    cut = animation("TIFF")
    with pytest.raises(BadPicture):
        open_pages(cut[:200] + bytes(len(cut) - 200), "a.tif")
    assert len(open_pages(encoded("PNG"), "a.png")) == 1


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


@pytest.mark.parametrize("name", HOSTILE)
def test_the_opener_of_any_picture_takes_of_these_deep_grey_alone(name: str) -> None:
    data, file, reason = HOSTILE[name]
    if name in ("16-bit grey", "float tiff"):
        assert open_any(data, file).dtype == (np.float32 if "float" in name else np.uint16)
        return
    with pytest.raises(BadPicture) as caught:
        open_any(data, file)
    assert str(caught.value).startswith(f"{reason}:")


@pytest.mark.parametrize("opener", [open_photo, open_any])
@pytest.mark.parametrize("depth", [8, 16])
def test_a_large_header_allocates_nothing(opener: Callable[..., np.ndarray], depth: int) -> None:
    tracemalloc.start()
    for sides in ((60_000, 50_000), (60_000, 10), (9_000, 9_000)):
        with pytest.raises(BadPicture, match="too large"):
            opener(png(*sides, depth, 0), "a.png")
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


TURNS: dict[int, Callable[[np.ndarray], np.ndarray]] = {
    1: lambda stored: stored,
    2: lambda stored: stored[:, ::-1],
    3: lambda stored: stored[::-1, ::-1],
    4: lambda stored: stored[::-1],
    5: lambda stored: stored.swapaxes(0, 1),
    6: lambda stored: np.rot90(stored, -1),
    7: lambda stored: stored.swapaxes(0, 1)[::-1, ::-1],
    8: lambda stored: np.rot90(stored),
}
"""What EXIF's orientations ask for: where the stored first row and column belong."""


def stored(dtype: str, colours: bool) -> np.ndarray:
    """Fields of 16 px in values of their own [32, 48] (or [32, 48, 3]): no turn of it looks like another."""
    fields = np.arange(6).reshape(2, 3)[..., None] * 40 + np.array([0, 15, 30] if colours else [0])
    values = np.repeat(np.repeat(fields, 16, axis=0), 16, axis=1) * (1 if dtype == "uint8" else 97)
    return (values if colours else values[..., 0]).astype(dtype)


def turned(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[274] = orientation
    return exif


def tagged(values: np.ndarray, kind: str, orientation: int, **options: Any) -> bytes:
    """A picture with an orientation tag, where its kind has it."""
    buffer = io.BytesIO()
    where = {"tiffinfo": {274: orientation}} if kind == "TIFF" else {"exif": turned(orientation)}
    Image.fromarray(values).save(buffer, kind, **where, **options)
    return buffer.getvalue()


@pytest.mark.parametrize("orientation", TURNS)
@pytest.mark.parametrize(
    ("kind", "dtype", "colours", "options"),
    [
        ("JPEG", "uint8", True, {"quality": 95, "subsampling": 0}),
        ("JPEG", "uint8", False, {"quality": 95}),
        ("PNG", "uint8", True, {}),
        ("PNG", "uint8", False, {}),
        ("PNG", "uint16", False, {}),
        ("WEBP", "uint8", True, {"lossless": True}),
        ("TIFF", "uint8", True, {}),
        ("TIFF", "uint8", False, {"compression": "tiff_deflate"}),
        ("TIFF", "uint16", False, {}),
        ("TIFF", "uint16", False, {"compression": "tiff_lzw"}),
        ("TIFF", ">u2", False, {}),
        ("TIFF", "float32", False, {}),
        ("TIFF", "float32", False, {"compression": "tiff_deflate"}),
    ],
)
def test_pictures_of_every_orientation_are_opened_upright(
    kind: str, dtype: str, colours: bool, options: dict[str, Any], orientation: int
) -> None:
    values = stored(dtype, colours)
    data, name = tagged(values, kind, orientation, **options), f"a.{kind.lower()}"
    found, upright = open_any(data, name), TURNS[orientation](values)
    assert found.dtype == np.dtype(dtype).newbyteorder("=") and found.shape == upright.shape
    np.testing.assert_allclose(found, upright, atol=8 if kind == "JPEG" else 0)
    if dtype == "uint8":
        as_photo = open_photo(data, name)
        assert np.array_equal(as_photo, found if colours else np.repeat(found[..., None], 3, axis=2))
        if not colours and kind != "JPEG":
            assert np.array_equal(open_classes(tagged(values // 15, kind, orientation, **options), upright.shape),
                                  upright // 15)  # fmt: skip


def test_deep_grey_keeps_its_values() -> None:
    counts = np.random.default_rng(0).integers(0, 2**16, (20, 30), dtype=np.uint16)
    celsius = counts.astype(np.float32) / 1000
    celsius[3, 4] = np.nan
    wide = counts.astype(np.int32) * 7 - 900
    for values, kind in ((counts, "PNG"), (counts, "TIFF"), (celsius, "TIFF"), (wide, "TIFF")):
        np.testing.assert_array_equal(open_any(tagged(values, kind, 1)), values)


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("kind", ["i2", "i4", "f4", "f8"])
@pytest.mark.parametrize("packed", [False, True])
def test_tiffs_of_signed_numbers_and_floats_keep_their_values_on_every_page(
    kind: str, order: str, packed: bool
) -> None:
    values = (np.random.default_rng(0).normal(0, 900, (3, 20, 30))).astype(order + kind)
    file = tiff(values, order, packed)
    found = open_any_pages(file, "a.tiff")
    assert len(found) == 3 and found[0].dtype == {"i": np.int16, "f": np.float32}[kind[0]]
    np.testing.assert_allclose(np.stack(found), values.astype(np.float64), rtol=1e-6)
    with pytest.raises(BadPicture, match="too many pages: 3"):
        open_any_pages(file, "a.tiff", pages=2)
    with pytest.raises(BadPicture, match="convert it to 8-bit RGB, or to 16-bit grey"):
        open_any(png(8, 8, 16, 2, b"\0" * (49 * 8)))


def square(kind: str, mode: str = "RGB", side: int = 48, **options: object) -> bytes:
    return encoded(kind, mode, (side, side), **options)


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_bytes_that_fit_are_kept(kind: str) -> None:
    camera = Image.Exif()
    camera[271] = "a camera's maker"
    for data in (square(kind), square(kind, exif=turned(1)), square(kind, exif=camera), square(kind, icc_profile=b"x")):
        assert keep_bytes(data, 48) is data
        np.testing.assert_allclose(decode(data).astype(int), open_photo(data).astype(int), atol=2)


def gps() -> Image.Exif:
    exif = turned(1)
    exif.get_ifd(0x8825)[1] = "N"
    return exif


XMP = b"<x:xmpmeta xmlns:x='adobe:ns:meta/'><rdf:Description exif:GPSLatitude='52,31N'/></x:xmpmeta>"


def png_text(text: str) -> PngImagePlugin.PngInfo:
    info = PngImagePlugin.PngInfo()
    info.add_itxt("XML:com.adobe.xmp", text)
    return info


def behind_the_pixels(data: bytes, text: str) -> bytes:
    """A PNG with XMP after its pixels, where readers of headers do not look."""
    content = b"XML:com.adobe.xmp\0\0\0\0\0" + text.encode()
    chunk = struct.pack(">I", len(content)) + b"iTXt" + content + struct.pack(">I", zlib.crc32(b"iTXt" + content))
    return data[:-12] + chunk + data[-12:]  # before IEND


@pytest.mark.parametrize(
    "data",
    [
        behind_the_pixels(square("PNG", exif=turned(1)), XMP.decode()),
        square("PNG", side=47),
        encoded("PNG", size=(48, 47)),
        *(square("PNG", mode) for mode in ("L", "P", "RGBA", "1", "LA")),
        *(square("JPEG", mode) for mode in ("L",)),
        *(square(kind) for kind in ("WEBP", "BMP", "TIFF")),
        *(square(kind, exif=turned(orientation)) for kind in ("JPEG", "PNG") for orientation in (3, 6)),
        *(square(kind, exif=gps()) for kind in ("JPEG", "PNG")),
        square("JPEG", xmp=XMP),
        square("PNG", pnginfo=png_text(XMP.decode())),
        square("PNG", pnginfo=png_text('<x:xmpmeta><rdf:Description tiff:Orientation="6"/></x:xmpmeta>')),
    ],
)
def test_bytes_that_do_not_fit_are_not_kept(data: bytes) -> None:
    open_photo(data)  # it is a picture that is taken
    assert keep_bytes(data, 48) is None
