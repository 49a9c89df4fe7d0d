"""Every task offers what the training loop asks of it."""

import re
from pathlib import Path

import pytest

from models.tasks import TASKS, TrainConfig, load


@pytest.mark.parametrize("name", TASKS)
def test_a_task_offers_what_the_loop_asks_for(name: str) -> None:
    task = load(name)
    missing = [part for part in ("Config", "build", "loss", "validate", "export") if not hasattr(task, part)]
    assert not missing
    assert issubclass(task.Config, TrainConfig)
    assert hasattr(task, "columns") or all(isinstance(name, str) for name in task.COLUMNS)


NAMES_A_FILE = re.compile(r"\b(folder|pack|checkpoint|safetensors|ONNX file)\b(?! file)")


@pytest.mark.parametrize("name", TASKS)
def test_what_a_config_names_is_found_from_any_folder(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Workers run in folders of their own: what a user names is of where the command was given, a default of the repository."""
    monkeypatch.chdir(tmp_path)
    config = load(name).Config
    refused = getattr(config, "DECIDED", ())  # of a student, what its teacher has decided
    places = {
        field: info.default
        for field, info in config.model_fields.items()
        if info.annotation is str and NAMES_A_FILE.search(info.description or "") and field not in refused
    }
    assert "init" in places
    for field, default in places.items():
        assert getattr(config(**{field: "some/where"}), field) == str(tmp_path / "some" / "where"), field
        assert getattr(config(**{field: default}), field) == getattr(config(), field) == default, field
        assert getattr(config(**{field: "s3://some/where"}), field) == "s3://some/where", field
