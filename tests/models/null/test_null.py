"""The kinds without weights: of each row's name alone, and in the shapes of the real ones."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from models import stages
from models.columns import Columns
from models.layers import Layer, layers_of
from models.null import kinds as null
from models.stages import STAGES
from tests.models.rows_of import check_columns

NULL = [stage for stage, kinds in STAGES.items() if "null" in kinds]
SIZE = 48
LAYERS = (*layers_of(["warm", "cold", "22.5"]), Layer("warm", 1))


def people(names: Sequence[str]) -> Columns:
    vectors = np.random.default_rng(0).standard_normal((len(names), 512)).astype(np.float32)
    return {
        "noise_id": np.array(names, object),
        "identity_id": np.array(names, object),
        "embedding": vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9),
    }


def run_stage(stage: str, rows: Columns, batch: int = 4, layers: Sequence[Layer] = LAYERS, **options: Any) -> Columns:
    """Return what the null kind of `stage` writes."""
    kind = stages.import_settings(STAGES[stage]["null"])
    asked = {"size": SIZE, "layers": tuple(layers)}
    settings = kind.Settings(**{name: value for name, value in asked.items() if name in kind.Settings.model_fields})
    loaded = kind.Options(**options)
    found = stages.import_stage(STAGES[stage]["null"])({}, loaded, dtype="float32", threads=1)(rows, settings, batch)
    assert set(found) == set(kind.columns(loaded, settings, {}).writes)
    return found


def chain(names: Sequence[str], batch: int = 4) -> Columns:
    """Return rows through every null stage."""
    rows = people(names)
    for stage in NULL:
        rows = rows | run_stage(stage, rows, batch)
    return rows


@pytest.mark.parametrize("count", [0, 1, 3])
def test_every_stage_writes_what_the_vocabulary_says(count: int) -> None:
    rows = people([f"row-{number}" for number in range(count)])
    for stage in NULL:
        found = run_stage(stage, rows)
        check_columns(found, found, rows=count, layers=len(LAYERS), size=SIZE)
        rows |= found


def test_rows_are_of_their_names_and_of_nothing_else() -> None:
    first, again, turned = chain(["a", "b"]), chain(["a", "b"], batch=1), chain(["b", "x", "a"])
    for name, values in first.items():
        if name != "embedding":
            np.testing.assert_array_equal(values, again[name])
    for name in ("visible", "thermal"):
        np.testing.assert_array_equal(first[name][0], turned[name][2])
        np.testing.assert_array_equal(first[name][1], turned[name][0])
        assert not np.array_equal(first[name][0], first[name][1])


def test_layers_of_a_row_differ_and_are_their_own() -> None:
    rows = people(["a"])
    rows |= run_stage("visible", rows)
    found = run_stage("thermal", rows)["thermal"][0]
    pairs = [(k, other) for k in range(len(LAYERS)) for other in range(k)]
    assert not [(k, other) for k, other in pairs if np.array_equal(found[k], found[other])]
    alone = run_stage("thermal", rows, layers=LAYERS[2:3])["thermal"][0]
    np.testing.assert_array_equal(found[2], alone[0])
    face = found[:, SIZE // 2, SIZE // 2] / 100 - 273.15
    np.testing.assert_allclose(face, [34, 29, 27 + 22.5 / 4, 34], atol=0.3)


def test_thermal_pictures_of_pictures_without_names_follow_from_the_pictures() -> None:
    rows = people(["a", "b"])
    visible = run_stage("visible", rows)["visible"]
    both = run_stage("thermal", {"visible": visible})["thermal"]
    alone = run_stage("thermal", {"visible": visible[1:]})["thermal"]
    np.testing.assert_array_equal(both[1], alone[0])
    assert not np.array_equal(both[0], both[1])


def test_the_recogniser_echoes_who_was_asked_for() -> None:
    rows = people(["a", "b"])
    rows |= run_stage("visible", rows)
    np.testing.assert_array_equal(run_stage("faces", rows)["found_embedding"], rows["embedding"])


def test_the_recogniser_tells_pictures_apart_by_every_pixel() -> None:
    same = np.zeros((3, SIZE, SIZE, 3), np.uint8)
    same[1, -1, -1] = 1
    found = run_stage("faces", {"visible": same})["found_embedding"]
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, rtol=1e-5)
    np.testing.assert_array_equal(found[0], found[2])
    assert abs(float(found[0] @ found[1])) < 0.3


def test_points_lie_in_the_face_and_the_face_in_the_classes() -> None:
    rows = chain(["a"])
    x0, y0, x1, y1 = rows["bbox"][0]
    for name in ("keypoints", "landmarks_70"):
        points = rows[name][0]
        assert (points > (x0, y0)).all() and (points < (x1, y1)).all()
        assert len(np.unique(points, axis=0)) == len(points)
    y, x = np.nonzero(rows["classes"][0])
    assert (x0 <= x.min() + 1 and x.max() <= x1) and (y0 <= y.min() + 1 and y.max() <= y1)


def test_rows_alone_have_pictures_without_pixels() -> None:
    rows = people(["a", "b"])
    rows |= run_stage("visible", rows, pictures=False)
    for stage in NULL[NULL.index("visible") + 1 :]:
        found = run_stage(stage, rows)
        check_columns(found, found, rows=2, layers=len(LAYERS), size=0)
        rows |= found


def test_people_are_isotropic() -> None:
    known = null.Faces.reference(stages.NoOptions(), {})
    np.testing.assert_array_equal(known["components"] * known["scales"], np.eye(512))
    assert not known["mean"].any()
