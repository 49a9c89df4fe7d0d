"""What Pillow does not do for TIFF files by itself: floats of 64 bits, orders of bytes, and directories that are damaged."""

import contextlib
import ctypes
import logging
import struct
import warnings
from typing import Any

from PIL import Image, TiffImagePlugin

# Of a damaged file Pillow and libtiff tell the terminal in words of their own; what matters of it is a reason here.
warnings.filterwarnings("ignore", module=r"PIL\.")
logging.getLogger("PIL").setLevel(logging.CRITICAL)
with contextlib.suppress(AttributeError, OSError):  # where libtiff's own names are not to be found it goes on telling
    ctypes.CDLL(Image.core.__file__).TIFFSetErrorHandler(None)

TiffImagePlugin.OPEN_INFO.update(  # floats of 64 bits, which Pillow can decode and does not look for
    {
        (TiffImagePlugin.II, 1, (3,), 1, (64,), ()): ("F", "F;64F"),
        (TiffImagePlugin.MM, 1, (3,), 1, (64,), ()): ("F", "F;64BF"),
    }
)

OF_PIXELS = {
    256: "width", 257: "height", 258: "bits of a sample", 259: "compression", 262: "meaning of colours",
    266: "order of bits", 273: "places of strips", 274: "orientation", 277: "samples of a pixel", 278: "rows of a strip",
    279: "bytes of strips", 284: "order of planes", 317: "predictor", 320: "palette", 322: "width of tiles",
    323: "height of tiles", 324: "places of tiles", 325: "bytes of tiles", 338: "further samples", 339: "kind of numbers",
}  # fmt: skip
"""Tags by which pixels are read. Without one of them Pillow takes its default, and the picture shows other values."""


def find_damage(picture: Image.Image, data: bytes) -> str:
    """Return what of the directory of an opened TIFF's page cannot be read and decides on its pixels, "" for nothing."""
    # Two forms of a TIFF: the large one has longer counts, entries and addresses.
    directory: Any = picture.tag_v2  # type: ignore[attr-defined]
    order, large = "<" if data[:2] == b"II" else ">", 43 in data[2:4]
    form, first, step, address = ("Q", 8, 20, 8) if large else ("H", 2, 12, 4)
    # As many entries as the directory says, and behind them where the next page is.
    (count,) = struct.unpack_from(order + form, data, directory._offset)
    start = directory._offset + first
    if start + count * step + address > len(data):
        return "its directory of tags ends early"
    said = {struct.unpack_from(f"{order}H", data, start + k * step)[0] for k in range(count)}
    lost = sorted(tag for tag in said & OF_PIXELS.keys() if tag not in directory)
    return f"its {OF_PIXELS[lost[0]]} (tag {lost[0]}) cannot be read" if lost else ""


def mend_byte_order(picture: Image.Image) -> None:
    """Let a compressed TIFF be read in this machine's order of bytes, which libtiff gives; Pillow knows that of 16 bits alone."""
    tiles: list[Any] = picture.tile  # type: ignore[attr-defined]
    for number, tile in enumerate(tiles):
        mode, mark, order = tile.args[0].partition(";") if tile.codec_name == "libtiff" else ("", "", "")
        if mark:
            tiles[number] = tile._replace(args=(f"{mode};{order.replace('B', 'N')}", *tile.args[1:]))
