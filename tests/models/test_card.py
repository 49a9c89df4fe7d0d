"""The card beside weights."""

import json
from pathlib import Path

from models.card import Card, history


def test_a_card_tells_the_trainings_it_began_from(tmp_path: Path) -> None:
    first = Card(title="a", task="vae", steps=900, wall_seconds=120.0, command="thermapair train vae")
    first.write(tmp_path / "first")
    (tmp_path / "first" / "weights.safetensors").touch()
    line = "900 steps, 2 min: thermapair train vae"
    assert history(tmp_path / "first") == history(tmp_path / "first" / "weights.safetensors") == [line]

    checkpoint = tmp_path / "run" / "step-0000030"
    checkpoint.mkdir(parents=True)
    state = {"step": 30, "seconds": 60.0, "config": {"init": str(tmp_path / "first")}}
    (checkpoint / "state.json").write_text(json.dumps(state))
    assert history(checkpoint) == [line, "30 steps, 1 min: a checkpoint"]

    second = first.model_copy(update={"history": [line], "steps": 10})
    second.write(tmp_path / "second")
    assert Card.read(tmp_path / "second").history == [line]
    assert history(tmp_path / "second")[0] == line and len(history(tmp_path / "second")) == 2
    assert history(tmp_path / "nothing") == []
