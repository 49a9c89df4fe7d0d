"""Tables from lines whose numbers are known."""

from typing import Any

import numpy as np
import pytest

from models.evaluation.tfake.cells import (
    CONTROLS,
    LOSSES,
    SIZE_BASELINES,
    TABLES,
    TRUTH,
    Cell,
    cells,
    size_row,
    weight_row,
)
from models.evaluation.tfake.recipe import POOLS, Recipe
from models.evaluation.tfake.tables import Lines, best_weight, by_person, tables
from models.synthworld.sampling import splits

RECIPE = Recipe(weights=(0.01, 0.1))
FIGURES = ("mae", "mae_offset", "spectra", "patches")


def line(
    table: str, row: str, measures: dict[str, Any], seed: int = 0, gap: float = 1.0, **more: Any
) -> dict[str, Any]:
    return {"table": table, "row": row, "gap": gap, "seed": seed, "seconds": 2.0, "measures": measures, **more}


def people(*mae: float) -> dict[str, list[float]]:
    return {figure: list(mae) for figure in FIGURES}


def on(*mae: float) -> dict[str, Any]:
    return {domain: people(*mae) for domain in ("lab_test", "field", "outdoor")}


def faces(true: list[float], uncertainty: list[float]) -> dict[str, Any]:
    high, side = [True, False, True, False], [True, True, False, False]
    values = {"identity": [1, 1, 2, 2], "high": high, "side": side, "uncertainty": uncertainty, "true": true}
    return {"frames": values | {"labels": [v + 0.1 for v in true]}}


def baselines(gap: float = 1.0) -> dict[str, Any]:
    known = {"constant": 4.0, "class_table": 3.0, "class_condition": 3.0, "regression": 3.0, "oracle": 1.0}
    return line("baselines", "all", {d: {n: people(v, v) for n, v in known.items()} for d in on(0)}, gap=gap)


def test_skill_and_gain_by_hand() -> None:
    lines = [baselines(), line("loss", "supervised", on(2.0, 3.0)), line("loss", "full", on(1.5, 2.0))]
    found = tables(lines, RECIPE)
    rows = {(row["row"], row["domain"]): row for row in found["loss"]}
    assert rows["supervised", "field"]["skill"]["value"] == pytest.approx((3 - 2.5) / (3 - 1))
    assert rows["oracle", "field"]["skill"]["value"] == 1
    assert rows["class_condition", "outdoor"]["skill"]["value"] == 0
    gain = next(row for row in found["gap"] if row["domain"] == "field")
    assert gain["mae"]["value"] == pytest.approx(0.75)
    assert gain["mae"]["low"] == pytest.approx(0.5) and gain["mae"]["high"] == pytest.approx(1.0)
    assert gain["skill_full"]["value"] > gain["skill_supervised"]["value"]


def at_twice(row: str, trained: list[float], generated: float, enlarged: float, seed: int = 0) -> dict[str, Any]:
    """A line of a row at twice the side: two people's figures at the training side; one for both at the larger."""
    ways = {"generated": people(generated, generated), "enlarged": people(enlarged, enlarged)}
    fine = {way: values | {"spectra_fine": values["mae"]} for way, values in ways.items()}
    of_domain = {"trained": people(*trained), **fine}
    return line("sizes", size_row(row, 2), dict.fromkeys(on(0), of_domain), seed, factor=2)


