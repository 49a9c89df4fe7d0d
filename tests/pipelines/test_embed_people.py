"""Several pictures of a person are one identity; aligned crops are embedded as they are; whose embeddings they are is noticed."""

import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pydantic import ValidationError

from models.faces.align import CROP, TEMPLATE
from models.faces.decode import Detections
from models.weights.bundle import load_bundle
from pipelines.config import photographs
from pipelines.embed import FACE_SCHEMA, _average_people
from pipelines.pictures.faces import ALIGNED, find_faces
from pipelines.plan.embed import EmbedJob
from pipelines.plan.people.given import GivenPeople
from pipelines.plan.people.identities import Reference, people_table, unit


def vectors(count: int, seed: int = 0) -> np.ndarray:
    return np.array([unit(one) for one in np.random.default_rng(seed).normal(size=(count, 512))])


def pictures(names: list[str], reasons: dict[str, str] | None = None) -> pa.Table:
    """Return rows as a run wrote them; those of `reasons` have one and no embedding."""
    rows = []
    for name, vector in zip(names, vectors(len(names)), strict=True):
        reason = (reasons or {}).get(name, "")
        rows.append({"picture": name, "identity_id": name, "reason": reason, "faces": 1,
                     "embedding": None if reason else vector})  # fmt: skip
    return pa.Table.from_pylist(rows, schema=FACE_SCHEMA)


@pytest.mark.parametrize("person", ["folder:1", r"pattern:^(\w+)/"])
def test_pictures_of_a_person_become_one_identity(person: str, tmp_path: Path) -> None:
    names = ["a/1.png", "a/2.png", "a/3.png", "b/1.png", "b/2.png", "lone.png"]
    table = _average_people(pictures(names, {"a/1.png": "no face: none was found"}), person)
    rows = {row["picture"]: row for row in table.to_pylist()}
    assert [rows[name]["reason"].partition(":")[0] for name in names] == [
        "no face", "", "averaged", "", "averaged", "no person",
    ]  # fmt: skip
    assert rows["a/3.png"]["reason"] == "averaged: into the row of a/2.png"
    mean = unit(vectors(6)[1] + vectors(6)[2])
    np.testing.assert_allclose(rows["a/2.png"]["embedding"], mean, atol=1e-6)
    # What `generate` reads of it: two people.
    pq.write_table(table, tmp_path / "people.parquet")
    people = GivenPeople(str(tmp_path / "people.parquet"))
    assert [one.id for one in next(people.blocks(0, len(people)))] == ["a", "b"]


def test_who_is_shown_is_asked_for_by_folder_or_pattern() -> None:
    assert EmbedJob(images="x", person="folder:2").person == "folder:2"
    for wrong in ("column:who", "folder:0", "pattern:(", "me"):
        with pytest.raises(ValidationError, match="folder:LEVEL|no regular expression"):
            EmbedJob(images="x", person=wrong)


class Stage:
    """Finds a face at `points` in pictures of `seen` pixels, and embeds by noting the points that it is given."""

    def __init__(self, points: np.ndarray, seen: int) -> None:
        self.points, self.seen, self.given = points, seen, np.zeros(0)

    def find(self, shown: list[np.ndarray], batch: int) -> list[Detections]:
        found = []
        for picture in shown:
            count = int(picture.shape[0] == self.seen)
            room = (self.seen - CROP) // 2
            points = np.repeat(self.points[None] + room, count, axis=0).astype(np.float32)
            found.append(Detections(np.tile(np.float32([room, room, room + 9, room + 9]), (count, 1)),
                                    np.ones(count, np.float32), points))  # fmt: skip
        return found

    def embed(self, shown: list[np.ndarray], points: np.ndarray, batch: int) -> np.ndarray:
        self.given = points
        return vectors(len(shown))


@pytest.mark.parametrize("seen", [CROP, 2 * CROP])
def test_an_aligned_crop_is_embedded_as_it_is(seen: int) -> None:
    """Found in the crop, or only with something around it: the template's points leave it as it is."""
    crop = np.zeros((CROP, CROP, 3), np.uint8)
    stage = Stage(TEMPLATE + 5, seen)
    (row,) = find_faces(stage, [crop], 1)
    assert not row["reason"] and row["width"] == CROP
    np.testing.assert_array_equal(stage.given[0], TEMPLATE)
    np.testing.assert_allclose(row["keypoints"], (TEMPLATE + 5).ravel(), atol=1e-4)  # what was found is what is told
    np.testing.assert_allclose(row["bbox"], [0, 0, 9, 9], atol=1e-4)


def test_any_other_picture_is_aligned_by_its_points() -> None:
    off = TEMPLATE + ALIGNED
    stage = Stage(off, CROP)
    find_faces(stage, [np.zeros((CROP, CROP, 3), np.uint8)], 1)
    np.testing.assert_allclose(stage.given[0], off, atol=1e-4)
    stage = Stage(TEMPLATE, 128)
    (row,) = find_faces(stage, [np.zeros((128, 128, 3), np.uint8)], 1)
    np.testing.assert_allclose(stage.given[0], TEMPLATE + 8, atol=1e-4)
    (row,) = find_faces(Stage(TEMPLATE, 500), [np.zeros((CROP, CROP, 3), np.uint8)], 1)
    assert row["reason"].startswith("no face")


def test_embeddings_of_another_recogniser_are_noticed(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Those of the bundle's own that lost their metadata are not complained about."""
    starter = load_bundle("starter")
    reference = Reference.of(starter)
    path = str(tmp_path / "people.parquet")
    from pipelines.plan.people.identities import Identity

    def read(embeddings: np.ndarray) -> str:
        caplog.clear()
        pq.write_table(people_table([Identity(f"p{k}", one) for k, one in enumerate(embeddings)]), path)
        GivenPeople(path, bundle=starter, reference=reference)
        return caplog.text

    assert "probably another's" in read(vectors(4))
    own = np.array([reference.sample(0, k) for k in range(4)])
    assert not read(own)
    assert not read(np.array([unit(one + 0.3 * noise) for one, noise in zip(own, vectors(4))]))
    assert reference.strangeness(own).max() < 0.2 and reference.strangeness(vectors(4)).min() > 0.8


def test_a_bundle_of_avatars_says_so_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(photographs, "_told", set())
    starter: Any = load_bundle("starter")
    with caplog.at_level(logging.WARNING):
        photographs.warn_of_photographs(starter, str(tmp_path))
        photographs.warn_of_photographs(starter, str(tmp_path))
        photographs.warn_of_photographs(load_bundle("null"), str(tmp_path))
    assert caplog.text.count("no photographs") == 1 and "docs/weights.md" in caplog.text


def test_the_worlds_own_pictures_are_avatars(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(photographs, "_told", set())
    starter: Any = load_bundle("starter")
    world, gathered, photos = tmp_path / "world", tmp_path / "gathered", tmp_path / "photos"
    for folder, kind, source in ((world, "world", ""), (gathered, "gathered", world), (photos, "gathered", tmp_path)):
        (folder / "data" / "images").mkdir(parents=True)
        (folder / "manifest.json").write_text(json.dumps({"kind": kind, "job": {"images": str(source)}}))
    (tmp_path / "manifest.json").write_text("not JSON")
    for folder in (world, world / "data" / "images", gathered / "data"):
        photographs.warn_of_photographs(starter, str(folder))
    assert not caplog.text
    photographs.warn_of_photographs(starter, str(photos / "data"))
    assert caplog.text.count("no photographs") == 1
