"""What evaluations share: cells are measured once, again where what was kept of them is gone, and all of them make the tables."""

import json
import os
import signal
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from pydantic import BaseModel, create_model

from models.errors import Interrupted, UserError
from pipelines.evaluation.ledger import Ledger
from pipelines.evaluation.measuring import Measuring, Stop, choose_tables, keep, load_recipe, measure_all, sort_edits


class Recipe(BaseModel):
    rows: int = 3
    seed: int = 0


class Cell(NamedTuple):
    table: str
    row: str


class Squares(Measuring[Cell]):
    """Squares of numbers, each kept beside its line."""

    cell = Cell

    def __init__(self, recipe: Recipe, out: Path, stop: Stop = lambda: False) -> None:
        super().__init__(recipe, f"seed {recipe.seed}", out, stop)
        self.rows, self.read_now = recipe.rows, list[str]()

    def cells(self, chosen: Sequence[str]) -> Iterable[Cell]:
        return (Cell("squares", f"row {k}") for k in range(self.rows))

    def keeps(self, cell: Cell) -> bool:
        return True

    def read(self, cell: Cell) -> dict[str, Any]:
        self.read_now.append(cell.row)
        square = int(cell.row.split()[1]) ** 2
        keep(self.place(cell), square=np.array(square))
        return {"measures": {"square": square}}

    def tables(self) -> dict[str, Any]:
        return {"squares": [line["measures"]["square"] for line in self.lines()]}

    def render(self, found: dict[str, Any], facts: dict[str, Any]) -> str:
        return f"{found['squares']} by {facts['rows']} rows at {facts['commits']}"

    def about(self) -> dict[str, Any]:
        return {"rows": self.rows}


def run(out: Path, **values: int) -> tuple[Squares, dict[str, Any]]:
    made = list[Squares]()

    def begin(stop: Stop) -> Squares:
        made.append(Squares(Recipe(**values), out, stop))
        return made[0]

    found = measure_all(out, begin)
    return made[0], found


def test_cells_are_measured_once_and_all_make_the_tables(tmp_path: Path) -> None:
    bench, found = run(tmp_path)
    assert bench.read_now == ["row 0", "row 1", "row 2"] and found == {"squares": [0, 1, 4]}
    page = json.loads((tmp_path / "tables.json").read_text())
    assert page["tables"] == found and page["facts"]["recipe"] == {"rows": 3, "seed": 0}
    assert page["facts"]["commits"] == [bench.commit[:12]]
    assert (tmp_path / "tables.md").read_text().startswith("[0, 1, 4] by 3 rows at ['")
    # More of it goes on; what was kept and is gone is measured again; another recipe begins anew beside it.
    bench.place(Cell("squares", "row 1")).unlink()
    assert bench.place(Cell("squares", "row 1")).name == "squares-row_1.npz"
    again, found = run(tmp_path, rows=4)
    assert again.read_now == ["row 1", "row 3"] and found == {"squares": [0, 1, 4, 9]}
    other, found = run(tmp_path, seed=1)
    assert other.read_now == bench.read_now and found == {"squares": [0, 1, 4]}
    assert len(Ledger(tmp_path / "ledger.jsonl").lines("seed 0")) == 5


def test_a_run_that_is_asked_to_stop_ends_between_cells(tmp_path: Path) -> None:
    class Stopped(Squares):
        def read(self, cell: Cell) -> dict[str, Any]:
            if cell.row == "row 1":
                os.kill(os.getpid(), signal.SIGTERM)
                assert self.stop()
            return super().read(cell)

    with pytest.raises(Interrupted, match="SIGTERM"):
        measure_all(tmp_path, lambda stop: Stopped(Recipe(), tmp_path, stop))
    assert [line["row"] for line in Ledger(tmp_path / "ledger.jsonl").lines("seed 0")] == ["row 0", "row 1"]
    assert run(tmp_path)[0].read_now == ["row 2"]


def test_edits_and_tables_are_told_apart() -> None:
    assert sort_edits(Recipe, ["rows=2", "bundle.size=64", "thermal.weights=x"]) == (
        ["rows=2"],
        ["size=64", "thermal.weights=x"],
    )
    # A value within one of the recipe's, and a stage whose name the recipe has, too.
    edits = ["rows.within=2", "faces=a", "faces.weights=b"]
    assert sort_edits(create_model("Named", __base__=Recipe, faces=(str, "")), edits) == (edits[:2], edits[2:])
    assert load_recipe(Recipe, ["rows=2"], "squares") == Recipe(rows=2)
    with pytest.raises(UserError, match="evaluate squares"):
        load_recipe(Recipe, ["rows=many"], "squares")
    assert choose_tables((), ("a", "b")) == ("a", "b") and choose_tables(("b",), ("a", "b")) == ("b",)
    with pytest.raises(UserError, match="no table 'c'; known: a, b"):
        choose_tables(("c",), ("a", "b"))
