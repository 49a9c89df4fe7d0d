"""What is trained on, and how the errors of landmarkers are compared."""

import pytest

from models.evaluation.landmarking.recipe import Cell, Recipe
from models.evaluation.landmarking.tables import tables
from models.evaluation.sources import AUGMENTED, GENERATED, LAB, RENDERS

RECIPE = Recipe(frames=(0, 4), pairs=(0, 8), equal=8, seeds=(0, 1))


def faces(error: float) -> dict[str, list]:
    """Four people, two faces each: one from the front, one from the side, which is off by twice as much."""
    return {
        "person": [name for name in "abcd" for _ in range(2)],
        "yaw": [0.0, 70.0] * 4,
        "nme": [error, 2 * error] * 4,
    }


def test_cells_are_of_what_is_there_and_more_of_it_adds_to_them() -> None:
    every = dict.fromkeys((LAB, GENERATED, AUGMENTED, RENDERS))
    whole = list(RECIPE.cells(("grid", "sources"), every))
    assert {cell.source for cell in whole} == set(every) and Cell(LAB, 4, 0, 1) in whole
    assert Cell(AUGMENTED, 4, 8, 0) in whole and Cell(AUGMENTED, 4, 8, 1) not in whole
    assert [cell.source for cell in RECIPE.cells(("grid", "sources"), {LAB})] == [LAB, LAB]
    assert not any(cell.frames for cell in RECIPE.cells(("grid", "sources"), {GENERATED}))
    more = RECIPE.model_copy(update={"frames": (0, 4, 9)})
    assert set(whole) < set(more.cells(("grid", "sources"), every)) and more.digest() == RECIPE.digest()
    assert RECIPE.digest() != RECIPE.model_copy(update={"steps": 3}).digest()


def test_errors_are_compared_on_the_same_faces() -> None:
    cells = {Cell(LAB, 4, 0, seed): faces(0.08) for seed in (0, 1)}
    cells |= {Cell(GENERATED, 4, 8, seed): faces(0.04) for seed in (0, 1)}
    cells |= {Cell(GENERATED, 0, 8, 0): faces(0.06), Cell(RENDERS, 4, 8, 0): faces(0.02)}
    found = tables(cells, RECIPE)
    rows = {row["row"]: row for row in found["grid"]}
    assert list(rows) == ["8 pictures, generated", "4 lab frames", "4 lab frames, 8 pictures, generated"]
    lab = rows["4 lab frames"]
    assert lab["seeds"] == 2 and lab["nme"]["value"] == pytest.approx(0.12)
    assert lab["nme_to30"]["value"] == pytest.approx(0.08) and lab["nme_over60"]["value"] == pytest.approx(0.16)
    assert lab["failed"]["value"] == 0.5 and lab["nme_30to60"]["value"] != lab["nme_30to60"]["value"]
    # Lower is better: what is gained is positive. Alone, generated pictures are held against nothing.
    (gain,) = found["gains"]
    assert gain["row"].startswith("4 lab") and gain["nme"]["value"] == pytest.approx(0.06) and gain["seeds"] == 2
    (lead,) = found["leads"]
    assert lead["against"] == "4 lab frames, 8 pictures, renders" and lead["nme"]["high"] < 0 and lead["seeds"] == 1
    assert [row["row"] for row in found["sources"]] == [
        "8 pictures, generated", "4 lab frames, 8 pictures, generated", "4 lab frames, 8 pictures, renders",
    ]  # fmt: skip
