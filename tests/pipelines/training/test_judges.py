"""A judge through `thermapair train` on Ray Train, and `thermapair measure judges` on what it exports."""

from pathlib import Path

import pytest

from models.card import Card
from models.errors import UserError
from models.weights.store import verify
from pipelines import train
from pipelines.evaluation.judges import measure
from pipelines.storage.uri import Storage
from pipelines.training.checkpoints import Checkpoints
from tests.pipelines import worlds

TRUNK = "network.trunk={side: 32, stem: 8, widths: [8, 8, 8], inner: [8, 8, 8], depth: 1}"
PROFILE = "{name: test, groups: [{stages: [render]}], training: {threads: 1, failures: 0}}"


@pytest.mark.slow
def test_judges_are_trained_and_measured_by_the_command(tiny_world: str, tmp_path: Path) -> None:
    """One on Ray, the others in this process; on people of another split they neither train nor stay unmeasured."""
    profile = tmp_path / "test.yaml"
    profile.write_text(PROFILE)
    job = worlds.JOB.model_copy(update={"split": "judges", "conditions": ("warm",), "count": 4, "partition": 4})
    (tmp_path / "people").mkdir()
    people = worlds.write(tmp_path / "people", worlds.render(job), job)
    how = {"overrides": (TRUNK, "steps=3", "batch=4"), "profile": str(profile)}
    for task, local in (("judge_pose", False), ("judge_attributes", True), ("judge_parser", True)):
        name = task.removeprefix("judge_")
        export = tmp_path / "judges" / name
        card = train.run(task, people, str(tmp_path / name), export=str(export), local=local, **how)
        assert card.steps == 3 and "split judges" in card.splits["train"]
        assert Checkpoints(Storage(tmp_path / name)).pointer()["step"] == 3
        verify(export)
    with pytest.raises(UserError, match="not of split 'judges'"):
        train.run("judge_pose", tiny_world, str(tmp_path / "refused"), local=True, **how)
    found = measure(tiny_world, tmp_path / "judges", card=True)
    assert set(found) == {128, 64} and set(found[64]) == {"attributes", "pose", "parser"}
    assert Card.read(tmp_path / "judges" / "pose").metrics[f"{tiny_world}, 8 pictures, 64 px"] == found[64]["pose"]
    verify(tmp_path / "judges" / "pose")
    with pytest.raises(UserError, match="the judges may have learned from them"):
        measure(people, tmp_path / "judges")
