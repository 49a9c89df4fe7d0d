"""`thermapair evaluate faceclip`: a small run with real trainings, which goes on and says on its page what was measured."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from cluster import cli
from models.card import Card
from models.config import check, parse_yaml
from models.evaluation.faceclip import training
from models.tasks.faceclip import align
from models.visible.faceclip.clip import Clip
from models.visible.faceclip.config import VitConfig
from models.visible.faceclip.files import save_clip, save_vit
from models.visible.faceclip.vit import FaceVit
from tests.models.visible.faceclip.small import disturb
from tests.models.visible.faceclip.test_alignment import FUSER, TOWERS

SHAPE = "{widths: [8, 16], heads: [1, 2], blocks: [1, 1], groups: 4, time_width: 8}"
TINY = [
    "people=2", "views=1", "retrieved=2", "captions=2", "together=2", "steps=2", "batch=4", "sampling_steps=1",
    "ways=[FaceCLIP,adapter]", f"training={{size: 32, shape: {SHAPE}}}",
]  # fmt: skip


@pytest.fixture
def trained(tmp_path: Path) -> tuple[str, str]:
    """Folders of an encoder with the heads of its alignment, and of its towers; their weights are random."""
    towers, encoder = tmp_path / "towers", tmp_path / "encoder"
    torch.manual_seed(0)
    vit = VitConfig(width=16, depth=1, heads=2, out=12)
    save_vit(FaceVit(vit), vit, towers)
    save_clip(Clip(TOWERS), towers)
    config = align.Config(towers=str(towers), face=str(towers), fuser=FUSER)
    model = align.build(config)
    disturb(model)
    align.export(model, config, encoder, Card(title="", task="faceclip"))
    return str(encoder), str(towers)


@pytest.mark.slow
def test_a_small_run_is_measured_and_goes_on(trained: tuple[str, str], tiny_world: str, tmp_path: Path) -> None:
    encoder, towers = trained
    out = tmp_path / "out"
    edits = [word for edit in TINY for word in ("--set", edit)]
    command = [
        "evaluate",
        "faceclip",
        "--encoder",
        encoder,
        "--towers",
        towers,
        "--data",
        tiny_world,
        "--out",
        str(out),
    ]
    assert cli.main([*command, *edits]) == 0
    found = json.loads((out / "tables.json").read_text())["tables"]
    rows = {row["row"]: row for row in found["pictures"]}
    assert set(rows) == {"true picture", "known picture", "FaceCLIP", "adapter", "part of the bundle"}
    # The true picture is itself; the known one is the reference.
    assert rows["true picture"]["other_view"]["value"] == pytest.approx(1, abs=1e-3)
    assert rows["known picture"]["reference"]["value"] == pytest.approx(1, abs=1e-3)
    # The adapter's U-Net has its branch beside the other's, and draws something else.
    parameters = {row["row"]: row["parameters"] for row in found["trainings"]}
    assert parameters["adapter"] > parameters["FaceCLIP"]
    (own,), (other,) = ((out / "work").rglob(f"pictures-{way}-0-0.npz") for way in ("FaceCLIP", "adapter"))
    assert not np.allclose(np.load(own)["features"], np.load(other)["features"])
    assert [row["row"] for row in found["embedding"]][:3] == ["r1_face", "r1_text", "r1_joint"]
    # A U-Net that is there already is read as it is.
    config = check(training.Config, {"encoder": encoder, "size": 32, "shape": parse_yaml(SHAPE)}, "training")
    model = training.build(config)
    assert isinstance(model, training.Trained)
    model.unet.save_pretrained(str(tmp_path / "part" / "unet"))
    given = f"training={{size: 32, shape: {SHAPE}, init: {tmp_path / 'part'}}}"
    more = [word for edit in (*TINY[:-2], "ways=[FaceCLIP]", "steps=0", given) for word in ("--set", edit)]
    assert cli.main([*command[:-1], str(tmp_path / "as-it-is"), *more]) == 0
    (kept,) = (tmp_path / "as-it-is" / "work").rglob("model.safetensors")
    assert all(torch.equal(value, load_file(kept)[name]) for name, value in model.state_dict().items())
    # Another bundle's part is drawn by what it reads: the face itself, without a portrait of who comes with a picture.
    fast = ["--bundle", "faceclip", "--tables", "pictures", "--set", "visible.settings.steps=1"]
    assert cli.main([*command[:-1], str(tmp_path / "other"), *more, *fast]) == 0
    page = (tmp_path / "other" / "tables.md").read_text()
    assert (
        '`part of the bundle`: the visible part of bundle `faceclip` (faceclip-sdxl; steps 1, guidance 3.0, negative "",'
        in page
    )
    again = ["--bundle", "faceclip", "--tables", "pictures", "--set", "visible.settings.steps=1", "--set", "size=64"]
    assert cli.main([*command[:-1], str(tmp_path / "other"), *more, *again]) == 0
    assert len(list((tmp_path / "other" / "work").rglob("pictures-part_of_the_bundle-0-0.npz"))) == 2  # measured anew
    own, other, *_ = (
        next((tmp_path / name / "work").rglob("pictures-part_of_the_bundle-0-0.npz")) for name in ("as-it-is", "other")
    )
    assert not np.allclose(np.load(own)["features"], np.load(other)["features"])
    # What is there is not measured again.
    before = (out / "ledger.jsonl").read_text()
    assert cli.main([*command, *edits]) == 0
    assert (out / "ledger.jsonl").read_text() == before
    # Whoever was there before is looked up among those who were added, too; the second seed's rows stand beside the baselines.
    one = [word for edit in (*TINY[:-2], "ways=[FaceCLIP]", "steps=0", given) for word in ("--set", edit)]
    grown, whole = tmp_path / "as-it-is", tmp_path / "at-once"
    wider = ["--set", "people=4", "--set", "retrieved=4", "--tables", "pictures", "--set", "seeds=[1,0]"]
    assert cli.main([*command[:-1], str(grown), *one, *wider]) == 0
    assert cli.main([*command[:-1], str(whole), *one, *wider]) == 0
    of_both = [json.loads((place / "tables.json").read_text())["tables"] for place in (grown, whole)]
    assert of_both[0]["pictures"] == of_both[1]["pictures"] and len(of_both[0]["distribution"]) == 3
    # What is made again of a cell takes the place of its line.
    for place in (grown / "work").rglob("trainings-FaceCLIP-0-0"):
        shutil.rmtree(place)
    assert cli.main([*command[:-1], str(grown), *one, *wider]) == 0
    again = json.loads((grown / "tables.json").read_text())["tables"]
    assert again["trainings"] == of_both[0]["trainings"] and again["pictures"] == of_both[0]["pictures"]
    assert "None was trained here" in (grown / "tables.md").read_text()
