"""`thermapair evaluate tfake` with a tiny recipe: every table written; killed and resumed."""

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from cluster import cli
from models.errors import UserError
from models.evaluation.tfake.cells import LOSSES, SIZE_BASELINES, size_row
from models.weights.store import ROOT
from pipelines import evaluate
from pipelines.evaluation.ledger import Ledger, cell_of
from pipelines.evaluation.pages import render_tables

TINY = ["people=0.001", "views=2", "steps=2", "batch=4", "landmark_steps=2", "landmark_batch=4", "seeds=[0]", "few_seeds=[0]",
        "gaps=[0,1]", "size=32", "frame=32", "sizes=[32,16]", "unseen=[24]", "patches=8", "weights=[0.01,0.1]",
        "landmark_width=0.25"]  # fmt: skip


def test_wrong_values_and_tables_are_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="size"):
        evaluate.run(tmp_path, ["size=50"])
    with pytest.raises(UserError, match="generated"):
        evaluate.run(tmp_path, ["generated=[1]"])
    with pytest.raises(UserError, match="no table 'los'.*loss"):
        evaluate.run(tmp_path, [], ["los"])


@pytest.mark.parametrize("name", ["", "larger", "sizes"])
def test_the_pages_in_docs_are_made_from_the_tables_beside_them(name: str) -> None:
    folder = ROOT / "docs" / "tfake" / name
    kept = json.loads((folder / "tables.json").read_text())
    assert render_tables(kept["tables"], kept["facts"], figure=not name) == (folder / "tables.md").read_text()


def test_the_ledger_in_docs_is_of_the_recipe_as_committed_and_goes_on_at_larger_sides() -> None:
    for edits in ([], ["generated=[2]"]):
        digest = evaluate.load_recipe(evaluate.Recipe, edits, "tfake").digest()
        kept = Ledger(ROOT / "docs" / "tfake" / "ledger.jsonl").lines(digest)
        assert {line["row"] for line in kept if line["table"] == "loss"} == set(LOSSES)


def test_tables_that_were_not_measured_are_left_out() -> None:
    kept = json.loads((ROOT / "docs" / "tfake" / "tables.json").read_text())
    page = render_tables(kept["tables"] | {"landmarks": [], "joint": [], "loss": []}, kept["facts"])
    titles = [line for line in page.splitlines() if line.startswith("## ")]
    assert titles[:2] == ["## Who is read", "## Loss terms, min-max pairs, calibrated on lab people"]
    assert "gain.png" not in page and "\n\n\n" not in page


def command(out: Path) -> list[str]:
    return ["evaluate", "tfake", "--out", str(out), *(word for edit in TINY for word in ("--set", edit))]


@pytest.mark.soak
def test_killed_run_goes_on(tmp_path: Path) -> None:
    out = tmp_path / "tfake"
    words = [*command(out), "--tables", "loss"]
    ledger, digest = Ledger(out / "ledger.jsonl"), evaluate.load_recipe(evaluate.Recipe, TINY, "tfake").digest()
    process = subprocess.Popen([sys.executable, "-m", "cluster", *words])
    while not any(line["table"] == "loss" for line in ledger.lines(digest)):
        assert process.poll() is None, "ended before its first cell"
        time.sleep(0.1)
    process.kill()
    process.wait()
    before = ledger.lines(digest)
    assert cli.main(words) == 0
    after = ledger.lines(digest)
    assert after[: len(before)] == before and len(after) > len(before)
    done = [cell_of(line, evaluate.Cell) for line in after]
    assert len(set(done)) == len(done)


@pytest.mark.slow
def test_every_table_is_written_and_more_seeds_are_added(tmp_path: Path) -> None:
    out = tmp_path / "tfake"
    assert cli.main(command(out)) == 0
    ledger = Ledger(out / "ledger.jsonl")
    done = [
        cell_of(line, evaluate.Cell)
        for line in ledger.lines(evaluate.load_recipe(evaluate.Recipe, TINY, "tfake").digest())
    ]
    assert len(set(done)) == len(done)
    assert not evaluate.Bench(evaluate.load_recipe(evaluate.Recipe, TINY, "tfake"), out).missing(evaluate.TABLES)
    found = json.loads((out / "tables.json").read_text())["tables"]
    assert found["weight"]["chosen"] in (0.01, 0.1)
    code = [row for row in found["controls"] if "parameters_apart" in row]
    assert code and all(row["parameters_apart"] == 0 for row in code), "the released patch term moved a weight"
    assert {row["gap"] for row in found["gap"]} == {0.0, 1.0}
    page = (out / "tables.md").read_text()
    assert "NME W/H" in page and "parameters" in page and (out / "gain.png").stat().st_size > 1000
    again = evaluate.run(out, [*TINY, "seeds=[0,1]"], ["loss"])
    assert next(row for row in again["loss"] if row["row"] == "full")["seeds"] == 2


@pytest.mark.slow
def test_larger_sides_are_added_to_a_ledger_and_resumed(tmp_path: Path) -> None:
    ledger, edits = Ledger(tmp_path / "ledger.jsonl"), [*TINY, "gaps=[1]"]
    digest = evaluate.load_recipe(evaluate.Recipe, edits, "tfake").digest()
    assert evaluate.run(tmp_path, edits, ["baselines", "loss"])["sizes"] == []
    before = ledger.lines(digest)
    found = evaluate.run(tmp_path, [*edits, "generated=[2]"], ["baselines", "loss"])
    # Nothing but the larger pools, and every row once at twice the side.
    added = ledger.lines(digest)[len(before) :]
    assert ledger.lines(digest)[: len(before)] == before
    pools = [line["row"] for line in added if line["table"] == "pools"]
    assert sorted(pools) == [size_row(name, 2) for name in ("field", "lab_test", "outdoor")]
    rows = [line["row"] for line in added if line["table"] == "sizes"]
    assert rows == [size_row(row, 2) for row in (*SIZE_BASELINES, *LOSSES)] and len(pools + rows) == len(added)
    truth = next(line for line in added if line["row"] == size_row("truth", 2))["measures"]["field"]
    assert set(truth["generated"]["mae"]) == {0.0} and min(truth["enlarged"]["spectra_fine"]) > 0
    # A line that was lost is measured again, alone, and to the same figures.
    whole = ledger.path.read_text().splitlines(keepends=True)
    ledger.path.write_text("".join(whole[:-1]))
    again = evaluate.run(tmp_path, [*edits, "generated=[2]"], ["baselines", "loss"])
    assert len(ledger.lines(digest)) == len(whole) and again["sizes"] == found["sizes"]
    page = (tmp_path / "tables.md").read_text()
    assert "64 px minus 32 px, enlarged" in page and "| sizes | 8 |" in page
