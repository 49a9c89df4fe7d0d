"""Copies of published sets as users have them: in folders of their own, renamed, with thumbnails and archives beside."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from models.errors import UserError
from pipelines.check_data import check_data
from pipelines.readers.check import Check
from tests.pipelines.readers.test_sets import WRITERS, mcxface, picture

SETS: dict[str, Callable[[Path], Path]] = {**WRITERS, "mcxface": mcxface}


def check(name: str, folder: Path, **how: Any) -> Check:
    return check_data(str(folder), protocol="VIS-THERMAL-split1" if name == "mcxface" else "", **how)


def make_odd(folder: Path) -> None:
    """Write extensions of every second file in capitals, thumbnails of some pictures, and two archives."""
    files = sorted(path for path in folder.rglob("*.*") if path.is_file() and path.suffix)
    for path in files[::2]:
        path.rename(path.with_suffix(path.suffix.upper()))
    for path in [path for path in sorted(folder.rglob("*.*")) if path.suffix.lower() in (".png", ".jpg", ".tiff")][:6]:
        for place in ("thumbs", "Thumbnails", "__MACOSX"):
            picture(path.parent / place / path.name, 4, 4)
    (folder / "part 2.zip").write_bytes(b"PK")
    (folder / "part 3.tar.gz.crdownload").write_bytes(b"")


@pytest.mark.parametrize("name", SETS)
def test_a_real_copy_is_counted_as_a_clean_one(name: str, tmp_path: Path) -> None:
    clean = check(name, SETS[name](tmp_path / "clean"))
    # An archive that was unpacked into a folder of its own name, which says the name of a split besides.
    odd = tmp_path / "my copy" / "test" / name / name
    SETS[name](odd)
    make_odd(tmp_path / "my copy")
    found = check(name, tmp_path / "my copy")
    assert found.layout == clean.layout == name
    for what in ("rows", "people", "halves", "shown", "roles", "each", "opened", "sizes", "points", "grey", "joined"):
        assert getattr(found, what) == getattr(clean, what), what
    assert not found.refused and {k: len(v) for k, v in found.missing.items()} == {
        k: len(v) for k, v in clean.missing.items()
    }
    assert "warning     not unpacked, or a download that broke off? part 2.zip, part 3.tar.gz.crdownload" in str(found)
    assert "not unpacked" not in str(clean)


@pytest.mark.parametrize("name", ["speakingfaces", "tufts", "vis-th", "aachen", "tfw"])
def test_a_picture_that_is_there_twice_is_told(name: str, tmp_path: Path) -> None:
    """Nobody knows which of the two is right, and the last one in the listing is no answer."""
    folder = SETS[name](tmp_path / "set")
    kinds = {"speakingfaces": "*_1_1_4_1_1.png", "tufts": "TD_IR_E_5.jpg", "vis-th": "TH_*NN.tiff", "aachen": "*.npy"}
    one = sorted(folder.rglob(kinds.get(name, "test/indoor_gray/*.png")))[0]
    other = folder / "a second copy" / one.relative_to(folder)
    other.parent.mkdir(parents=True)
    shutil.copy(one, other)
    clean, found = check(name, SETS[name](tmp_path / "clean")), check(name, folder)
    (reason, *_) = [reason for _, reason in found.missing["duplicated"]]
    assert str(one.relative_to(folder)) in reason and str(other.relative_to(folder)) in reason
    assert found.rows.total() < clean.rows.total()


def test_a_set_that_is_not_unpacked_says_so(tmp_path: Path) -> None:
    for k in range(5):
        (tmp_path / f"sub_{k}.zip").write_bytes(b"PK")
    words = r"Is something not unpacked\? It holds sub_0.zip, sub_1.zip, sub_2.zip and 2 more\."
    for layout in (None, "speakingfaces"):
        with pytest.raises(UserError, match=words):
            check_data(str(tmp_path), layout)  # type: ignore[arg-type]
