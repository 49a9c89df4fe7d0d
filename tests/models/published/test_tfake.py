"""The authors' checkpoints, stood for by random weights of the published shapes, become parts that the stages run."""

from pathlib import Path

import numpy as np
import pytest
import torch

from cluster.cli import main
from models.card import Card
from models.landmarks.detect import read_detection
from models.landmarks.network import Landmarker, LandmarkerConfig, load_landmarker
from models.layers import layers_of
from models.stages import NoOptions
from models.thermal.unet.network import thermal_config
from models.thermal.unet.settings import Settings
from models.thermal.unet.stage import Stage
from models.unet import UNet, UNetConfig
from models.weights.store import verify


def checkpoint(path: Path, network: torch.nn.Module) -> dict[str, torch.Tensor]:
    """Write random weights of the shapes of `network` (on `meta`) as DataParallel leaves them; returns them."""
    state = {
        key: torch.full(value.shape, 1, dtype=value.dtype) if "running_var" in key or not value.is_floating_point()
        else 0.02 * torch.randn(value.shape)
        for key, value in network.state_dict().items()
    }  # fmt: skip
    torch.save({f"module.{key}": value for key, value in state.items()}, path)
    return state


@pytest.mark.slow
def test_checkpoints_become_parts_of_a_bundle(tmp_path: Path) -> None:
    with torch.device("meta"):
        unet, landmarker = UNet(UNetConfig()), Landmarker(LandmarkerConfig())
    checkpoint(tmp_path / "cold.pth", unet)
    points = checkpoint(tmp_path / "70.pt", landmarker)
    files = ["--cold", str(tmp_path / "cold.pth"), "--landmarks", str(tmp_path / "70.pt")]
    assert main(["import", "tfake", *files, "--out", str(tmp_path / "out")]) == 0
    thermal, landmarks = tmp_path / "out" / "thermal", tmp_path / "out" / "landmarks"
    verify(thermal)
    verify(landmarks)
    config = thermal_config(thermal)
    assert (config.low, config.high, config.blur, config.conditions) == (20, 40, 0.5, ("cold",))
    stage = Stage({"model": thermal}, NoOptions(), dtype="float32", threads=1)
    classes = np.ones((1, 32, 32), np.uint8)
    rows = {"visible": np.full((1, 32, 32, 3), 99, np.uint8), "classes": classes}
    found = stage(rows, Settings(layers=layers_of(["cold"])), 1)["thermal"]
    assert 29315 <= found.min() <= found.max() <= 31315
    known = load_landmarker(landmarks / "70" / "landmarker.safetensors").state_dict()
    assert all(torch.allclose(known[key], value, atol=1e-4) for key, value in points.items())
    assert read_detection(landmarks / "70").model_dump() == {"threshold": 6e-4, "margin": 1.25}
    assert Card.read(landmarks / "70").licence == "research-only"


def test_checkpoints_of_another_kind_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with torch.device("meta"):
        landmarker = Landmarker(LandmarkerConfig())
    checkpoint(tmp_path / "70.pt", landmarker)
    out, file = str(tmp_path / "out"), str(tmp_path / "70.pt")
    assert main(["import", "tfake", "--dense", file, "--out", out]) == 2
    assert "70.pt places 70 points, not 478" in capsys.readouterr().err
    assert main(["import", "tfake", "--out", out]) == 2
    assert "at least one checkpoint" in capsys.readouterr().err
    torch.save({"weights": [1, 2]}, tmp_path / "other.pth")
    assert main(["import", "tfake", "--landmarks", str(tmp_path / "other.pth"), "--out", out]) == 75
    assert "holds no state dict of tensors" in capsys.readouterr().err
    assert not (tmp_path / "out" / "landmarks" / "files.json").exists()
