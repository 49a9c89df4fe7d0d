"""Judges stand apart: evaluation and their own training alone know them; no bundle, job, profile, loss, gate or task does."""

import ast
from pathlib import Path

import numpy as np
import pytest
import yaml

from models.errors import UserError
from models.judges.people import check_people, check_unseen
from models.stages import STAGES
from models.synthworld.sampling.splits import load_splits
from models.tasks import TASKS, TrainConfig, recogniser
from models.tasks.judges import attributes as judge_attributes
from models.tasks.judges import identity as judge
from models.tasks.judges import parser as judge_parser
from models.tasks.judges import pose as judge_pose
from tests.test_architecture import ROOMS, ROOT, imports, parse, sources

KNOWING = (
    "models/judges/",
    "models/tasks/judge",
    "models/evaluation/",
    "pipelines/evaluation/",
    "cluster/commands/measure.py",
)
"""Where files lie that may import or name a judge."""
TABLE = "models/tasks/__init__.py"
"""Names every task, so that `thermapair train` finds it."""
OURS = (judge_attributes, judge_pose, judge_parser)


def knows(path: Path) -> bool:
    return str(path.relative_to(ROOT)).startswith(KNOWING)


def named_in(path: Path) -> list[str]:
    """Return the texts of a file's code that name a judge: the values of strings, documentation aside."""
    if not is_judge(path.read_text()):
        return []
    nodes = list(ast.walk(parse(path)))
    documents = {id(node.value) for node in nodes if isinstance(node, ast.Expr)}
    texts = [node for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)]
    return [node.value for node in texts if id(node) not in documents and is_judge(node.value)]


def is_judge(text: str) -> bool:
    return any(
        word in text for word in ("starter-judge", "models.judges", "tasks.judge", "judge_", "evaluation.judges")
    )


def test_nothing_that_makes_or_trains_imports_a_judge() -> None:
    others = [path for path in sources(*ROOMS) if not knows(path) and "judge" in path.read_text()]
    assert not [f"{path.relative_to(ROOT)}: {name}" for path in others for name in imports(path) if is_judge(name)]


def test_nothing_that_makes_or_trains_names_a_judge() -> None:
    """Not the code, nor what a task's `Config` holds by default: the table of tasks alone does, for `thermapair train`."""
    named = {str(path.relative_to(ROOT)): named_in(path) for path in sources(*ROOMS) if not knows(path)}
    table = {text for item in TASKS.items() for text in item if is_judge(text)}
    assert {name: set(texts) for name, texts in named.items() if texts} == {TABLE: table}


def test_no_file_of_a_bundle_job_or_profile_names_a_judge() -> None:
    """YAML and JSON of everything that runs: what the judges have of their own lies beside their weights."""
    own = ROOT / "models" / "starter-judge"
    files = [
        path
        for room in ROOMS
        for path in (ROOT / room).rglob("*")
        if path.suffix in (".yaml", ".yml", ".json") and not path.is_relative_to(own)
    ]
    assert ROOT / "models/bundles/null.yaml" in files and ROOT / "models/starter/bundle.yaml" in files
    wrong = [path.name for path in files if is_judge(path.read_text())]
    bundles = [yaml.safe_load(path.read_text()) for path in files if path.parent.name in ("bundles", "starter")]
    parts = [name for bundle in bundles if isinstance(bundle, dict) for name in bundle.get("parts", {})]
    assert parts and not wrong
    assert not [name for name in (*parts, *STAGES) if "judge" in name]
    assert not [package for kinds in STAGES.values() for package in kinds.values() if "judge" in package]


def test_a_judge_that_is_known_is_noticed(tmp_path: Path) -> None:
    """The patterns find what they are for: else the tests above would pass everything."""
    path = tmp_path / "models" / "gates" / "stage.py"
    path.parent.mkdir(parents=True)
    path.write_text('"""Not by a judge_pose."""\nfrom ..judges import pose\nPLACE = "models/starter-judge/pose"\n')
    assert [name for name in imports(path, tmp_path) if is_judge(name)] == ["models.judges.pose"]
    assert named_in(path) == ["models/starter-judge/pose"]


def test_judges_learn_from_the_split_judges_alone() -> None:
    splits = load_splits()
    for name, people in splits.items():
        numbers = np.array([people.start, people.stop - 1])
        if name == "judges":
            check_people(numbers)
            with pytest.raises(UserError, match="may have learned from them"):
                check_unseen(np.append(splits["test"].start, numbers))
        else:
            check_unseen(numbers)
            with pytest.raises(UserError, match=f"person {people.start} is not of split 'judges'"):
                check_people(np.append(splits["judges"].start, numbers))


@pytest.mark.parametrize("task", OURS)
def test_every_task_of_a_judge_refuses_other_people(task) -> None:
    rows = {name: np.zeros((1, 2, 2, 3), np.uint8) for name in task.COLUMNS}
    with pytest.raises(UserError, match="not of split 'judges'"):
        task.prepare({**rows, "world_identity": np.array([load_splits()["generator"].start])}, task.Config())


def test_judges_have_seeds_of_their_own() -> None:
    seeds = [task.Config().seed for task in (*OURS, judge)]
    assert len({*seeds, TrainConfig().seed, recogniser.Config().seed}) == len(seeds) + 1
