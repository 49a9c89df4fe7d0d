"""A torch recogniser, given as safetensors with its class: adapted, written as ONNX, and what is refused of one."""

from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from insightface.model_zoo.arcface_onnx import ArcFaceONNX
from safetensors.torch import save_file

from models.card import Card
from models.errors import UserError
from models.faces.space import check_space
from models.tasks.hfr import task
from tests.models.hfr import tiny_recogniser as tiny
from tests.models.hfr.test_hfr import CALM, STARTER, rows

MODULE = "tests.models.hfr.tiny_recogniser"


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of `Tiny(8)` whose batch statistics are not those of a fresh one; names as DataParallel saves them."""
    torch.manual_seed(0)
    network = tiny.Tiny()
    network.train()(torch.randn(8, 3, 112, 112))
    path = tmp_path_factory.mktemp("weights") / "tiny.safetensors"
    save_file({f"module.{name}": value.contiguous() for name, value in network.state_dict().items()}, str(path))
    return path


def config_of(weights: Path, name: str = "Tiny", **values: object) -> task.Config:
    given = {"recogniser": str(weights), "recogniser_class": f"{MODULE}:{name}" if name else "", **values}
    return task.Config.model_validate({"augmentation": CALM, "lr": 1e-3, **given})


def test_it_is_adapted_and_insightfaces_session_runs_it(weights: Path, tmp_path: Path) -> None:
    config = config_of(weights, "make_tiny", recogniser_options={"width": 8})
    model = task.build(config)
    # In use also while it learns: no statistics move, nothing is dropped.
    batch = task.prepare(rows(), config) | {"draw": np.arange(8)}
    before = {name: value.clone() for name, value in model.state_dict().items()}
    model.train()
    assert task.loss(model, batch, config, 0)[0] == task.loss(model, batch, config, 0)[0]
    optimizer, values = torch.optim.Adam(model.parameters(), 3e-3), list[dict[str, float]]()
    for step in range(15):
        value, metrics = task.loss(model, batch, config, step)
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        values.append(metrics)
    assert values[-1]["together"] < values[0]["together"] - 0.2 and values[0]["drift"] == pytest.approx(0, abs=1e-5)
    moved = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    assert moved == {f"network.{name}" for name, _ in model.network.named_parameters()}
    task.export(model, config, tmp_path / "part", Card(title="", task="hfr"))
    # insightface's own reader of one crop, BGR as it takes them, is torch's network.
    crops = np.random.default_rng(2).integers(0, 256, (3, 112, 112, 3), np.uint8)
    tensor = torch.from_numpy(crops.transpose(0, 3, 1, 2)).float()
    adapted, original = tmp_path / "part" / "thermal.onnx", tmp_path / "part" / "original" / "tiny.onnx"
    with torch.no_grad():
        for path, expected in ((adapted, model.network(tensor)), (original, model.original(tensor))):
            session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
            theirs = ArcFaceONNX(str(path), session)
            assert (theirs.input_mean, theirs.input_std, theirs.input_size) == (127.5, 127.5, (112, 112))
            found = theirs.get_feat([crop[..., ::-1] for crop in crops])
            assert found.shape == (3, 512) and np.allclose(found, expected.numpy(), atol=1e-4)
    assert not np.allclose(model.network(tensor).detach(), model.original(tensor), atol=1e-3)
    # It says whose space it embeds into: that of the original beside it, and of no other.
    check_space(original.parent, tmp_path / "part")
    with pytest.raises(UserError, match="probes and gallery would lie in two spaces"):
        check_space(STARTER.parent, tmp_path / "part")


REFUSED = {
    "no class": ("", {}, "holds weights alone: name recogniser_class=package.module:Class"),
    "no such name": ("Tinny", {}, r"recogniser_class=.*:Tinny: AttributeError: .*Tinny"),
    "no network": ("NOTHING", {}, "makes a dict, and no torch.nn.Module"),
    "other options": ("Tiny", {"depth": 3}, r"depth.*--set recogniser_options\.NAME=VALUE"),
    "other weights": ("Tiny", {"width": 9}, r"shapes: .*stem\.0\.weight.*name the class that the file was saved from"),
    "two outputs": ("WithNorm", {}, r"makes a tuple of 2 crops: .*gives embeddings \[B, 512\] alone"),
    "no gradient": ("Frozen", {}, "cannot be trained: no gradient flows"),
    "raw pixels": ("Scaling", {}, "shifts and scales its input itself"),
    "no trace": ("Deciding", {}, "as an ONNX file gives other embeddings than in torch"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_is_no_recogniser_is_refused_with_the_way_out(what: str, weights: Path) -> None:
    name, options, words = REFUSED[what]
    with pytest.raises(UserError, match=words):
        task.build(config_of(weights, name, recogniser_options=options))


def test_files_and_modules_that_are_not_there_or_not_whole(weights: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot be imported .*nowhere.*PYTHONPATH, wherever training runs"):
        task.build(config_of(weights, recogniser_class="nowhere.networks:Tiny"))
    narrow = tmp_path / "narrow.safetensors"
    save_file({name: value.contiguous() for name, value in tiny.Tiny(size=128).state_dict().items()}, str(narrow))
    with pytest.raises(UserError, match=r"makes \[2, 128\] of 2 crops"):
        task.build(config_of(narrow, recogniser_options={"size": 128}))
    half = tmp_path / "half.safetensors"
    half.write_bytes(weights.read_bytes()[:2000])
    with pytest.raises(UserError, match="no readable safetensors file"):
        task.build(config_of(half))
    pickled = tmp_path / "tiny.pth"
    pickled.write_bytes(b"")
    with pytest.raises(UserError, match="give an ONNX file, or a safetensors file with recogniser_class"):
        task.build(config_of(pickled))
    with pytest.raises(UserError, match="recogniser_class is of a safetensors file"):
        task.build(config_of(STARTER))
