"""Pictures from anywhere, opened with care: looked at before they are decoded, and refused with a reason."""

import io
from pathlib import PurePath

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from models.classes import BACKGROUND, CLASSES, IGNORE
from pipelines.pictures.codecs import MAX_PIXELS
from pipelines.pictures.tiff import find_damage, mend_byte_order

FORMATS = {
    ".jpg": ("JPEG", "MPO"),
    ".jpeg": ("JPEG", "MPO"),
    ".png": ("PNG",),
    ".webp": ("WEBP",),
    ".bmp": ("BMP",),
    ".gif": ("GIF",),
    ".tif": ("TIFF",),
    ".tiff": ("TIFF",),
}
"""Extensions that are looked at, and what their content may be (cameras put MPO, a JPEG with previews, into .jpg)."""

UNREAD = (".heic", ".heif", ".hif", ".avif")
"""Extensions of pictures that are listed so that each is said to be left out: nothing here reads them."""
HEIF = (b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"mif1", b"msf1", b"avif", b"avis")
"""Brands that such a file's `ftyp` box begins with."""

READERS = ["JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF"]
"""Nothing else is even tried: Pillow knows formats that few people need and that parse hostile bytes."""

DEEP = ("I;16", "I;16L", "I;16B", "I;16N", "I", "F")
"""Pillow's modes of grey in 16 bits without a sign, in signed or 32-bit whole numbers, and in floats."""

ORIENTATION, UPRIGHT, GPS = 0x0112, 1, 0x8825
"""EXIF's tags of how a picture is to be turned and of where it was taken, and the value that says not at all."""

MAX_BYTES = 200 * 2**20
MAX_PAGES = 64
"""Of one file; all of them together may have as many pixels as one picture."""
MAX_SIDE = 16_384


class BadPicture(ValueError):
    """A picture that is not taken; the message is its reason, beginning with the kind and a colon."""


def open_photo(data: bytes, name: str | None = None, max_pixels: int = MAX_PIXELS) -> np.ndarray:
    """Return the picture in `data` upright as uint8 [H, W, 3] RGB; `name` is its file name, if it has one.

    Only the header is read before size, colours, depth and frames are known to be acceptable.

    Raises:
        BadPicture: empty, not a picture, wrong extension, too large, several frames, CMYK, 16-bit, truncated.
    """
    return np.array(_open(data, name, max_pixels, deep=False)[0].convert("RGB"))


def open_pages(data: bytes, name: str | None = None, max_pixels: int = MAX_PIXELS) -> list[np.ndarray]:
    """Return the pages of a TIFF file as `open_photo` returns a picture; any other file has one.

    Raises BadPicture as `open_photo` does, and for over `MAX_PAGES` pages or `max_pixels` pixels of all pages.
    """
    pages = _open(data, name, max_pixels, deep=False, pages=MAX_PAGES)
    return [np.array(page.convert("RGB")) for page in pages]


def open_any(data: bytes, name: str | None = None, max_pixels: int = MAX_PIXELS) -> np.ndarray:
    """Return the picture in `data` upright: uint8 [H, W, 3] RGB, or uint8, uint16, int16, int32 or float32 [H, W] where it
    is grey.

    What is grey keeps the values that are stored; all else is as `open_photo` has it.

    Raises:
        BadPicture: what `open_photo` refuses, but for grey of more than 8 bits.
    """
    return _stored_values(_open(data, name, max_pixels, deep=True)[0])


def open_any_pages(
    data: bytes, name: str | None = None, max_pixels: int = MAX_PIXELS, pages: int = MAX_PAGES
) -> list[np.ndarray]:
    """Return the pages of a TIFF file, at most `pages`, as `open_any` returns a picture; any other file has one."""
    return [_stored_values(page) for page in _open(data, name, max_pixels, deep=True, pages=pages)]


