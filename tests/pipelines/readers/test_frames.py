"""A user's own frames: units, masks, and what is refused and why."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from models.errors import UserError
from models.temperature import to_centikelvin
from pipelines.pictures.open import BadPicture
from pipelines.pictures.thermal import open_temperatures
from pipelines.readers.frames import Frames
from tests.models.scenes import portrait
from tests.pipelines.pictures.thermal_files import tiff


def frame(person: float = 34.0, room: float = 22.0, shape: tuple[int, int] = (48, 64)) -> np.ndarray:
    """Degrees Celsius [H, W]: a warm disc in a room, with a little noise."""
    y, x = np.indices(shape)
    disc = (y - shape[0] / 2) ** 2 + (x - shape[1] / 2) ** 2 < (shape[0] / 3) ** 2
    return np.where(disc, person, room) + np.random.default_rng(0).normal(0, 0.05, shape)


def write(path: Path, celsius: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), to_centikelvin(celsius))


def test_frames_are_degrees_where_the_person_is(tmp_path: Path) -> None:
    write(tmp_path / "a.png", frame(34.0))
    write(tmp_path / "deep" / "b.tiff", frame(30.0))
    rows = Frames(str(tmp_path), 24).rows(np.array([0, 1, 0]))["thermal"]
    assert rows.shape == (3, 24, 24) and rows.dtype == np.float32
    for row, person in zip(rows, (34.0, 30.0, 34.0), strict=True):
        assert np.nanmean(row) == pytest.approx(person, abs=0.05)
        assert 0.2 < np.isnan(row).mean() < 0.8 and np.isfinite(row[12, 12]) and np.isnan(row[0, 0])


def test_frames_may_be_in_another_unit(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "counts.png"), ((frame() + 273.15) / 0.04).astype(np.uint16))
    cv2.imwrite(str(tmp_path / "celsius.tiff"), frame().astype(np.float32))
    for unit, name in (("counts40mk", "celsius.tiff"), ("celsius", "counts.png")):
        frames = Frames(str(tmp_path), 24, unit)  # type: ignore[arg-type]
        assert [text.partition(":")[0] for text in frames.skipped] == [name]
        assert np.nanmean(frames.rows(np.array([0]))["thermal"]) == pytest.approx(34, abs=0.1)


@pytest.mark.parametrize("kind", ["png", "tiff"])
def test_frames_and_their_masks_are_turned_upright(tmp_path: Path, kind: str) -> None:
    """Frame and mask of one view, each stored as it likes: the person of the mask is that of the frame."""
    celsius = frame()
    celsius[:24] = 36
    exif = Image.Exif()
    exif[274] = 6
    where = {"tiffinfo": {274: 6}} if kind == "tiff" else {"exif": exif}
    Image.fromarray(to_centikelvin(np.rot90(celsius))).save(tmp_path / f"a.{kind}", **where)
    mask = np.zeros((48, 64), np.uint8)
    mask[:24] = 255
    exif[274] = 3
    Image.fromarray(np.rot90(mask, 2)).save(tmp_path / "a_mask.png", exif=exif)
    row = Frames(str(tmp_path), 24).rows(np.array([0]))["thermal"][0]
    assert np.isnan(row[13:]).all() and row[:11] == pytest.approx(36, abs=0.01)


def test_a_mask_says_who_the_person_is(tmp_path: Path) -> None:
    write(tmp_path / "a.png", frame())
    mask = np.zeros((48, 64), np.uint8)
    mask[:24] = 255
    cv2.imwrite(str(tmp_path / "a_mask.png"), mask)
    frames = Frames(str(tmp_path), 24)
    assert len(frames) == 1
    row = frames.rows(np.array([0]))["thermal"][0]
    assert np.isfinite(row[:11]).all() and np.isnan(row[13:]).all()


def test_frames_that_cannot_be_used_are_named_and_left_out(tmp_path: Path) -> None:
    write(tmp_path / "good.png", frame())
    cv2.imwrite(str(tmp_path / "grey.png"), np.full((8, 8), 90, np.uint8))
    cv2.imwrite(str(tmp_path / "counts.png"), np.full((8, 8), 7500, np.uint16))  # 0.04 K counts of 27 degC
    cv2.imwrite(str(tmp_path / "dark.png"), np.zeros((8, 8), np.uint16))
    cv2.imwrite(str(tmp_path / "iron.png"), np.random.default_rng(0).integers(0, 255, (8, 8, 3), dtype=np.uint8))
    (tmp_path / "torn.png").write_bytes((tmp_path / "good.png").read_bytes()[:60])
    (tmp_path / "empty.png").write_bytes(b"")
    (tmp_path / "loop.png").symlink_to("loop.png")
    frames = Frames(str(tmp_path), 16)
    reasons = dict(text.split(": ", 2)[:2] for text in frames.skipped)
    assert reasons == {
        "counts.png": "not centikelvin", "dark.png": "no reading", "empty.png": "empty", "grey.png": "8-bit",
        "iron.png": "colours", "loop.png": "cannot be read", "torn.png": "truncated",
    }  # fmt: skip
    assert len(frames) == 1
    with pytest.raises(BadPicture, match="-198 degC"):
        open_temperatures((tmp_path / "counts.png").read_bytes(), "counts.png")


def test_a_folder_without_frames_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="does not exist"):
        Frames(str(tmp_path / "nowhere"), 16)
    with pytest.raises(UserError, match="holds no picture"):
        Frames(str(tmp_path), 16)
    cv2.imwrite(str(tmp_path / "grey.png"), np.full((8, 8), 90, np.uint8))
    with pytest.raises(UserError, match=r"no frame can be used; first: grey.png: 8-bit"):
        Frames(str(tmp_path), 16)


def test_every_page_is_a_frame_and_a_kettle_nobody(tmp_path: Path) -> None:
    clip = np.stack([portrait(room) for room in (19.0, 21.0, 23.0)])
    clip[:, 8:28, 42:58] = 78
    clip[1] = 21  # nobody is there
    (tmp_path / "clip.tiff").write_bytes(tiff(to_centikelvin(clip)))
    frames = Frames(str(tmp_path), 30)
    assert len(frames) == 2 and [text.partition(":")[0] for text in frames.skipped] == ["clip.tiff (page 1)"]
    rows = frames.rows(np.arange(2))["thermal"]
    assert np.nanmax(rows) < 36 and np.isnan(rows[:, 3:6, 6:9]).all() and np.isfinite(rows[:, 12:20, 13:18]).all()


def test_frames_that_are_no_scene_are_left_out_by_their_reason(tmp_path: Path) -> None:
    write(tmp_path / "good.png", portrait())
    counts = to_centikelvin(portrait())
    cv2.imwrite(str(tmp_path / "swapped.png"), counts.byteswap())
    cv2.imwrite(
        str(tmp_path / "telemetry.png"),
        np.vstack([counts, np.random.default_rng(0).integers(0, 65536, (2, 160), np.uint16)]),
    )
    assert [text.split(": ")[:2] for text in Frames(str(tmp_path), 16).skipped] == [
        ["swapped.png", "byte order"], ["telemetry.png", "telemetry"],
    ]  # fmt: skip
