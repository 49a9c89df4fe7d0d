"""The ledger is only ever appended to, survives a torn line and keeps recipes apart."""

from pathlib import Path

from models.evaluation.tfake.cells import Cell
from pipelines.evaluation.ledger import Ledger, cell_of


def line(row: str, digest: str = "a") -> dict[str, object]:
    return {"digest": digest, "table": "loss", "row": row, "gap": 1.0, "seed": 0, "measures": {}}


def test_lines_come_back_in_order_and_by_recipe(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "deep" / "ledger.jsonl")
    assert ledger.lines("a") == []
    for row, digest in (("one", "a"), ("two", "b"), ("three", "a")):
        ledger.append(line(row, digest))
    assert [found["row"] for found in ledger.lines("a")] == ["one", "three"]
    assert cell_of(ledger.lines("b")[0], Cell) == Cell("loss", "two", 1.0, 0)


def test_a_torn_line_is_not_counted_and_does_not_spoil_the_next(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger.jsonl")
    ledger.append(line("whole"))
    with open(ledger.path, "a", encoding="utf-8") as file:
        file.write('{"digest":"a","table":"lo')
    ledger.append(line("after"))
    assert [found["row"] for found in ledger.lines("a")] == ["whole", "after"]
    assert len(ledger.path.read_text().splitlines()) == 3, "nothing is ever taken away"
