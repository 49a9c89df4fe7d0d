"""From a folder of frames to a domain that the world can render."""

import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from models.errors import UserError
from models.synthworld.sampling.domain import load_domain
from models.temperature import to_centikelvin
from pipelines import fit_camera
from tests.models.scenes import portrait
from tests.models.synthworld.test_calibrate import LAB, frames, pictures
from tests.pipelines.pictures.thermal_files import tiff


def test_radiometric_frames_become_a_domain(tmp_path: Path) -> None:
    folder = tmp_path / "frames"
    folder.mkdir()
    for number, frame in enumerate(frames(LAB)):
        cv2.imwrite(str(folder / f"{number}.tiff"), to_centikelvin(frame))
    cv2.imwrite(str(folder / "iron.png"), np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8))
    fit = fit_camera.run(str(folder), tmp_path / "mine.yaml")
    assert fit.frames == 4 and "colours" in fit.skipped[0]
    domain = load_domain(tmp_path / "mine.yaml")
    assert (domain.name, domain.capture.thermal, domain.capture.jpeg) == ("mine", "measured", 0)
    assert domain.capture.camera.netd_mk == pytest.approx(50, rel=0.07)
    assert domain.capture.camera.count_k == 0.04
    assert set(fit.unknown) >= {"drift_k", "offset_k", "vignetting_k", "housing_c", "dead", "low_c", "high_c"}


def test_frames_in_another_unit_are_the_same_camera(tmp_path: Path) -> None:
    for unit, scale in (("centikelvin", 0.01), ("counts40mk", 0.04)):
        (tmp_path / unit).mkdir()
        for number, frame in enumerate(frames(LAB)):
            cv2.imwrite(str(tmp_path / unit / f"{number}.tiff"), ((frame + 273.15) / scale).round().astype(np.uint16))
    found = [
        fit_camera.run(str(tmp_path / unit), tmp_path / f"{unit}.yaml", unit=unit).found  # type: ignore[arg-type]
        for unit in ("centikelvin", "counts40mk")
    ]
    assert found[0]["netd_mk"] == pytest.approx(found[1]["netd_mk"], rel=0.02)


@pytest.mark.parametrize(("agc", "quality"), [(True, 80), (False, 0)])
def test_grey_frames_become_a_domain(tmp_path: Path, agc: bool, quality: int) -> None:
    for number, grey in enumerate(pictures(frames(LAB), agc=agc)):
        name = f"{number}.jpg" if quality else f"{number}.png"
        Image.fromarray(grey).save(tmp_path / name, **({"quality": quality} if quality else {}))
    fit = fit_camera.run(str(tmp_path), tmp_path / "mine.yaml", name="hall")
    domain = load_domain(tmp_path / "mine.yaml")
    assert (domain.name, domain.capture.thermal, domain.capture.jpeg) == ("hall", "agc" if agc else "minmax", quality)
    assert "netd_mk" in fit.unknown and "hall" in (tmp_path / "mine.yaml").read_text()


def test_folders_that_tell_nothing_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="does not exist"):
        fit_camera.run(str(tmp_path / "nowhere"), tmp_path / "a.yaml")
    folder = tmp_path / "frames"
    folder.mkdir()
    (folder / "torn.png").write_bytes(b"\x89PNG")
    with pytest.raises(UserError, match=r"no frame can be used; first: torn.png: not a picture"):
        fit_camera.run(str(folder), tmp_path / "a.yaml")
    shutil.rmtree(folder)
    with pytest.raises(UserError, match=r"ends in .yaml"):
        fit_camera.run(str(folder), tmp_path / "a.txt")


@pytest.mark.slow
def test_all_pages_are_looked_at_and_what_is_no_scene_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "frames"
    folder.mkdir()
    clip = np.stack([portrait(room) for room in (19.0, 20.0, 21.0, 22.0)])
    (folder / "clip.tiff").write_bytes(tiff(to_centikelvin(clip)))
    np.save(folder / "stack.npy", to_centikelvin(clip))
    assert fit_camera.run(str(folder), tmp_path / "a.yaml").frames == 8
    monkeypatch.setattr(fit_camera, "FRAMES", 4)
    assert fit_camera.run(str(folder), tmp_path / "a.yaml").frames == 4
    (folder / "clip.tiff").write_bytes(tiff(clip * 1.8 + 32))
    (folder / "stack.npy").unlink()
    with pytest.raises(
        UserError, match=r"no frame can be used; first: clip.tiff: not celsius: .* 19 degC as fahrenheit"
    ):
        fit_camera.run(str(folder), tmp_path / "a.yaml", unit="celsius")
    assert fit_camera.run(str(folder), tmp_path / "a.yaml", unit="fahrenheit").found["netd_mk"] == pytest.approx(
        50, rel=0.2
    )
