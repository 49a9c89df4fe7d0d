"""Every task offers what the training loop asks of it."""

import pytest

from models.tasks import TASKS, TrainConfig, load


@pytest.mark.parametrize("name", TASKS)
def test_a_task_offers_what_the_loop_asks_for(name: str) -> None:
    task = load(name)
    missing = [part for part in ("Config", "build", "loss", "validate", "export") if not hasattr(task, part)]
    assert not missing
    assert issubclass(task.Config, TrainConfig)
    assert hasattr(task, "columns") or all(isinstance(name, str) for name in task.COLUMNS)