def test_cost_of_a_larger_side_by_hand() -> None:
    lines = [at_twice("class_condition", [3.0, 3.0], 3.5, 5.0), at_twice("oracle", [1.0, 1.0], 1.5, 1.6)]
    lines += [at_twice(TRUTH, [0.0, 0.0], 0.0, 0.25), at_twice("full", [1.0, 3.0], 2.5, 2.75, 1)]
    # Figures of the loss table are of a network that may have been trained elsewhere: they take no part.
    lines += [baselines(), line("loss", "full", on(9.0, 9.0), 1)]
    found = tables(lines, RECIPE)
    rows = {(row["row"], row["way"]): row for row in found["sizes"] if row["domain"] == "field"}
    assert rows["full", "trained"]["seeds"] == 1 and rows["oracle", "generated"]["seeds"] == 0
    assert [rows["full", way]["mae"]["value"] for way in ("trained", "generated", "enlarged")] == [2.0, 2.5, 2.75]
    # Skill lies between the table and the oracle of the truth that it is compared with.
    assert rows["full", "trained"]["skill"]["value"] == pytest.approx((3 - 2) / (3 - 1))
    assert rows["full", "generated"]["skill"]["value"] == pytest.approx((3.5 - 2.5) / (3.5 - 1.5))
    assert rows["full", "enlarged"]["skill"]["value"] == pytest.approx((3.5 - 2.75) / (3.5 - 1.5))
    costs = {(row["row"], row["against"]): row for row in found["sizes_cost"] if row["domain"] == "outdoor"}
    cost = costs["full", "trained"]["mae"]
    assert (cost["value"], cost["low"], cost["high"]) == (0.5, -0.5, 1.5)
    assert (
        costs["full", "enlarged"]["spectra_fine"]["value"] == -0.25 and "spectra_fine" not in costs["full", "trained"]
    )
    assert costs[TRUTH, "enlarged"]["mae"]["value"] == -0.25


def test_gains_use_the_seeds_that_both_rows_have() -> None:
    lines = [line("loss", "supervised", on(2.0, 2.0), seed) for seed in (0, 1)]
    lines += [line("loss", "full", on(1.0, 1.0), 1)]
    (row,) = [row for row in tables(lines, RECIPE)["gap"] if row["domain"] == "field"]
    assert row["seeds"] == 1 and row["mae"]["value"] == 1.0


def test_subsets_of_faces_by_hand() -> None:
    lines = [line("landmarks", "joint, sparse", faces([0.1, 0.2, 0.3, 1.0], [1e-4, 1e-4, 1e-4, 1e-2]), threshold=1e-3)]
    whole = {name: by_person(lines, "true", name, None) for name in ("High", "Low", "Side", "Front", "Full")}
    np.testing.assert_allclose(whole["High"], [[0.1, 0.3]])
    np.testing.assert_allclose(whole["Low"], [[0.2, 1.0]])
    np.testing.assert_allclose(whole["Side"], [[0.15, np.nan]])
    np.testing.assert_allclose(whole["Front"], [[np.nan, 0.65]])
    np.testing.assert_allclose(whole["Full"], [[0.15, 0.65]])
    np.testing.assert_allclose(by_person(lines, "true", "Full", np.nan), [[0.15, 0.3]])
    np.testing.assert_allclose(by_person(lines, "labels", "Full", 1.0), [[0.25, 0.7]])
    rows = tables(lines, RECIPE)["landmarks"]
    assert [row["answered"] for row in rows] == [1.0, 0.75, 0.75]
    assert rows[1]["Full"]["value"] == pytest.approx(0.4) and rows[2]["Full"]["value"] == pytest.approx(0.225)


def test_reached_compares_the_same_seeds() -> None:
    one, two = faces([0.4] * 4, [0.0] * 4), faces([0.3] * 4, [0.0] * 4)
    lines = [line("reached", "supervised", one, 0, threshold=1.0)]
    lines += [line("landmarks", "joint, sparse", two, seed, threshold=1.0) for seed in (0, 1)]
    rows = {row["row"]: row for row in tables(lines, RECIPE)["reached"]}
    assert rows["full"]["seeds"] == 1
    assert rows["full"]["gain"]["value"] == pytest.approx(0.1)


def test_weight_is_chosen_on_validation_people_once_all_are_there() -> None:
    lines = [line("weight", weight_row(0.01), {"chooser": people(2.0, 2.0)})]
    assert best_weight(lines, RECIPE) is None
    lines.append(line("weight", weight_row(0.1), {"chooser": people(1.0, 1.0)}))
    assert best_weight(lines, RECIPE) == 0.1
    assert POOLS["chooser"].split == "validation"


