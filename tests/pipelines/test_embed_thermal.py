"""`embed` of thermal pictures: faces found by the landmarker, embedded by the recogniser that is theirs."""

import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
from pydantic import ValidationError

from models.errors import UserError
from models.faces.align import align, five_points
from models.faces.pack import Pack
from models.landmarks.intensity import show_thermal
from models.temperature import from_centikelvin
from models.weights.bundle import load_bundle
from models.weights.store import ROOT, seal
from pipelines import embed
from pipelines.config.world import WorldJob
from pipelines.pictures.codecs import decode, encode_png
from pipelines.plan.embed import EmbedJob, write_embed_plan
from pipelines.storage.uri import Storage
from pipelines.world import Renderer

FACES = ROOT / "models/starter/faces"
EDIT = f"faces.weights.thermal={FACES}"


@pytest.fixture(scope="module")
def frames(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A person's thermal frame as centikelvin, the same in 8-bit grey and in a palette, a wall, and a visible picture."""
    job = WorldJob(domain="portrait", split="test", count=1, size=128, views=1, conditions=("warm",))
    table = Renderer(job, [0], threads=1)({"id": np.array([0])})
    folder = tmp_path_factory.mktemp("frames")
    thermal = table.column("thermal")[0].as_py()["bytes"]
    (folder / "warm.png").write_bytes(thermal)
    grey = show_thermal(from_centikelvin(decode(thermal)))
    cv2.imwrite(str(folder / "grey.png"), grey)
    cv2.imwrite(str(folder / "palette.png"), cv2.applyColorMap(grey, cv2.COLORMAP_INFERNO))
    (folder / "wall.png").write_bytes(encode_png(np.full((128, 128), 29500, np.uint16)))
    np.save(folder / "points.npy", np.array(table.column("landmarks_70")[0].as_py(), np.float32).reshape(70, 2))
    return folder


def test_a_thermal_face_is_found_and_embedded_by_its_own_recogniser(frames: Path, tmp_path: Path) -> None:
    bundle = load_bundle("starter", [EDIT])
    job = EmbedJob(images=str(frames), modality="thermal", unit="centikelvin")
    plan = write_embed_plan(job, bundle, Storage(tmp_path / "out.run"))
    assert [stage.stage for stage in plan.recipe.stages] == ["faces", "landmarks"]
    assert plan.recipe.source["modality"] == "thermal"
    table = embed.PhotoEmbedder(plan, [0], threads=1).table(["warm.png", "grey.png", "palette.png", "wall.png"])
    warm, grey, palette, wall = table.to_pylist()
    assert (warm["reason"], warm["faces"], warm["width"]) == ("", 1, 128)
    # Where the world knows the face to be; the embedding is the recogniser's of the aligned crop as it is shown.
    truth = five_points(np.load(frames / "points.npy"))
    found = np.reshape(warm["keypoints"], (5, 2)).astype(np.float32)
    assert np.linalg.norm(found - truth, axis=1).mean() < 6
    shown = show_thermal(from_centikelvin(decode((frames / "warm.png").read_bytes())))
    expected = Pack(FACES).embed(align(shown[None], found[None]))[0]
    assert np.allclose(warm["embedding"], expected / np.linalg.norm(expected), atol=1e-4)
    # Grey levels are a picture, too; a palette is not, and a wall is nobody.
    assert np.dot(grey["embedding"], warm["embedding"]) > 0.99
    assert palette["reason"].startswith("colours: a palette cannot be undone")
    assert wall["reason"].startswith("no ")
    assert "points.npy" in plan.sample_table(0)["picture"].to_pylist()


def test_what_the_bundle_or_the_job_does_not_allow_is_said(frames: Path, tmp_path: Path) -> None:
    job = EmbedJob(images=str(frames), modality="thermal")
    with pytest.raises(
        UserError, match=r"no recogniser for thermal faces: train hfr, then --set faces\.weights\.thermal"
    ):
        write_embed_plan(job, load_bundle("starter"), Storage(tmp_path / "out.run"))
    (tmp_path / "other").mkdir()
    shutil.copy(FACES / "arcface_starter.onnx", tmp_path / "other")
    (tmp_path / "other" / "space.json").write_text('{"recogniser": "0123456789abcdef"}')
    seal(tmp_path / "other")
    other = load_bundle("starter", [f"faces.weights.thermal={tmp_path / 'other'}"])
    with pytest.raises(UserError, match="adapted from recogniser 0123456789abcdef"):
        write_embed_plan(job, other, Storage(tmp_path / "out.run"))
    with pytest.raises(ValidationError, match="reference cuts out a visible face"):
        EmbedJob(images=str(frames), modality="thermal", reference=True)
    with pytest.raises(ValidationError, match="add --modality thermal"):
        EmbedJob(images=str(frames), unit="centikelvin")
