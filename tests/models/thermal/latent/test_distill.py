"""Distillation of a thermal latent diffusion."""

from pathlib import Path

import numpy as np
import pytest
import torch

from models.card import Card
from models.errors import UserError
from models.layers import Layer
from models.tasks import thermal_ldm
from models.tasks.distill import thermal as distill
from models.thermal.latent.settings import Options, Settings, columns
from models.thermal.latent.stage import Stage
from models.weights.store import SmallFiles, seal
from tests.models.diffusion.tiny import wake
from tests.models.thermal.latent.test_training import config as small
from tests.models.thermal.latent.test_training import rows

__all__ = ["small"]


@pytest.mark.slow
def test_a_thermal_student_learns_of_its_teacher(small: thermal_ldm.Config, tmp_path: Path) -> None:
    torch.manual_seed(0)
    teacher = thermal_ldm.build(small)
    wake(teacher.unet)
    thermal_ldm.export(teacher, small, tmp_path / "teacher", Card(title="", task=""))
    config = distill.Config(teacher=str(tmp_path / "teacher"), size=small.size, sampled=(1, 2))
    model = distill.build(config)
    batch = rows() | distill.prepare(rows(), config)
    optimizer = torch.optim.Adam(model.parameters(), 1e-3)
    first = distill.loss(model, batch, config, 0)[0].item()
    for step in range(12):
        error, metrics = distill.loss(model, batch, config, step)
        optimizer.zero_grad()
        error.backward()
        optimizer.step()
    assert error.item() < 0.9 * first and metrics.keys() == {"consistency"}
    with torch.inference_mode():
        found = distill.validate(model, [rows()], config)
    assert found["score"] == -found["kelvin_2"] and found["teacher_spread"] > 0
    # The part draws in its own steps, and in no others.
    distill.export(model, config, tmp_path / "student", Card(title="", task=""))
    given = {name: rows()[name][:1] for name in ("visible", "classes")} | {"noise_id": np.array(["a"], object)}
    layers = (Layer("22"), Layer("any", 1))
    made = Stage({"model": tmp_path / "student"}, Options())(given, Settings(steps=2, layers=layers), 2)
    assert made["thermal"].shape == (1, 2, small.size, small.size)
    seal(tmp_path / "student")
    with pytest.raises(UserError, match="student of 1, 2 steps, not of 8"):
        columns(Options(), Settings(), {"model": SmallFiles(tmp_path / "student")})
    with pytest.raises(UserError, match="euler"):
        columns(Options(), Settings(steps=2, scheduler="euler"), {"model": SmallFiles(tmp_path / "student")})
