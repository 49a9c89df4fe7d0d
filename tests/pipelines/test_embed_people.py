"""Several pictures of a person are one identity; aligned crops are embedded as they are; whose embeddings they are is noticed."""

import json
import logging
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pydantic import ValidationError

from models.errors import UserError
from models.faces.align import CROP, TEMPLATE, portrait
from models.faces.decode import Detections
from models.visible.faceclip.faces import align_faces
from models.weights.bundle import load_bundle
from pipelines.config import photographs
from pipelines.embed import FACE_SCHEMA, PhotoEmbedder, Summary, _average_people
from pipelines.pictures.codecs import decode, encode_jpeg
from pipelines.pictures.faces import ALIGNED, find_faces
from pipelines.plan.embed import EmbedJob
from pipelines.plan.people.given import GivenPeople
from pipelines.plan.people.identities import Reference, people_table, recogniser_of, unit


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
    table, split = _average_people(pictures(names, {"a/1.png": "no face: none was found"}), person)
    assert split == ["a", "b"]  # whose pictures are of as many strangers
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


def shown(names: list[str], who: list[int], spread: float = 0.5) -> pa.Table:
    """Return rows of pictures of people, whose embeddings are about each person's own."""
    table, people, noise = pictures(names), vectors(9, seed=1), vectors(len(names), seed=2)
    rows = [row | {"embedding": unit(people[k] + spread * one)} for row, k, one in zip(table.to_pylist(), who, noise)]
    return pa.Table.from_pylist(rows, schema=FACE_SCHEMA)


def test_a_picture_of_somebody_else_is_left_out_of_the_average() -> None:
    names = ["a/1.png", "a/2.png", "a/3.png", "a/4.png", "b/1.png", "b/2.png", "c/1.png"]
    given = shown(names, [0, 1, 1, 1, 2, 3, 4])
    table, split = _average_people(given, "folder:1")
    rows = {row["picture"]: row for row in table.to_pylist()}
    assert rows["a/1.png"]["embedding"] is None and split == ["b"]
    assert (
        rows["a/1.png"]["reason"].startswith("outlier: cosine ")
        and "others of a, below 0.2" in rows["a/1.png"]["reason"]
    )
    assert rows["a/3.png"]["reason"] == "averaged: into the row of a/2.png"
    mean = unit(np.mean([row["embedding"] for row in given.to_pylist()[1:4]], axis=0))
    np.testing.assert_allclose(rows["a/2.png"]["embedding"], mean, atol=1e-6)
    assert abs(rows["a/1.png"]["agreement"]) < 0.2 and rows["a/2.png"]["agreement"] > 0.5
    # Of two that do not agree nothing says which is right: both are kept, and that is said.
    assert (
        rows["b/1.png"]["embedding"]
        and rows["b/2.png"]["reason"].startswith("averaged")
        and rows["c/1.png"]["embedding"]
    )
    assert rows["c/1.png"]["agreement"] is None
    # The threshold is asked for.
    assert _average_people(given, "folder:1", -1.0)[1] == []
    assert not any("outlier" in row["reason"] for row in _average_people(given, "folder:1", -1.0)[0].to_pylist())
    told = str(Summary(7, 6, {"outlier": 1}, 0, 3, ("a/1.png",), ("b",)))
    assert "outliers: a/1.png" in told and "no two pictures agree, and nothing says which is right: b." in told


def test_embeddings_of_another_recogniser_are_refused_by_their_space(tmp_path: Path) -> None:
    """Also where a copy lost the metadata, and in one file of several."""
    bundle = load_bundle("starter")
    own = recogniser_of(bundle)
    for name, space in (("one", own), ("two", "0" * 16)):
        people = pa.table({"identity_id": [name], "embedding": list(vectors(1)), "space": [space]})
        pq.write_table(people, tmp_path / f"{name}.parquet")
    assert len(GivenPeople(str(tmp_path / "one.parquet"), bundle=bundle)) == 1
    for uri, where in ((tmp_path / "two.parquet", "two.parquet"), (tmp_path, "two.parquet")):
        with pytest.raises(UserError, match=f"{where}: its embeddings were made with another .*--bundle starter, or"):
            GivenPeople(str(uri), bundle=bundle)


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


def test_a_reference_is_written_of_each_face_where_it_is_asked_for(tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    for name, side in (("face", 300), ("none", 200)):
        cv2.imwrite(str(tmp_path / f"{name}.png"), draw.integers(0, 255, (side, side, 3), np.uint8))
    link = SimpleNamespace(batch=lambda attempt: 2, load=lambda threads: Stage(TEMPLATE, 300))
    for reference in (False, True):
        job = EmbedJob(images=str(tmp_path), reference=reference)
        plan = SimpleNamespace(job=job, recipe=SimpleNamespace(size=96), link=link, finder=None)
        table = PhotoEmbedder(plan, [0], 1).table(["face.png", "none.png"])
        assert ("reference" in table.column_names) == reference
    face, none = table.to_pylist()
    assert none["reference"] is None and none["reason"].startswith("no face")
    picture = cv2.cvtColor(cv2.imread(str(tmp_path / "face.png")), cv2.COLOR_BGR2RGB)
    cut = portrait(picture, np.reshape(face["keypoints"], (5, 2)), 96)
    assert decode(face["reference"]).shape == (96, 96, 3) and face["reference"] == encode_jpeg(cut)


def test_a_crop_is_written_with_consent_and_licence_where_it_is_asked_for(tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    for name, side in (("face", 300), ("none", 200)):
        cv2.imwrite(str(tmp_path / f"{name}.png"), draw.integers(0, 255, (side, side, 3), np.uint8))
    link = SimpleNamespace(batch=lambda attempt: 2, load=lambda threads: Stage(TEMPLATE, 300))
    job = EmbedJob(images=str(tmp_path), crop=True, consent="study 7", licence="cc-by-4.0")
    table = PhotoEmbedder(SimpleNamespace(job=job, link=link, finder=None), [0], 1).table(["face.png", "none.png"])
    face, none = table.to_pylist()
    picture = cv2.cvtColor(cv2.imread(str(tmp_path / "face.png")), cv2.COLOR_BGR2RGB)
    (cut,) = align_faces([picture], np.reshape(face["keypoints"], (1, 5, 2)))
    assert face["crop"] == encode_jpeg(cut) and decode(face["crop"]).shape == (448, 448, 3)
    assert (face["consent"], face["licence"]) == ("study 7", "cc-by-4.0")
    assert none["crop"] is none["consent"] is none["licence"] is None
    # A photograph in grey is no face for FaceCLIP, and is one for ArcFace.
    cv2.imwrite(str(tmp_path / "grey.png"), cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY))
    (grey,) = PhotoEmbedder(SimpleNamespace(job=job, link=link, finder=None), [0], 1).table(["grey.png"]).to_pylist()
    assert grey["reason"].startswith("no colour: a picture in grey")
    assert grey["crop"] is grey["consent"] is grey["embedding"] is None
    alone = SimpleNamespace(job=EmbedJob(images=str(tmp_path)), link=link, finder=None)
    assert PhotoEmbedder(alone, [0], 1).table(["grey.png"])["reason"].to_pylist() == [""]
    for told in ({"consent": "study 7"}, {"licence": "cc-by-4.0"}):
        with pytest.raises(
            ValueError, match="is written beside the crops of faces, and none are asked for: add --crop"
        ):
            EmbedJob(images="x", **told)
    # What is kept is part of what the run is told by; what is not asked for is not.
    assert EmbedJob(images="x").kept == {} and job.kept == {"crop": True, "consent": "study 7", "licence": "cc-by-4.0"}
