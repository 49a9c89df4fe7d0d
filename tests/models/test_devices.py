"""Tasks bring their rows to where the model is."""

from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

from models.columns import Columns
from models.tasks import parser, thermalizer, vae
from tests.models.elsewhere import elsewhere

SIZE, COUNT = 64, 4


def rows() -> Columns:
    rng = np.random.default_rng(0)
    return {
        "visible": rng.integers(0, 256, (COUNT, SIZE, SIZE, 3), dtype=np.uint8),
        "classes": rng.integers(0, 19, (COUNT, SIZE, SIZE), dtype=np.uint8),
        "thermal": rng.uniform(20, 36, (COUNT, SIZE, SIZE)).astype(np.float32),
        "valid": np.ones((COUNT, SIZE, SIZE), bool),
        "condition": np.array(["warm", "cold"] * (COUNT // 2)),
        "row": np.arange(COUNT),
        "draw": np.arange(COUNT),
    }


UNET = {"width": 8, "blocks": (1, 1, 1, 1)}
TASKS: list[tuple[ModuleType, dict[str, Any]]] = [
    (thermalizer, {"unet": UNET, "thermal": {"blur": 0.5}}),
    (
        thermalizer,
        {
            "unet": UNET,
            "loss": {"patches": 0.01, "prior": 1.0, "count": 16, "sizes": [16], "sweeps": 1, "solver": "sinkhorn"},
        },
    ),
    (parser, {"unet": {**UNET, "classes": 19, "activation": "none"}}),
    (vae, {"width": 8, "blocks": (1, 1, 1, 1), "crop": 32}),
]


@pytest.mark.parametrize(("task", "values"), TASKS)
def test_losses_and_validations_meet_the_model_where_it_is(task: ModuleType, values: dict[str, Any]) -> None:
    config = task.Config(**values)
    model = task.build(config).to("meta")
    with elsewhere():
        value, metrics = task.loss(model, rows(), config, 0)
        assert value.is_meta and metrics
        with torch.no_grad():
            assert "score" in task.validate(model.eval(), [rows()], config)
            assert task.pictures(model, rows(), config).dtype == np.uint8
