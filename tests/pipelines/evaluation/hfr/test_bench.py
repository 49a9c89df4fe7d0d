"""`thermapair evaluate hfr`: a small run on rendered people that goes on, its page, and rows that it cannot be measured on."""

import json
from pathlib import Path

import pyarrow as pa
import pytest

from cluster import cli
from models.errors import UserError
from pipelines.evaluation.hfr import bench
from pipelines.evaluation.sources import Inputs
from tests.pipelines import worlds

SMALL = ["people=[0,1]", "pairs=[0,4]", "equal=4", "identities=[1,2,3]", "seeds=[0,1]", "steps=1", "batch=4"]


@pytest.fixture
def halves(rendered: list[pa.Table], tmp_path: Path) -> tuple[str, str]:
    """Two data sets of two people each."""
    first, second = (worlds.write(tmp_path / f"data-{k}", [block]) for k, block in enumerate(rendered[:2]))
    return first, second


def test_what_cannot_be_measured_is_said_before_anything_is_trained(
    halves: tuple[str, str], tiny_world: str, tmp_path: Path
) -> None:
    data, test = halves
    out = tmp_path / "out"
    with pytest.raises(UserError, match="nobody to test"):
        bench.run(out, Inputs(generated=data))
    with pytest.raises(UserError, match=r"whoever is trained on tests nothing"):
        bench.run(out, Inputs(data=data, generated=tiny_world, test=test))
    with pytest.raises(UserError, match="no row of split 'test'"):
        bench.run(out, Inputs(data=data))
    with pytest.raises(UserError, match="give an ONNX file"):
        bench.run(out, Inputs(data=data, test=test), ["recogniser=models/starter/thermal/unet.safetensors"])
    with pytest.raises(UserError, match=r"training\.steps is the recipe's own, the same for all rows"):
        bench.run(out, Inputs(data=data, test=test), ["training={steps: 5, keep: 2}"])
    with pytest.raises(UserError, match="no table 'grids'; known: grid, sources, identities"):
        bench.run(out, Inputs(data=data, test=test), [], ["grids"])
    with pytest.raises(UserError, match="10 people are asked for, and there are 2"):
        bench.run(out, Inputs(data=data, test=test), ["people=[10]", "pairs=[0]"], ["grid"])


@pytest.mark.slow
def test_a_small_run_is_measured_once_and_goes_on(halves: tuple[str, str], tmp_path: Path) -> None:
    data, test = halves
    out = tmp_path / "out"
    words = ["evaluate", "hfr", "--generated", data, "--test", test, "--out", str(out)]
    words += [word for edit in SMALL for word in ("--set", edit)]
    assert cli.main(words) == 0
    found = json.loads((out / "tables.json").read_text())
    tables = found["tables"]["test"]
    assert [row["row"] for row in tables["grid"]] == ["unadapted", "4 pairs, generated"]
    assert [row["seeds"] for row in tables["grid"]] == [1, 2]
    assert [row["row"] for row in tables["identities"]] == [
        "4 pairs of 1 people, generated",
        "4 pairs of 2 people, generated",
    ]
    assert found["facts"]["unmet"] == [3] and tables["leads"][0]["against"] == "4 pairs, augmentation"
    page = (out / "tables.md").read_text()
    assert "Not measured (no rows were named): lab alone, renders, translated." in page and "\n\n\n" not in page
    assert "2 people, 4 probes" in page and "| 4 pairs, generated | unadapted |" in page
    # Nothing is measured twice; a seed and another source are added to what is there.
    before = (out / "ledger.jsonl").read_text()
    assert cli.main(words) == 0 and (out / "ledger.jsonl").read_text() == before
    inputs = Inputs(generated=data, renders=data, test=test)
    more = bench.run(out, inputs, [*SMALL[:4], "seeds=[0,1,2]", *SMALL[5:]])
    after = (out / "ledger.jsonl").read_text()
    assert after.startswith(before) and len(after.splitlines()) - len(before.splitlines()) == 2
    assert more["test"]["grid"][1]["seeds"] == 3
    # The same pairs under another name are the same pairs.
    assert more["test"]["leads"][-1]["rank1"] == {"value": 0.0, "low": 0.0, "high": 0.0}
