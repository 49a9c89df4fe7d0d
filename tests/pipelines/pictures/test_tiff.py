"""TIFFs whose directory of tags is damaged: never read as other values, and told once, by the reader's own reason."""

import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from models.weights.store import ROOT
from pipelines.pictures.open import BadPicture, open_any
from tests.pipelines.pictures.test_open import encoded
from tests.pipelines.pictures.thermal_files import tiff

COUNTS = np.arange(-40, 40, dtype=np.int16).reshape(8, 10)
PIXELS = COUNTS.tobytes()
ENTRIES = 11
SIGNED = 339
"""The tag that says that numbers have a sign, the last of the directory."""


def behind() -> bytes:
    """A TIFF of `COUNTS` whose directory lies behind the pixels, as many programs write it."""
    whole = tiff(COUNTS[None])
    directory = bytearray(whole[8 : len(whole) - len(PIXELS)])
    place = 2 + 12 * [tag for tag, _ in tags(directory)].index(273)
    struct.pack_into("<I", directory, place + 8, 8)
    return b"II*\0" + struct.pack("<I", 8 + len(PIXELS)) + PIXELS + bytes(directory)


def tags(directory: bytes) -> list[tuple[int, int]]:
    """Return (tag, place of its entry) of a directory."""
    return [(struct.unpack_from("<H", directory, 2 + 12 * k)[0], 2 + 12 * k) for k in range(ENTRIES)]


def with_count(data: bytes, tag: int, count: int) -> bytes:
    """Return a TIFF of `behind` where `tag` says that it has `count` values, which lie elsewhere."""
    changed, start = bytearray(data), 8 + len(PIXELS)
    struct.pack_into("<I", changed, start + dict(tags(data[start:]))[tag] + 4, count)
    return bytes(changed)


def test_a_directory_that_is_cut_is_no_picture_of_other_values() -> None:
    np.testing.assert_array_equal(open_any(behind(), "a.tif"), COUNTS)
    assert dict(tags(behind()[8 + len(PIXELS) :]))[SIGNED] == 2 + 12 * (ENTRIES - 1)
    # Without their last tag the numbers would be read as if they had no sign.
    for cut in (1, 4, 5, 16, 17, 60):
        with pytest.raises(BadPicture, match="^damaged: its directory of tags ends early$"):
            open_any(behind()[:-cut], "a.tif")


@pytest.mark.parametrize(("order", "large"), [("<", False), (">", False), ("<", True)])
def test_a_tag_of_pixels_that_cannot_be_read_is_named(order: str, large: bool) -> None:
    def entry(tag: int, count: int, value: int) -> bytes:
        return struct.pack(f"{order}HHQQ" if large else f"{order}HHII", tag, 16 if large else 4, count, value)

    def file(signed: int) -> bytes:
        listed = [
            (256, 10),
            (257, 8),
            (258, 16),
            (259, 1),
            (262, 1),
            (273, 16 if large else 8),
            (277, 1),
            (278, 8),
            (279, 160),
        ]
        directory = b"".join(entry(tag, 1, value) for tag, value in listed) + entry(SIGNED, signed, 2)
        mark, start = (b"II", b"MM")[order == ">"], (16 if large else 8) + len(PIXELS)
        header = struct.pack(f"{order}HHHQ", 43, 8, 0, start) if large else struct.pack(f"{order}HI", 42, start)
        count = struct.pack(f"{order}Q" if large else f"{order}H", len(listed) + 1)
        pixels = COUNTS.astype(f"{order}i2").tobytes()
        return mark + header + pixels + count + directory + bytes(8)

    np.testing.assert_array_equal(open_any(file(1), "a.tif"), COUNTS)
    with pytest.raises(BadPicture, match=r"^damaged: its kind of numbers \(tag 339\) cannot be read$"):
        open_any(file(10**6), "a.tif")


def test_a_tag_that_decides_on_no_pixel_may_be_lost() -> None:
    np.testing.assert_array_equal(open_any(with_count(behind(), 296, 10**6), "a.tif"), COUNTS)


SCRIPT = """
import sys
from pathlib import Path
from pipelines.pictures.open import BadPicture, open_any
for path in sorted(Path(sys.argv[1]).iterdir()):
    try:
        open_any(path.read_bytes(), path.name)
    except BadPicture as error:
        print(f"{path.name}: {error}")
"""


def test_nobody_but_the_reader_says_what_is_wrong(tmp_path: Path) -> None:
    """Pillow would warn or log of the first four, and libtiff write of the last into the terminal."""
    packed = encoded("TIFF", size=(16, 12), compression="tiff_lzw")
    strip = len(packed) // 2
    files = {
        "cut": behind()[:-5], "sign": with_count(behind(), SIGNED, 10**6), "spare": with_count(behind(), 296, 10**6),
        "samples": behind().replace(struct.pack("<HHII", 277, 4, 1, 1), struct.pack("<HHII", 277, 4, 1, 2048)),
        "strip": packed[:strip] + b"\xff" * 40 + packed[strip + 40 :],
    }  # fmt: skip
    for name, content in files.items():
        (tmp_path / f"{name}.tif").write_bytes(content)
    done = subprocess.run([sys.executable, "-c", SCRIPT, str(tmp_path)], cwd=ROOT, capture_output=True, text=True)
    assert done.stderr == ""
    assert [line.split(".tif: ")[0] for line in done.stdout.splitlines()] == ["cut", "samples", "sign", "strip"]