def _stored_values(picture: Image.Image) -> np.ndarray:
    """Return an opened picture as `open_any` does."""
    if picture.mode in ("1", "L"):
        return np.array(picture.convert("L"))
    if picture.mode not in DEEP:
        return np.array(picture.convert("RGB"))
    values = np.array(picture)
    if picture.mode == "I":  # of 16 bits where all of them fit, for Pillow keeps both in 32
        ends = np.iinfo(np.int16)
        return values.astype(np.int16) if ends.min <= values.min() and values.max() <= ends.max else values
    return values.astype(np.float32 if picture.mode == "F" else np.uint16)


def open_mask(data: bytes, name: str | None = None) -> np.ndarray:
    """Return a mask as `open_any` returns a picture, of one with a palette the indices into it, uint8 [H, W].

    A palette only colours what a mask says. Raises BadPicture for what `open_any` refuses.
    """
    picture = _open(data, name, MAX_PIXELS, deep=True)[0]
    return np.array(picture) if picture.mode == "P" else _stored_values(picture)


def open_classes(data: bytes, shape: tuple[int, ...]) -> np.ndarray:
    """Return class ids uint8 of a mask. Raises BadPicture for one of another size, and for classes that do not exist."""
    # One class id a pixel, of a picture of the right size.
    try:
        ids = open_mask(data)
    except BadPicture as error:
        raise BadPicture(f"mask: {error}") from None
    if ids.ndim != 2 or ids.dtype != np.uint8:
        raise BadPicture("mask: it must hold one 8-bit class id a pixel")
    if ids.shape != shape:
        raise BadPicture(f"mask: {ids.shape[1]} x {ids.shape[0]} px beside a picture of {shape[1]} x {shape[0]} px")
    # What is to be ignored counts as background; all others must exist.
    ids = np.where(ids == IGNORE, BACKGROUND, ids).astype(np.uint8)
    if ids.max() >= len(CLASSES):
        raise BadPicture(f"mask: class {ids.max()} is unknown; there are 0 to {len(CLASSES) - 1}, and {IGNORE}")
    return ids


def keep_bytes(data: bytes, side: int) -> bytes | None:
    """Return `data` where the picture in it can be stored as it came, else None: then it is to be encoded anew.

    It can if it is a JPEG or PNG of 8-bit RGB, `side` x `side` pixels, stored upright, and does not say where it was taken.
    Nothing is checked anew: `data` is of a picture that `open_photo` took.
    """
    with Image.open(io.BytesIO(data), formats=READERS) as picture:
        fits = picture.format in ("JPEG", "PNG") and picture.size == (side, side)  # MPO hides further pictures
        plain = picture.mode == "RGB" and _depth(picture, data) == 8
        return data if fits and plain and not _says_more(picture) else None


def _says_more(picture: Image.Image) -> bool:
    """Whether a JPEG or PNG is to be turned, or holds coordinates: EXIF's GPS block, or XMP's names for what is in it."""
    if picture.format == "PNG":
        picture.load()  # its EXIF and XMP may lie behind the pixels
    exif = picture.getexif()
    segments = [body for _, body in getattr(picture, "applist", ())]
    texts = [value.encode() for value in picture.info.values() if isinstance(value, str)]
    coordinates = GPS in exif or any(b"GPS" in content for content in segments + texts)
    return coordinates or exif.get(ORIENTATION, UPRIGHT) != UPRIGHT