def test_control_that_loses_is_below_zero_and_names_its_rival() -> None:
    lines = [line("loss", row, on(1.0, 1.0)) for row in LOSSES]
    lines += [line("controls", row, on(1.5, 1.5)) for row in CONTROLS]
    lines[-1]["parameters_apart"] = 0.0
    rows = {row["row"]: row for row in tables(lines, RECIPE)["controls"] if row["domain"] == "field"}
    assert {row: rows[row]["against"] for row in CONTROLS} == {
        "prior +2 degC": "full", "prior permuted": "full", "patches mirrored": "full",
        "released code, patches": "supervised",
    }  # fmt: skip
    assert rows["prior +2 degC"]["mae"]["value"] == pytest.approx(0.5)
    assert rows["released code, patches"]["parameters_apart"] == 0


def test_terms_are_also_read_over_batch_statistics_alone() -> None:
    lines = [line("loss", row, on(1.0, 1.0)) for row in LOSSES]
    lines.append(line("controls", "released code, patches", on(1.25, 1.25), parameters_apart=0.0))
    rows = [row for row in tables(lines, RECIPE)["effects"] if "batch statistics" in row["row"]]
    assert len(rows) == 9 and all(row["mae"]["value"] == pytest.approx(0.25) for row in rows)


def test_tables_of_no_lines_are_empty() -> None:
    found = tables([], RECIPE)
    assert not found["loss"] and not found["landmarks"] and found["weight"]["chosen"] is None
    assert Lines([]).values("loss", "full", "field", "mae") is None


def test_more_seeds_keep_the_digest_and_other_steps_do_not() -> None:
    more = {"seeds": (0, 1, 2, 3), "gaps": (0.0,), "generated": (2, 4)}
    assert RECIPE.digest() == RECIPE.model_copy(update=more).digest()
    assert RECIPE.digest() != RECIPE.model_copy(update={"steps": 401}).digest()
    assert RECIPE.digest() != RECIPE.model_copy(update={"field": "s3://bucket/field"}).digest()


def test_cells_of_a_seed_come_before_those_of_the_next() -> None:
    found = list(cells(RECIPE, TABLES))
    assert len(set(found)) == len(found)
    assert [cell.seed for cell in found] == sorted(cell.seed for cell in found)
    assert found[0] == Cell("weight", "patches 0.01", 1.0, 0)
    assert list(cells(RECIPE, ("gap",)))[2].table == "loss"


def test_larger_sides_are_read_of_the_rows_that_are_chosen() -> None:
    larger = RECIPE.model_copy(update={"generated": (2,)})
    assert not [cell for cell in cells(RECIPE, TABLES) if cell.table == "sizes"]
    of_loss = {(cell.row, cell.seed) for cell in cells(larger, ("loss",)) if cell.table == "sizes"}
    assert of_loss == {(size_row(row, 2), seed) for row in LOSSES for seed in larger.seeds}
    of_baselines = [cell.row for cell in cells(larger, ("baselines",)) if cell.table == "sizes"]
    assert of_baselines == [size_row(row, 2) for row in SIZE_BASELINES]
    assert not [cell for cell in cells(larger, ("gap", "controls")) if cell.table == "sizes"]


def test_nobody_is_in_two_pools_that_must_not_meet() -> None:
    """Test people are met nowhere else; training pools share people only where both are training people."""
    drawn = {}
    for name, pool in POOLS.items():
        everyone = splits.identities(pool.split)
        drawn[name] = set(everyone[pool.first : pool.first + pool.people])
        assert len(drawn[name]) == pool.people
    tests = {name for name, pool in POOLS.items() if pool.split == "test"}
    for name in tests:
        assert not any(drawn[name] & drawn[other] for other in POOLS.keys() - tests)
    assert POOLS["target"].split == "generator", "the patch term's frames are of training people"
