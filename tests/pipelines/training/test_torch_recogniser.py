"""A torch recogniser from its weights to probes of a thermal camera: trained by the command, in a bundle, embedding."""

import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from cluster import cli
from models.errors import UserError
from models.landmarks.intensity import show_thermal
from models.weights.bundle import load_bundle
from models.weights.store import ROOT, seal
from pipelines import embed
from pipelines.plan.embed import EmbedJob, write_embed_plan
from pipelines.rows.shards import Shards
from pipelines.storage.uri import Storage
from tests.models.hfr.tiny_recogniser import Tiny

FACES = ROOT / "models/starter/faces"


@pytest.mark.slow
def test_its_part_embeds_thermal_probes_beside_its_original(tiny_world: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    weights, out = tmp_path / "tiny.safetensors", tmp_path / "run"
    save_file({name: value.contiguous() for name, value in Tiny(4).state_dict().items()}, str(weights))
    words = [
        "train",
        "hfr",
        "--data",
        tiny_world,
        "--split",
        "all",
        "--validation",
        tiny_world,
        "--validation-split",
        "all",
    ]
    words += [
        "--out",
        str(out),
        "--local",
        "--set",
        "steps=3",
        "--set",
        "batch=4",
        "--set",
        "lr=0.001",
        "--set",
        f"recogniser={weights}",
    ]
    assert cli.main(words) == UserError.exit_code
    words += ["--set", "recogniser_class=tests.models.hfr.tiny_recogniser:Tiny", "--set", "recogniser_options.width=4"]
    # Nothing was claimed by words that were wrong.
    assert cli.main(words) == 0
    # A pack of the starter's detector and the original; the adapted one beside it.
    pack, part = tmp_path / "pack", out / "export"
    pack.mkdir()
    shutil.copy(part / "original" / "tiny.onnx", pack)
    shutil.copy(FACES / "scrfd_starter.onnx", pack)
    seal(pack)
    edits = [f"faces.weights.model={pack}", f"faces.weights.thermal={part}", "faces.licence=apache-2.0"]
    frame = Shards(tiny_world, ("thermal",), memory=0).rows(np.array([0]))["thermal"][0]
    (tmp_path / "probes").mkdir()
    assert cv2.imwrite(str(tmp_path / "probes" / "one.png"), cv2.resize(show_thermal(frame), (128, 128)))
    job = EmbedJob(images=str(tmp_path / "probes"), modality="thermal")
    plan = write_embed_plan(job, load_bundle("starter", edits), Storage(tmp_path / "probes.run"))
    row = embed.PhotoEmbedder(plan, [0], threads=1).table(["one.png"]).to_pylist()[0]
    assert (row["reason"], len(row["embedding"])) == ("", 512) and np.linalg.norm(row["embedding"]) == pytest.approx(
        1, abs=1e-5
    )
    # Beside the starter's own recogniser it is refused.
    with pytest.raises(UserError, match="probes and gallery would lie in two spaces"):
        write_embed_plan(job, load_bundle("starter", edits[1:]), Storage(tmp_path / "other.run"))
