"""`thermapair evaluate landmarks`: a small run on rendered people that goes on, and what cannot be measured."""

import json
from pathlib import Path

import pyarrow as pa
import pytest

from cluster import cli
from models.errors import UserError
from pipelines.evaluation.landmarking import bench
from pipelines.evaluation.sources import Inputs
from tests.pipelines import worlds

SMALL = ["frames=[0,4]", "pairs=[0,4]", "equal=4", "seeds=[0]", "steps=1", "batch=4", "size=32", "width=0.25"]


@pytest.fixture
def halves(rendered: list[pa.Table], tmp_path: Path) -> tuple[str, str]:
    """Two data sets of two people each."""
    first, second = (worlds.write(tmp_path / f"data-{k}", [block]) for k, block in enumerate(rendered[:2]))
    return first, second


def without_points(block: pa.Table) -> pa.Table:
    """Return rows as gathered of a set that has no landmarks."""
    place, column = block.schema.get_field_index("landmarks_70"), block.column("landmarks_70")
    nothing = pa.array([[float("nan")] * len(row) for row in column.to_pylist()], column.type)
    return block.set_column(place, block.schema.field(place), nothing)


def test_what_cannot_be_measured_is_said_before_anything_is_trained(
    rendered: list[pa.Table], halves: tuple[str, str], tmp_path: Path
) -> None:
    data, test = halves
    with pytest.raises(UserError, match="nobody to test"):
        bench.run(tmp_path / "out", Inputs(generated=data))
    with pytest.raises(UserError, match="nothing to train on"):
        bench.run(tmp_path / "out", Inputs(test=test))
    with pytest.raises(UserError, match="whoever is trained on tests nothing"):
        bench.run(tmp_path / "out", Inputs(data=data, test=data))
    unread = worlds.write(tmp_path / "unread", [without_points(rendered[1])])
    with pytest.raises(UserError, match=r"unread: of 0 people points are known, and two at least are needed"):
        bench.run(tmp_path / "out", Inputs(generated=data, test=unread))
    with pytest.raises(UserError, match="500 pairs are asked for, and there are 8 pairs of 2 people"):
        bench.run(tmp_path / "out", Inputs(data=data, test=test), ["frames=[500]", "pairs=[0]"], ["grid"])


@pytest.mark.slow
def test_a_small_run_is_measured_once_and_goes_on(halves: tuple[str, str], tmp_path: Path) -> None:
    data, test = halves
    out = tmp_path / "out"
    words = ["evaluate", "landmarks", "--generated", data, "--test", test, "--out", str(out)]
    words += [word for edit in SMALL for word in ("--set", edit)]
    assert cli.main(words) == 0
    found = json.loads((out / "tables.json").read_text())
    tables = found["tables"]["test"]
    assert [row["row"] for row in tables["sources"]] == ["4 pictures, generated", "4 pictures, augmentation"]
    assert 0 < tables["grid"][0]["nme"]["value"] <= 1 and tables["leads"][0]["seeds"] == 1
    page = (out / "tables.md").read_text()
    assert "8 pictures of 2 people" in page and "Not measured (no rows were named): lab alone, renders." in page
    # Nothing is measured twice; another source is added to what is there.
    before = (out / "ledger.jsonl").read_text()
    more = bench.run(out, Inputs(generated=data, renders=data, test=test), SMALL)
    after = (out / "ledger.jsonl").read_text()
    assert after.startswith(before) and len(after.splitlines()) == len(before.splitlines()) + 1
    # The same pictures under another name are the same pictures.
    assert more["test"]["leads"][-1]["nme"] == {"value": 0.0, "low": 0.0, "high": 0.0}
