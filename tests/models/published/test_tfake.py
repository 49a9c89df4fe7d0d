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
from models.published import tfake
from models.stages import NoOptions
from models.thermal.unet.network import ThermalConfig, load_thermalizer, thermal_config
from models.thermal.unet.settings import Settings
from models.thermal.unet.stage import Stage
from models.unet import UNet, UNetConfig
from models.weights.store import seal, verify


def checkpoint(path: Path, network: torch.nn.Module) -> dict[str, torch.Tensor]:
    """Write random weights of the shapes of `network` (on `meta`) as DataParallel leaves them; returns them."""
    state = {
        key: torch.full(value.shape, 1, dtype=value.dtype) if "running_var" in key or not value.is_floating_point()
        else 0.02 * torch.randn(value.shape)
        for key, value in network.state_dict().items()
    }  # fmt: skip
    torch.save({f"module.{key}": value for key, value in state.items()}, path)
    return state


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """A thermalizer of small width stands for the published one."""
    monkeypatch.setattr(tfake, "UNetConfig", lambda: UNetConfig(width=8, blocks=(1, 1, 1, 1)))


def thermalizer(path: Path, seed: int = 0) -> dict[str, torch.Tensor]:
    torch.manual_seed(seed)
    return checkpoint(path, UNet(UNetConfig(width=8, blocks=(1, 1, 1, 1))))


def listing(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.usefixtures("small")
def test_thermalizers_become_a_part_in_float32_one_condition_after_the_other(tmp_path: Path) -> None:
    out = str(tmp_path / "out")
    for seed, condition in enumerate(("warm", "cold")):
        file = tmp_path / f"{condition}.pth"
        state = thermalizer(file, seed)
        state["encoder.bn1.running_var"].fill_(70_000.0)  # over what float16 holds
        torch.save({"epoch": 9, "state_dict": {f"_orig_mod.module.{k}": v for k, v in state.items()}}, file)
        assert main(["import", "tfake", f"--{condition}", str(file), "--out", out]) == 0
        known = load_thermalizer(tmp_path / "out" / "thermal").networks[condition].state_dict()
        assert all(torch.equal(known[key], value) for key, value in state.items())
    part = tmp_path / "out" / "thermal"
    verify(part)
    config = thermal_config(part)
    assert (config.low, config.high, config.blur, config.conditions) == (20, 40, 0.5, ("warm", "cold"))
    assert Card.read(part).data == "warm.pth, cold.pth"
    stage = Stage({"model": part}, NoOptions(), dtype="float32", threads=1)
    rows = {"visible": np.full((1, 32, 32, 3), 99, np.uint8), "classes": np.ones((1, 32, 32), np.uint8)}
    found = stage(rows, Settings(layers=layers_of(["cold"])), 1)["thermal"]
    assert 29315 <= found.min() <= found.max() <= 31315


@pytest.mark.usefixtures("small")
def test_what_fails_leaves_everything_as_it_was(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    out, warm = tmp_path / "out", tmp_path / "warm.pth"
    state = thermalizer(warm)
    torch.save({"weights": [1, 2]}, tmp_path / "70.pt")
    both = ["import", "tfake", "--warm", str(warm), "--out", str(out)]
    assert main([*both, "--landmarks", str(tmp_path / "70.pt")]) == 2
    assert not out.exists()
    assert main(both) == 0
    before = listing(out)
    # Weights that would compute NaN, a disk that is full, a part that is damaged or of another scale.
    torch.save(state | {"encoder.bn1.weight": torch.full((8,), torch.nan)}, tmp_path / "cold.pth")
    cold = ["import", "tfake", "--cold", str(tmp_path / "cold.pth"), "--out", str(out)]
    assert main(cold) == 2 and "encoder.bn1.weight holds NaN" in capsys.readouterr().err
    thermalizer(tmp_path / "cold.pth")
    with monkeypatch.context() as patch:
        patch.setattr(tfake, "save_config", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")))
        assert main(cold) == 75
    assert listing(out) == before and sorted(path.name for path in out.iterdir()) == ["thermal"]
    (out / "thermal" / "warm.safetensors").write_bytes(b"cut")
    assert main(cold) == 75 and "half-written" in capsys.readouterr().err
    (out / "thermal" / "warm.safetensors").write_bytes(before["thermal/warm.safetensors"])
    tfake.save_config(ThermalConfig(low=0.0, conditions=("warm",)), out / "thermal")
    seal(out / "thermal")
    assert main(cold) == 2 and "name another" in capsys.readouterr().err


def test_a_landmarker_becomes_a_part_as_it_is(tmp_path: Path) -> None:
    with torch.device("meta"):
        landmarker = Landmarker(LandmarkerConfig())
    points = checkpoint(tmp_path / "70.pt", landmarker)
    assert main(["import", "tfake", "--landmarks", str(tmp_path / "70.pt"), "--out", str(tmp_path / "out")]) == 0
    landmarks = tmp_path / "out" / "landmarks"
    verify(landmarks)
    known = load_landmarker(landmarks / "70" / "landmarker.safetensors").state_dict()
    assert all(torch.equal(known[key], value) for key, value in points.items())
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
    state = {"fc.bias": torch.zeros(210)}
    other = tmp_path / "other.pth"
    for content, message in (
        ({"weights": [1, 2]}, "holds no state dict of tensors"),
        ({"model": {"model": {"model": {"model": state}}}}, "holds no state dict"),
        ({1: torch.zeros(3)}, "holds no state dict"),
        ({"a": torch.zeros(3).to_sparse()}, "holds no state dict"),
        (state, "a checkpoint of another architecture. missing: ['fc.weight'"),
        (np.float64(3), "which is code"),
        (Path("somewhere"), "asks for pathlib"),
    ):
        torch.save(content, other)
        assert main(["import", "tfake", "--landmarks", str(other), "--out", out]) == 2
        error = capsys.readouterr().err
        assert message in error and "weights_only" not in error and "trust" not in error
    for content in (b"", b"PK\x03\x04", b"\x80\x02c", bytes(range(256))):
        other.write_bytes(content)
        assert main(["import", "tfake", "--landmarks", str(other), "--out", out]) == 2
        assert "not a checkpoint of tensors alone" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