def _open(data: bytes, name: str | None, max_pixels: int, deep: bool, pages: int = 1) -> list[Image.Image]:
    """Return the pictures in `data`, decoded and upright.

    deep: grey of more than 8 bits is taken. pages: how many a TIFF may have. Raises BadPicture.
    """
    # What can be said without a look inside.
    if not data:
        raise BadPicture("empty: the file has no bytes")
    wanted = None if name is None else FORMATS.get(PurePath(name).suffix.lower(), ())
    if len(data) > MAX_BYTES:
        raise BadPicture(f"too large: {len(data)} bytes; the limit is {MAX_BYTES}")
    try:
        with Image.open(io.BytesIO(data), formats=READERS) as picture:
            count = _count_pages(picture, pages)
            # Every header, and the pixels only if all are fine.
            left = max_pixels
            for page in range(count):
                if count > 1:
                    picture.seek(page)
                _check(picture, data, wanted, left)
                _check_depth(picture, data, deep)
                left -= picture.size[0] * picture.size[1]
            return [_decode(picture, page if count > 1 else None) for page in range(count)]
    except (BadPicture, MemoryError):
        raise
    except Image.DecompressionBombError:  # Pillow's own limit is far above ours
        raise BadPicture(f"too large: over {Image.MAX_IMAGE_PIXELS} pixels; the limit is {max_pixels}") from None
    except UnidentifiedImageError:
        if data[4:8] == b"ftyp" and data[8:12] in HEIF:
            raise BadPicture(
                "HEIC: no library here reads it; convert it to JPEG or PNG, as with heif-convert or ImageMagick, or set the "
                "phone to take the most compatible format"
            ) from None
        raise BadPicture(f"not a picture: none of {', '.join(READERS)}") from None
    except Exception as error:  # damaged bytes lead a decoder anywhere
        raise BadPicture(f"not a picture: {_first_line(error)}") from None


def _count_pages(picture: Image.Image, most: int) -> int:
    """Return how many pictures a file holds. Raises BadPicture for over `most`, and for an animation."""
    count = 1 if picture.format == "MPO" else int(getattr(picture, "n_frames", 1))  # MPO's others are previews
    if count > 1 and (most == 1 or picture.format != "TIFF"):
        raise BadPicture(f"animated: {count} frames; save the one you mean")
    if count > most:
        raise BadPicture(f"too many pages: {count}; the limit is {most}, so split the file")
    return count


def _check(picture: Image.Image, data: bytes, wanted: tuple[str, ...] | None, max_pixels: int) -> None:
    """Refuse what the header already shows."""
    width, height = picture.size
    if max(width, height) > MAX_SIDE or width * height > max_pixels:
        raise BadPicture(
            f"too large: {width} x {height} px; the limits are {MAX_SIDE} px a side and {max_pixels / 10**6:g} megapixels"
        )
    if wanted is not None and picture.format not in wanted:
        raise BadPicture(f"wrong extension: the content is {picture.format}; rename the file")
    if picture.format == "TIFF" and (damage := find_damage(picture, data)):
        raise BadPicture(f"damaged: {damage}")
    if picture.mode == "CMYK":
        raise BadPicture("CMYK: printing colours; convert it to RGB")


def _check_depth(picture: Image.Image, data: bytes, deep: bool) -> None:
    """Refuse more than 8 bits a channel, unless deep grey is taken and the picture is that."""
    if _depth(picture, data) <= 8 or (deep and picture.mode in DEEP):
        return
    also = ", or to 16-bit grey" if deep else ""
    raise BadPicture(f"16-bit: more than 8 bits a channel; convert it to 8-bit RGB{also}")


def _depth(picture: Image.Image, data: bytes) -> int:
    """Return the bits of a channel as stored; Pillow opens 16-bit RGB as if it had 8."""
    if picture.mode[0] in "IF":
        return 16
    if picture.format == "PNG":
        return data[24]  # IHDR: signature 8, length 4, type 4, width 4, height 4, then the bit depth
    if picture.format == "TIFF":
        bits = picture.tag_v2.get(258, (8,))  # type: ignore[attr-defined]
        return max(bits) if isinstance(bits, tuple) else int(bits)
    return 8


def _decode(picture: Image.Image, page: int | None) -> Image.Image:
    """Return the picture upright, its `page` where it has several. Raises BadPicture for one that ends too early."""
    try:
        if page is not None:
            picture.seek(page)
        if picture.format == "TIFF":
            mend_byte_order(picture)
        picture.load()
    except MemoryError:
        raise
    except Exception as error:
        raise BadPicture(f"truncated: {_first_line(error)}") from None
    upright = ImageOps.exif_transpose(picture) or picture
    return upright.copy() if page is not None else upright  # the next page takes the place of this one


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:200]
