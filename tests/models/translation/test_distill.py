"""Distillation of a translator."""

from pathlib import Path

import pytest
import torch

from models.card import Card
from models.errors import UserError
from models.tasks.distill import translator as distill
from models.translation.settings import Options, Settings, columns
from models.translation.stage import Stage
from models.weights.store import ROOT, SmallFiles, seal
from tests.models.translation.test_training import rows
from tests.models.translation.test_translation import rows as probes
from tests.models.translation.tiny import SHAPE, write_part


@pytest.mark.slow
def test_a_student_learns_of_its_teacher_and_takes_its_own_steps_alone(tmp_path: Path) -> None:
    faces = ROOT / "models/starter/faces"
    landmarks = ROOT / "models/starter/landmarks"
    shape = SHAPE.model_copy(update={"identity": 512})
    teacher = write_part(tmp_path, shape, recogniser=faces, **{"landmarks/70": landmarks / "70"})
    config = distill.Config(teacher=str(teacher), size=32, sampled=(1, 2), looked_at=2)
    model = distill.build(config)
    batch = rows() | distill.prepare(rows(), config)
    optimizer = torch.optim.Adam(model.parameters(), 1e-3)
    errors = []
    for step in range(13):
        error, metrics = distill.loss(model, batch, config, step)
        optimizer.zero_grad()
        error.backward()
        optimizer.step()
        errors.append(metrics["consistency"])
    assert errors[-1] < 0.9 * errors[0] and metrics.keys() == {"consistency", "cosine"}
    with torch.inference_mode():
        found = distill.validate(model, [rows()], config)
        unguided = distill.validate(model, [rows()], config.model_copy(update={"guidance": 1.0}))
    assert found["score"] == -found["off_2"] and found["teacher_spread"] > 0
    assert unguided["teacher_spread"] != found["teacher_spread"], "the teacher is guided, the student is not"
    # The part translates in its own steps, and in no others, and is told what its teacher was told.
    before = model.frozen()[0].unet
    distill.export(model, config, tmp_path / "student", Card(title="", task=""))
    assert model.frozen()[0].unet is before
    stage = Stage({"model": tmp_path / "student"}, Options())
    assert stage.parts.people is not None
    student, own = stage.parts.unet.state_dict(), model.unet.state_dict()
    assert all(torch.allclose(student[name], own[name], atol=2e-3) for name in own)
    assert stage(probes(1), Settings(steps=2), 1)["translated"].std() > 0
    seal(tmp_path / "student")
    with pytest.raises(UserError, match="student of 1, 2 steps, not of 8"):
        columns(Options(), Settings(), {"model": SmallFiles(tmp_path / "student")})
