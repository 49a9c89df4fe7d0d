"""Folders as people and their programs leave them: every file that can be read is, the others have a reason each."""

import os
from pathlib import Path

import cv2
import numpy as np
import pyarrow as pa
import pytest

from models.errors import EnvironmentFault, UserError
from pipelines.config.thermalize import ThermalizeJob
from pipelines.plan.embed import list_pictures
from pipelines.plan.photos import PHOTO_SCHEMA, list_photos
from pipelines.storage.errors import own_reason
from pipelines.storage.listing import list_sizes
from pipelines.storage.uri import Storage
from tests.pipelines.readers.layouts import plain, read_rows

LONG = "n" * 150
NAME = "a::b [1] *?"


@pytest.fixture
def odd(tmp_path: Path) -> Path:
    """Return a folder whose path and files have every oddity at once."""
    picture = bytes(cv2.imencode(".png", np.full((32, 32, 3), 90, np.uint8))[1])
    root = tmp_path / NAME
    for name in ("ok.png", "x.png/in.png", f"{LONG}/{LONG}/deep.png", "p[2]::{3}.png", "@eaDir/ok.png", "._ok.png"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(picture)
    Path(os.fsdecode(os.fsencode(root) + b"/\xff\xfe.png")).write_bytes(picture)
    (root / "broken.png").symlink_to("/nowhere/at/all")
    (root / "loop.png").symlink_to("loop.png")
    (root / "up").symlink_to("..")
    os.mkfifo(root / "pipe.png")
    return root


GOOD = {"ok.png", "x.png/in.png", f"{LONG}/{LONG}/deep.png", "p[2]::{3}.png"}
BAD = {
    "broken.png": "No such file",
    "loop.png": "symbolic links",
    "pipe.png": "it is a pipe or a device",
    "\\xff\\xfe.png": "its name is not UTF-8; rename it",
}


def test_each_file_is_read_or_has_its_reason(odd: Path) -> None:
    source = Storage(odd)
    names = [name for name in list_sizes(source) if name.endswith(".png")]
    assert set(names) == GOOD | set(BAD)
    assert all(source.read(name)[1:4] == b"PNG" for name in GOOD)
    for name, words in BAD.items():
        with pytest.raises((OSError, EnvironmentFault)) as raised:
            source.read(name)
        assert words in own_reason(raised.value), name
    assert Storage(f"file://{odd}").read("ok.png") == source.read("ok.png")


def test_every_command_lists_them_in_rows_that_a_table_holds(odd: Path) -> None:
    rows = list(list_photos(ThermalizeJob(images=str(odd), size=32)).rows)
    pa.Table.from_pylist(rows, schema=PHOTO_SCHEMA)
    assert {row["picture"] for row in rows} == GOOD | set(BAD) == set(list_pictures(Storage(odd))[0])
    found, reasons = read_rows(plain(odd, visible="NAME.png"))
    assert {row["name"] + ".png" for row in found} == GOOD
    assert {name + ".png" for name in reasons} == set(BAD)
    assert all(reasons[name.removesuffix(".png")].startswith("cannot be read: ") for name in BAD)
    assert all(words in reasons[name.removesuffix(".png")] for name, words in BAD.items())


def test_a_long_name_can_be_written(tmp_path: Path) -> None:
    name = "ü" * 120 + ".pts"
    Storage(tmp_path).write(name, b"1")
    assert (tmp_path / name).read_bytes() == b"1"
    with pytest.raises(UserError, match="longer"):
        Storage(tmp_path).write("n" * 256, b"1")
