"""From the ledger's lines to tables and the page."""

import numpy as np
import pytest

from models.evaluation.faceclip.recipe import Recipe
from models.evaluation.faceclip.tables import KNOWN, TRUE, tables
from models.evaluation.faceclip.ways import WAYS
from models.judges.attributes import WORDS
from pipelines.evaluation.faceclip.bench import Cell
from pipelines.evaluation.faceclip.pages import render_tables
from pipelines.evaluation.faceclip.trainings import Inputs

FIGURES = ("reference", "other_view", "copy_paste", "rank1", "words", "clip", "face_found")


def line(row: str, part: int, value: float, seed: int = 0) -> dict:
    """Two people, two pictures of each."""
    person = [2 * part, 2 * part, 2 * part + 1, 2 * part + 1]
    words = [[0] * len(WORDS)] * 4
    figures = {name: [value, value, value, value + 0.1] for name in FIGURES}
    measures = {"person": person, **figures, "asked_words": words, "found_words": words}
    return {"table": "pictures", "row": row, "seed": seed, "part": part, "measures": measures, "seconds": 1.0}


def made() -> dict:
    lines = [line(row, part, value) for row, value in ((TRUE, 0.9), (KNOWN, 0.8)) for part in (0, 1)]
    lines += [line("FaceCLIP", part, value, seed) for seed, value in ((0, 0.5), (1, 0.7)) for part in (0, 1)]
    lines += [line("adapter", part, 0.4) for part in (0, 1)]
    lines += [line("text alone", 0, 0.1)]  # not of all people yet
    lines.append(
        {
            "table": "trainings",
            "row": "adapter",
            "seed": 0,
            "part": 0,
            "measures": {"parameters": 7, "rows": 64, "seconds": 3.0},
        }
    )
    embedding = {"r1_joint": np.array([1.0, 1, 0, 0]), "conflict_joint": np.ones(4)}
    return tables(lines, embedding, np.array([0, 0, 1, 1])) | {"distribution": []}


def test_rows_stand_in_order_and_seeds_count_within_a_person() -> None:
    found = made()
    assert [row["row"] for row in found["pictures"]] == [TRUE, KNOWN, "FaceCLIP", "adapter", "text alone"]
    first = found["pictures"][2]["other_view"]
    assert first["value"] == pytest.approx(0.6 + 0.025) and first["low"] <= first["value"] <= first["high"]
    assert found["embedding"][0] == {
        "row": "r1_joint",
        "value": {"value": 0.5, "low": 0.0, "high": 1.0},
        "pictures": 4,
    }


def test_leads_are_paired_over_the_same_people() -> None:
    leads = {row["row"]: row for row in made()["leads"]}
    assert "text alone" not in leads and "FaceCLIP" not in leads
    lead = leads["adapter"]["other_view"]
    assert lead["value"] == pytest.approx(0.2) and lead["high"] - lead["low"] < 1e-6  # people differ alike in both


def test_the_page_has_what_was_measured_and_says_what_was_not() -> None:
    facts = {
        "command": "thermapair evaluate faceclip", "digest": "abc", "commits": ["c"], "hardware": "one core", "rows": 64,
        "bundle": "starter", "kind": "latent-diffusion", "settings": "guidance 2.0", "recipe": Recipe().model_dump(mode="json"),
    }  # fmt: skip
    page = render_tables(made(), facts)
    assert "| adapter | 0.425 [" in page
    assert "Not measured yet: no fuser, no id token, L alone." in page
    assert "| R@1, by the embedding of both | 4 | 0.500 [0.000, 1.000] |" in page and "## Distribution" not in page
    assert "| adapter | 0 | 7 | 64 | 3 |" in page
    empty = tables([], {}, np.zeros(0, int)) | {"distribution": []}
    assert "## " not in render_tables(empty, facts)


def test_recipes_that_cannot_be_are_refused() -> None:
    for wrong in ({"people": 15}, {"views": 4}, {"retrieved": 11}, {"ways": ["prompt"]}, {"steps": 0}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            Recipe(**wrong)
    assert (
        Recipe().digest("a")
        == Recipe(people=50, seeds=(0, 1), ways=WAYS[:2]).digest("a")
        != Recipe(steps=2).digest("a")
    )


def test_more_people_and_seeds_add_cells(monkeypatch: pytest.MonkeyPatch) -> None:
    from pipelines.evaluation.faceclip.bench import Bench

    def cells(**values: object) -> list[Cell]:
        bench = object.__new__(Bench)
        bench.recipe, bench.inputs = Recipe(**values), Inputs("e", "t", "d")
        return list(bench.cells(("pictures", "embedding")))

    few, more = cells(people=10), cells(people=20, seeds=(0, 1))
    assert set(few) < set(more) and len(set(more)) == len(more)
    training = few.index(Cell("trainings", "adapter", 0, 0))
    assert few[training + 1] == Cell("pictures", "adapter", 0, 0)
