"""What a student may be trained with: a teacher of its own kind, steps that it can take, and nothing that its teacher decides."""

import json
import shutil
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

from models.config import check
from models.errors import UserError
from models.tasks.distill import thermal, translator, visible
from models.thermal.latent.settings import FILE
from models.weights.store import ROOT
from tests.models.thermal.latent.test_training import SIDE, rows
from tests.models.thermal.latent.tiny import write_part

NEEDS = {visible: "a visible part", thermal: "a thermal part", translator: "a translate part"}
VISIBLE, LATENT, TRANSLATOR = "models/starter/visible", "models/starter-thermal-ldm", "models/starter-translator"


@pytest.mark.parametrize(
    ("task", "teacher", "found"),
    [
        (visible, "models/starter/thermal", "a thermal part of kind unet"),
        (visible, LATENT, "a thermal part of kind latent-diffusion"),
        (visible, "models/starter-faceclip-visible", "a visible part of kind faceclip-sdxl"),
        (thermal, VISIBLE, "a visible part of kind latent-diffusion"),
        (thermal, "models/starter-rooms", "a thermal part of kind room-unet"),
        (thermal, "models/starter/parser", "no diffusion model"),
        (translator, LATENT, "a thermal part of kind latent-diffusion"),
        (thermal, TRANSLATOR, "a translate part of kind latent-diffusion"),
        (visible, "models/nowhere", "no folder"),
    ],
)
def test_a_wrong_teacher_is_called_what_it_is(task: ModuleType, teacher: str, found: str) -> None:
    config = task.Config(teacher=str(ROOT / teacher))
    wanted = f"teacher: .*{teacher} is {found}, and distill_.* needs {NEEDS[task]} of kind latent-diffusion"
    with pytest.raises(UserError, match=wanted):
        task.weights(config)


@pytest.mark.parametrize(("task", "teacher"), [(visible, VISIBLE), (thermal, LATENT), (translator, TRANSLATOR)])
def test_a_teacher_of_its_kind_is_taken(task: ModuleType, teacher: str, tmp_path: Path) -> None:
    assert ROOT / teacher in task.weights(task.Config(teacher=str(ROOT / teacher)))
    # Another visible autoencoder may decode otherwise; its latents must be those that the teacher learned from.
    same = str(ROOT / teacher / "vae")
    assert Path(same) in task.weights(task.Config(teacher=str(ROOT / teacher), vae=same))
    other = shutil.copytree(same, tmp_path / "vae")
    facts = json.loads((other / "config.json").read_text())
    (other / "config.json").write_text(json.dumps(facts | {"scaling_factor": 0.5}))
    with pytest.raises(UserError, match="makes other latents than the teacher learned from"):
        task.weights(task.Config(teacher=str(ROOT / teacher), vae=str(other)))


@pytest.mark.parametrize(("sampled", "word"), [((), "at least 1"), ((0, 4), "sampled.0"), ((1, 80), "sampled.1")])
def test_steps_are_those_that_its_scheduler_takes(sampled: tuple[int, ...], word: str) -> None:
    with pytest.raises(UserError, match=word):
        check(thermal.Config, {"teacher": "x", "sampled": list(sampled)}, "train distill_thermal")
    assert thermal.Config(teacher="x", sampled=(1, 50)).sampled == (1, 50)


@pytest.mark.parametrize(
    ("task", "values"),
    [
        (thermal, {"autoencoder": "elsewhere"}),
        (thermal, {"text": VISIBLE}),
        (thermal, {"guess": "models/starter-rooms"}),
        (thermal, {"latent": {"classes": False}}),
        (thermal, {"shape": {"widths": [16, 32]}}),
        (translator, {"autoencoder": "elsewhere"}),
        (translator, {"stage1": "elsewhere"}),
        (translator, {"regression": True}),
    ],
)
def test_what_the_teacher_decides_is_refused(task: ModuleType, values: dict[str, Any]) -> None:
    (name,) = values
    with pytest.raises(UserError, match=f"{name}: a student has what its teacher has"):
        check(task.Config, {"teacher": "x", **values}, "train")
    # A run that goes on names all its values, those of its defaults among them.
    config = task.Config(teacher="x")
    assert task.Config(**config.model_dump()) == config


def test_a_step_reads_nothing_of_the_teacher_from_disk(tmp_path: Path) -> None:
    part = write_part(tmp_path, SIDE)
    config = thermal.Config(teacher=str(part), size=SIDE, sampled=(1,), parser="", drop_classes=0)
    model, batch = thermal.build(config), rows() | thermal.prepare(rows(), config)
    (part / FILE).unlink()
    error, _ = thermal.loss(model, batch, config, 0)
    assert np.isfinite(error.item()) and error.requires_grad and not torch.isnan(error)
