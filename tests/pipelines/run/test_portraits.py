"""A first portrait of people who come without a picture: made once for a person, kept over redraws, and given ones stay."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from models.columns import Columns
from models.errors import BadRows, UserError
from models.null import kinds as null
from models.stages import STAGES, Files, Flow
from models.weights.bundle import Bundle, load_bundle
from pipelines.captions.write import write_captions
from pipelines.config.generate import chain_for
from pipelines.plan.extend import write_generate_plan
from pipelines.plan.generate import GeneratePlan
from pipelines.run.chain import Chain
from pipelines.storage.uri import Storage
from tests.pipelines import small

SHOWN = np.full(3, 7, np.uint8)
"""Of a picture in which the visible stage finds no face."""


class Drawing(null.Visible):
    """A visible kind that draws a person's picture anew, and takes none that is `SHOWN`."""

    @staticmethod
    def columns(options: Any, settings: Any, files: Mapping[str, Files]) -> Flow:
        return Flow(reads=("noise_id", "reference"), writes=("visible",))

    class Stage(null.Visible.Stage):
        def __call__(self, rows: Columns, settings: Any, batch: int) -> Columns:
            bad = (rows["reference"] == SHOWN).reshape(len(rows["noise_id"]), -1).all(axis=1)
            if bad.any():
                raise BadRows({int(row): "reference: no face was found" for row in np.flatnonzero(bad)})
            return {"visible": rows["reference"] // 2}


@pytest.fixture
def bundle(monkeypatch: pytest.MonkeyPatch) -> Bundle:
    monkeypatch.setitem(STAGES["visible"], "drawing", f"{__name__}:Drawing")
    return load_bundle(
        "null",
        ["visible.kind=drawing", "parts.portrait={kind: 'null', options: {pictures: true}, batch: 4}", "size=32"],
    )


@pytest.fixture
def plan(bundle: Bundle, tmp_path: Path) -> GeneratePlan:
    job = small.job("identities.count=3", "partition_samples=12", "gates={attempts: 2, face_area: [0.99, 1]}")
    made = write_generate_plan(job, bundle, Storage(tmp_path / "out"))
    write_captions(made, small.profile().captions)
    return made


class Counting:
    def __init__(self, stage: Callable[..., Columns]) -> None:
        self.stage, self.people = stage, list[str]()

    def __call__(self, rows: Columns, settings: Any, batch: int) -> Columns:
        self.people += [str(name) for name in rows["identity_id"]]
        return self.stage(rows, settings, batch)


def run(plan: GeneratePlan, block: Columns) -> tuple[Columns, list[str]]:
    """Return the rows of a block after the chain, and whose portraits were made."""
    portrait, *others = small.chain_of(plan).stages
    counting = Counting(portrait)
    rows = Chain(plan.chain, plan.chain.stages, 2, loaded=[counting, *others])(block)
    return rows, counting.people


def test_the_portrait_stands_before_what_draws_on_it(bundle: Bundle) -> None:
    assert chain_for(small.job(), bundle).stages[:2] == ("portrait", "visible")
    without = load_bundle("null", ["visible.kind=drawing"])
    with pytest.raises(UserError, match="column reference"):
        chain_for(small.job(), without)


def test_a_person_is_portrayed_once_for_all_samples_and_attempts(plan: GeneratePlan) -> None:
    rows, people = run(plan, plan.partition(0))
    assert sorted(people) == sorted(set(rows["identity_id"]))
    assert (~rows["final"]).any() and set(rows["attempt"]) == {0, 1}  # all were drawn again
    for person in people:
        own = rows["reference"][rows["identity_id"] == person]
        assert own.any() and (own == own[0]).all()
    one = [rows["reference"][rows["identity_id"] == person][0] for person in people]
    assert not np.array_equal(one[0], one[1])


def test_given_pictures_stay_and_a_refused_one_rejects_the_rows_of_its_person(plan: GeneratePlan) -> None:
    block = plan.partition(0)
    first, second, third = dict.fromkeys(block["identity_id"])
    block["reference"] = np.zeros((len(block["sample_id"]), 32, 32, 3), np.uint8)
    block["reference"][block["identity_id"] == first] = 200
    block["reference"][block["identity_id"] == second] = SHOWN
    rows, people = run(plan, block)
    assert people == [third]
    assert (rows["reference"][rows["identity_id"] == first] == 200).all()
    refused = rows["identity_id"] == second
    assert set(rows["reject"][refused]) == {"reference: no face was found"}
    assert rows["final"][refused].all() and not rows["attempt"][refused].any()  # another draw would fail again


def test_rows_that_the_source_rejected_are_not_drawn_again(plan: GeneratePlan) -> None:
    block = plan.partition(0)
    block["reject"][0] = "reference: no picture"
    rows, _ = run(plan, block)
    (row,) = np.flatnonzero(rows["sample_id"] == block["sample_id"][0])
    assert rows["reject"][row] == "reference: no picture" and rows["attempt"][row] == 0
