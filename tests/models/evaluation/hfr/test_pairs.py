"""Which pairs a recogniser is adapted with, and what comes of its embeddings."""

import numpy as np
import pytest

from models.errors import UserError
from models.evaluation.hfr.recipe import RAW, TRANSLATED, Cell, Recipe
from models.evaluation.hfr.tables import Found, Row, tables
from models.evaluation.hfr.training import Mixture, augment_rows, can_choose, choose_pairs, choose_people
from models.evaluation.sources import AUGMENTED, GENERATED, LAB, RENDERS

PERSON = np.array([name for name, count in (("a", 4), ("b", 4), ("c", 2), ("d", 6)) for _ in range(count)])


def test_more_people_and_pairs_hold_the_fewer() -> None:
    few, more = choose_people(PERSON, 1, 0), choose_people(PERSON, 3, 0)
    assert set(few) < set(more) and len({*PERSON[more]}) == 3
    assert {tuple(choose_people(PERSON, 1, seed)) for seed in range(20)} > {tuple(few)}, "the seed draws people"
    assert set(choose_pairs(PERSON, 3, 0, 0)) < set(choose_pairs(PERSON, 9, 0, 0))
    with pytest.raises(UserError, match="5 people are asked for, and there are 4"):
        choose_people(PERSON, 5, 0)
    with pytest.raises(UserError, match="17 pairs are asked for, and there are 16 pairs of 4 people"):
        choose_pairs(PERSON, 17, 0, 0)


def test_equal_pairs_are_of_so_many_people_with_as_many_each() -> None:
    for people, each in ((1, 6), (2, 3), (3, 2)):
        found = choose_pairs(PERSON, 6, people, 1)
        assert sorted(np.unique(PERSON[found], return_counts=True)[1]) == [each] * people
    assert can_choose(PERSON, 6, 1) and can_choose(PERSON, 8, 4) and not can_choose(PERSON, 12, 4)
    with pytest.raises(UserError, match="12 pairs of 4 people"):
        choose_pairs(PERSON, 12, 4, 0)


def prepared(count: int, level: int, size: int = 4) -> dict[str, np.ndarray]:
    pictures = np.full((count, size, size, 3), level, np.uint8)
    return {
        "visible": pictures,
        "thermal": pictures,
        "points": np.zeros((count, 5, 2)),
        "person": np.array(["a"] * count),
    }


def test_a_mixture_keeps_its_shares_and_people_apart() -> None:
    mixture = Mixture([prepared(2, 1), prepared(12, 2)], [0.25, 0.75])
    rows = mixture.rows(np.arange(len(mixture)))
    assert len(mixture) == 16 and (rows["visible"][:, 0, 0, 0] == 1).sum() == 4
    assert set(rows["person"]) == {"0/a", "1/a"}
    assert len(Mixture([prepared(3, 1)], [1.0])) == 3
    with pytest.raises(UserError, match="pairs of 4 and 8 px make no batch"):
        Mixture([prepared(2, 1), prepared(2, 2, 8)], [0.5, 0.5])


def test_augmentation_shows_the_visible_picture_as_if_it_were_thermal() -> None:
    visible = np.zeros((40, 16, 16, 3), np.uint8)
    visible[:, 8:] = 200
    names = np.array([f"p{k}" for k in range(40)], object)
    rows = {"identity_id": names, "view": np.zeros(40, int), "visible": visible, "thermal": np.zeros((40, 16, 16))}
    made = augment_rows(rows)["thermal"]
    assert made.dtype == np.uint8 and made.shape == (40, 16, 16)
    inverted, blurred = made[:, 0, 0] > made[:, 15, 0], np.isin(made, (0, 200, 255, 55)).mean(axis=(1, 2)) < 1
    assert 10 < inverted.sum() < 30 and 10 < blurred.sum() < 30
    assert np.array_equal(made, augment_rows(rows)["thermal"])


