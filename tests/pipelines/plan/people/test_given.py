"""People who come with a picture or an expression for the adapters of the visible part."""

import json
import logging
from pathlib import Path

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from models.captions.grammar import write_caption
from models.captions.reading import read_attributes
from models.errors import UserError
from models.visible.smirk import SMIRK
from models.weights.bundle import load_bundle
from pipelines.config.generate import BRINGS, OF_PEOPLE, TERMS, chain_for
from pipelines.config.job import load_job
from pipelines.pictures.codecs import encode_png_rgb
from pipelines.plan.extend import _same_numbers
from pipelines.plan.generate import columns_of
from pipelines.plan.people.given import GivenPeople
from pipelines.plan.people.identities import Identity, people_table, unit
from pipelines.plan.samples import samples_of
from tests.pipelines import small

NUMBERS = np.linspace(0, 0.1, SMIRK).astype(np.float32)


def png(side: int = 8) -> bytes:
    return cv2.imencode(".png", np.full((side, side + 4, 3), 200, np.uint8))[1].tobytes()


def write(path: Path, **columns: list) -> str:
    """Write three people with further columns; they may be overwritten."""
    vectors = [unit(one) for one in np.random.default_rng(0).normal(size=(3, 512))]
    pq.write_table(pa.table({"identity_id": ["a", "b", "c"], "embedding": vectors, **columns}), path)
    return str(path)


def test_people_bring_what_a_stage_looks_at(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = write(tmp_path / "people.parquet", reference=[png(), None, b""], smirk=[None, NUMBERS.tolist(), None])
    (people,) = GivenPeople(path, looked_at=OF_PEOPLE).blocks(0, 3)
    assert [bool(one.reference) for one in people] == [True, False, False] and people[0].reference == png()
    assert people[0].smirk is None and np.array_equal(people[1].smirk, NUMBERS)
    # A picture as `datasets` writes one.
    path = write(tmp_path / "struct.parquet", reference=[{"bytes": png(), "path": None}, None, None])
    assert next(GivenPeople(path, looked_at=OF_PEOPLE).blocks(0, 1))[0].reference == png()
    # Nobody looks at it: it is not read, and that is said.
    with caplog.at_level(logging.WARNING):
        plain = GivenPeople(path, bundle=load_bundle("starter"))
    assert plain.further == () and not next(plain.blocks(0, 1))[0].reference
    assert "bundle starter has no adapter that looks at reference" in caplog.text


def test_another_picture_or_expression_is_another_person(tmp_path: Path) -> None:
    digests = set()
    for k, more in enumerate(
        (
            {},
            {"crop": [png()] * 3},
            {"reference": [png()] * 3},
            {"reference": [png(9)] * 3},
            {"smirk": [NUMBERS.tolist()] * 3},
        )
    ):
        digests.add(GivenPeople(write(tmp_path / f"{k}.parquet", **more), looked_at=OF_PEOPLE).digest(0, 3))
    assert len(digests) == 5


@pytest.mark.parametrize(
    ("planned", "now", "same"),
    [(None, None, True), ([0.5, 1], None, False), (None, [0.5, 1], False), ([0.5, 1], [0.5, 1], True),
     ([0.5, 1], [0.5, 0], False)],
)  # fmt: skip
def test_an_expression_that_comes_or_goes_is_another(
    planned: list[float] | None, now: list[float] | None, same: bool
) -> None:
    assert _same_numbers(planned, None if now is None else np.array(now, np.float32)) is same


@pytest.mark.parametrize(
    ("columns", "said"),
    [({"smirk": [[0.0] * 55, [0.0] * 53, None]}, r"identity 'b' \(row 1\): smirk has 53 numbers instead of 55"),
     ({"reference": ["a.png", "b.png", "c.png"]}, r"identity 'a' \(row 0\): its reference is no encoded picture")],
)  # fmt: skip
def test_what_is_neither_is_refused_by_name(tmp_path: Path, columns: dict, said: str) -> None:
    with pytest.raises(UserError, match=said):
        GivenPeople(write(tmp_path / "people.parquet", **columns), looked_at=OF_PEOPLE)


def test_rows_have_the_picture_as_a_square_and_the_numbers(tmp_path: Path) -> None:
    path = write(
        tmp_path / "people.parquet", reference=[png(), None, b"no picture"], smirk=[None, NUMBERS.tolist(), None]
    )
    (people,) = GivenPeople(path, looked_at=OF_PEOPLE).blocks(0, 3)
    samples = pa.table({"sample_id": ["1", "2", "3", "4"], "identity_id": ["a", "a", "b", "c"]})
    captions = pa.table({"caption": ["x"] * 4})
    rows = columns_of(samples, people_table(people, OF_PEOPLE), captions, 0, size=16)
    assert rows["reference"].shape == (4, 16, 16, 3) and rows["reference"].dtype == np.uint8
    assert [bool(one.any()) for one in rows["reference"]] == [True, True, False, False]
    assert np.array_equal(rows["smirk"][2], NUMBERS) and np.isnan(rows["smirk"][[0, 1, 3]]).all()
    assert list(rows["reject"][:3]) == [""] * 3 and rows["reject"][3].startswith("reference: ")
    # People without either bring neither column.
    assert not {*OF_PEOPLE} & set(columns_of(samples, people_table(people), captions, 0, size=16))


def test_crops_come_as_they_are_and_one_of_another_size_rejects_its_rows(tmp_path: Path) -> None:
    crop = np.full((448, 448, 3), 90, np.uint8)
    crops = [encode_png_rgb(crop), encode_png_rgb(crop[:300, :320]), b"no picture"]
    (people,) = GivenPeople(write(tmp_path / "people.parquet", crop=crops), looked_at=OF_PEOPLE).blocks(0, 3)
    samples = pa.table({"sample_id": ["1", "2", "3"], "identity_id": ["a", "b", "c"]})
    captions = pa.table({"caption": ["x"] * 3})
    rows = columns_of(samples, people_table(people, OF_PEOPLE), captions, 0, size=16)
    assert np.array_equal(rows["crop"][0], crop) and not rows["crop"][1:].any()
    assert rows["reject"][0] == "" and rows["reject"][2].startswith("crop: ")
    assert rows["reject"][1].startswith(
        "crop: 320 x 300 pixels, and an aligned crop has 448 x 448; give the photograph"
    )


def test_numbers_of_an_expression_go_before_its_words() -> None:
    vector = unit(np.ones(512))
    people = [Identity("a", vector, given={"sex": "man"}, smirk=numbers) for numbers in (None, NUMBERS)]
    for edit in ("views.attributes.expression=[smile]", "views={expression: [smile, laugh]}", "seed=4"):
        words, numbers = (samples_of(small.job(edit), one) for one in people)
        for with_word, without in zip(words, numbers, strict=True):
            said, left = (json.loads(row["attributes"]) for row in (with_word, without))
            assert said.pop("expression") and said == left  # all else is as without numbers
            assert json.loads(without["attributes_source"])["expression"] == "none"
            assert "expression" not in read_attributes(write_caption(left, without["seed"]))


def test_a_job_brings_what_its_visible_part_has_an_adapter_for() -> None:
    job = load_job("demo")
    assert chain_for(job, load_bundle("starter")).given == BRINGS
    weights = "visible.weights.{}=models/starter/visible"
    both = load_bundle("starter", [weights.format(name) for name in ("reference", "expression")])
    assert chain_for(job, both).given == (*BRINGS, "reference", "smirk", *TERMS)
    off = load_bundle("starter", [weights.format("reference"), "visible.options={reference_scale: 0}"])
    assert chain_for(job, off).given == BRINGS