def test_cells_are_of_what_is_there_and_more_of_it_adds_to_them() -> None:
    recipe = Recipe(people=(0, 5), pairs=(0, 10), equal=10, identities=(2,), seeds=(0, 1))
    every = dict.fromkeys((LAB, GENERATED, AUGMENTED, RENDERS, TRANSLATED), True)
    whole = list(recipe.cells(("grid", "sources", "identities"), every))
    grid = [cell for cell in whole if cell.seed == 1]
    assert [(cell.source, cell.people, cell.pairs) for cell in grid] == [
        (GENERATED, 0, 10),
        (LAB, 5, 0),
        (GENERATED, 5, 10),
    ]
    assert whole[0] == Cell(RAW, 0, 0, 0, 0) and whole[-1] == Cell(GENERATED, 0, 10, 2, 0)
    assert {cell.source for cell in whole} == {RAW, *every}
    assert {cell.source for cell in recipe.cells(("grid", "sources"), {LAB})} == {RAW, LAB}
    assert not [cell for cell in recipe.cells(("sources",), {RENDERS}) if cell.people]
    more = Recipe(people=(0, 5, 9), pairs=(0, 10), equal=10, identities=(2,), seeds=(0, 1))
    assert set(whole) < set(more.cells(("grid", "sources", "identities"), every)) and more.digest() == recipe.digest()
    assert recipe.digest() != Recipe(steps=3).digest()
    with pytest.raises(UserError, match="evaluate hfr: training"):
        Recipe(training={"temprature": 1}).config(0)


def vectors(noise: float, seed: int = 0) -> dict[str, np.ndarray]:
    """Six people; probes lie `noise` away from theirs."""
    rng, centres = np.random.default_rng(seed), np.eye(6)
    person = np.repeat(np.arange(6), 4)
    thermal = centres[person] + noise * rng.normal(size=(24, 6))
    return {"gallery": centres, "visible": centres[person], "thermal": thermal, "person": person}


def test_tables_compare_the_same_probes() -> None:
    cells = {
        Cell(RAW, 0, 0, 0, 0): vectors(2.0),
        Cell(LAB, 5, 0, 0, 0): vectors(1.0),
        Cell(LAB, 5, 0, 0, 1): vectors(1.0, 1),
        Cell(GENERATED, 5, 10, 0, 0): vectors(0.05),
        Cell(GENERATED, 5, 10, 0, 1): vectors(0.05, 1),
        Cell(RENDERS, 5, 10, 0, 0): vectors(0.05),
        Cell(AUGMENTED, 5, 10, 0, 0): vectors(2.0, 3),
        Cell(GENERATED, 0, 10, 2, 0): vectors(0.5),
    }
    found = tables(cells)
    assert [row["row"] for row in found["grid"]] == ["unadapted", "5 lab people", "5 lab people, 10 pairs, generated"]
    assert [row["seeds"] for row in found["grid"]] == [1, 2, 2]
    best = found["grid"][2]
    assert best["rank1"]["value"] == best["auc"]["value"] == 1.0 and best["eer"]["value"] == 0.0
    (gain,) = found["gains"]
    assert gain["against"] == "5 lab people" and gain["rank1"]["low"] > 0
    leads = {row["against"].split()[-1]: row for row in found["leads"]}
    assert leads["augmentation"]["above"]["low"] > 0
    assert leads["renders"]["rank1"] == {"value": 0.0, "low": 0.0, "high": 0.0}
    assert [row["row"] for row in found["identities"]] == ["10 pairs of 2 people, generated"]
    assert all(row["rank1"]["value"] == 1.0 for row in found["visible"])


def test_the_share_of_strangers_below_is_the_area_under_the_curve_of_each_probe() -> None:
    gallery = np.eye(3)
    probe = np.array([[0.5, 0.4, 0.6]])
    one = {"gallery": gallery, "visible": probe, "thermal": probe, "person": np.array([0])}
    two = {**one, "person": np.array([2])}
    for given, above in ((one, 0.5), (two, 1.0)):
        assert Found({Cell(RAW, 0, 0, 0, 0): given}).probes(Row(RAW, 0, 0, 0)).figures["above"] == pytest.approx(above)
