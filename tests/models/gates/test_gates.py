"""Every gate closes on what it guards against, and on a missing number."""

import json

import numpy as np
import pytest

from models.classes import CLASSES
from models.gates.duplicates import difference_hash, least_differences
from models.gates.regions import spread_in
from models.gates.settings import Gates, Settings, columns
from models.gates.stage import Stage, _add_degrees, reject_reason
from models.layers import Layer, layers_of
from models.stages import NoOptions
from models.temperature import to_centikelvin
from pipelines.rows.record import reasons

GOOD = {"identity": 0.8, "detection": 0.9, "faces": 1.0, "face_area": 0.3, "celsius_warm": 34.0, "clipped_warm": 0.0}


def test_a_good_sample_passes() -> None:
    assert reject_reason(GOOD, Gates()) == ""


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"faces": 0.0}, "no face"),
        ({"faces": 2.0}, "several faces: 2"),
        ({"detection": 0.1}, "detection"),
        ({"detection": float("nan")}, "detection"),
        ({"identity": 0.1}, "identity"),
        ({"identity": float("nan")}, "identity"),
        ({"face_area": 0.9}, "face area out of range: 0.90, 0.08 to 0.75 wanted"),
        ({"face_area": 0.01}, "face area out of range: 0.01"),
        ({"face_area": float("nan")}, "face area"),
        ({"celsius_warm": 55.0}, "in warm out of range: 55.0 degC"),
        ({"celsius_warm": float("nan")}, "temperature in warm"),
        ({"celsius_warm": 5.0}, "in warm out of range: 5.0 degC, 15.0 to 40.0 wanted"),
        ({"clipped_warm": 0.5}, "clipped in warm: 50%, at most 5% wanted"),
        ({"clipped_warm": float("nan")}, "clipped in warm"),
    ],
)
def test_each_gate_closes(change: dict[str, float], word: str) -> None:
    assert word in reject_reason({**GOOD, **change}, Gates())


@pytest.mark.parametrize(
    "at_the_limit",
    [
        {"faces": 1.0, "detection": 0.5, "identity": 0.35},
        {"face_area": 0.08},
        {"face_area": 0.75},
        {"celsius_warm": 15.0},
        {"celsius_warm": 40.0},
        {"clipped_warm": 0.05},
        {"apart_warm": 0.1},
        {"regions_warm": 3.0},
        {"pose": 5.0},
    ],
)
def test_what_is_just_at_a_limit_passes(at_the_limit: dict[str, float]) -> None:
    gates = Gates(pose=5.0, regions=3.0, agreement=0.1)
    values = {**GOOD, "pose": 0.0, **at_the_limit}
    assert reject_reason(values, gates) == ""
    above = {
        name: value * (1 + 1e-6) for name, value in values.items() if name in ("apart_warm", "regions_warm", "pose")
    }
    assert bool(reject_reason(values | above, gates)) == any(above.values())


def test_a_gate_may_be_opened_and_closed_altogether() -> None:
    """Every number that a limit can have is a limit, and no other is taken."""
    open_ = Gates(attempts=1, identity=-1, detection=0, faces=99, face_area=(0, 1), celsius=(-50, 90), clipped=1)
    assert reject_reason({**GOOD, "identity": -1, "detection": 0, "clipped_warm": 1.0, "faces": 9}, open_) == ""
    closed = Gates(identity=1, detection=1, clipped=0, faces=1)
    assert reject_reason({**GOOD, "identity": 1, "detection": 1}, closed) == ""
    for wrong in ({"attempts": 0}, {"identity": -1.1}, {"identity": 1.1}, {"detection": -0.1}, {"detection": 1.1},
                  {"faces": 0}, {"clipped": -0.1}, {"clipped": 1.1}):  # fmt: skip
        with pytest.raises(ValueError, match="Input should be"):
            Gates.model_validate(wrong)
    assert Gates().attempts == 3


def test_reasons_are_counted_by_their_kind_in_whole_words() -> None:
    changes = ({"identity": 0.1}, {"celsius_warm": 55.0}, {"faces": 2.0}, {"clipped_warm": 0.5})
    told = np.array([reject_reason({**GOOD, **change}, Gates()) for change in changes], object)
    assert list(reasons({"reject": told}, np.arange(4))) == [
        "identity too low", "face temperature in warm out of range", "several faces", "person clipped in warm",
    ]  # fmt: skip


def rows(*celsius: float) -> dict[str, np.ndarray]:
    """Return two rows with a face of these temperatures, layer by layer."""
    embedding = np.eye(2, 512, dtype=np.float32)
    classes = np.zeros((2, 8, 8), np.uint8)
    classes[:, 2:6, 2:6] = 1
    layers = [to_centikelvin(np.where(classes == 1, degrees, 10.0)) for degrees in celsius]
    return {
        "embedding": 3 * embedding,
        "found_embedding": embedding,
        "detection_score": np.array([0.9, 0.9], np.float32),
        "faces": np.array([1, 1], np.int32),
        "classes": classes,
        "thermal": np.stack(layers, axis=1),
        "thermal_clipped": np.zeros((2, len(celsius)), np.float32),
    }


GATES = Stage({}, NoOptions(), dtype="float32", threads=1)


def test_the_stage_measures_and_rejects_row_by_row() -> None:
    batch = rows(33.0)
    batch["found_embedding"][1] *= -1
    out = GATES(batch, Settings(layers=layers_of(["warm"])), 8)
    assert set(out) == {"scores", "reject"}
    first = json.loads(out["scores"][0])
    assert first["identity"] == 1.0 and first["celsius_warm"] == 33.0 and first["face_area"] == 0.25
    assert list(out["reject"]) == ["", "identity too low: -1.00, at least 0.35 wanted"]


def test_every_layer_is_measured_under_its_own_name() -> None:
    layers = (Layer("22", 0), Layer("22", 5), Layer("22.5", 0))
    out = GATES(rows(33.0, 60.0, 34.0), Settings(layers=layers), 8)
    scores = json.loads(out["scores"][0])
    assert [value for name, value in scores.items() if name.startswith("celsius_")] == [33.0, 60.0, 34.0]
    assert "60.0 degC" in out["reject"][0]


def test_what_is_not_there_is_not_measured() -> None:
    batch = {name: values for name, values in rows(60.0).items() if name not in ("classes", "thermal_clipped")}
    out = GATES(batch, Settings(layers=layers_of(["warm"])), 8)
    assert set(json.loads(out["scores"][0])) == {"identity", "detection", "faces"}
    assert list(out["reject"]) == ["", ""]


def test_the_pose_is_held_to_the_angles_that_were_asked_for() -> None:
    measured = rows(33.0) | {
        "pose": np.array([[10.0, 0.0, 0.0], [31.0, 2.0, 0.0]], np.float32),
        "pose_asked": np.array([[12.0, np.nan, np.nan], [20.0, 0.0, np.nan]], np.float32),
    }
    out = Stage({}, NoOptions())(measured, Settings(layers=layers_of(["warm"]), pose=5.0), 2)
    assert [json.loads(text)["pose"] for text in out["scores"]] == [2.0, 11.0]
    assert out["reject"][0] == "" and out["reject"][1] == "pose off: 11.0 degrees, at most 5 wanted"
    # A head that was not found has no pose, and none was asked for is none that is off.
    lost = measured | {"pose": np.full((2, 3), np.nan, np.float32)}
    assert Stage({}, NoOptions())(lost, Settings(layers=layers_of(["warm"]), pose=5.0), 2)["reject"][0].startswith(
        "pose"
    )
    free = measured | {"pose_asked": np.full((2, 3), np.nan, np.float32)}
    assert list(Stage({}, NoOptions())(free, Settings(layers=layers_of(["warm"]), pose=5.0), 2)["reject"]) == ["", ""]


def test_parts_of_the_face_are_held_to_their_own_spread_in_such_a_room() -> None:
    measured = rows(33.0, 33.0)
    measured["classes"][1, 2:6, 2:4] = CLASSES.index("NOSE")
    nose = measured["classes"][1] == CLASSES.index("NOSE")
    measured["thermal"][1, :, nose] -= 400
    face = np.isin(measured["classes"][1], range(1, 12))
    difference = -4.0 * (1 - nose.sum() / face.sum())
    asked = Settings(layers=layers_of(["warm", "5"]), regions=1.5)
    assert "regions_warm" not in json.loads(GATES(measured, asked.model_copy(update={"regions": None}), 2)["scores"][1])
    out = GATES(measured, asked, 2)
    scores = json.loads(out["scores"][1])
    for condition in ("warm", "5"):
        mean, spread = spread_in(condition)["nose"]
        assert scores[f"regions_{condition}"] == pytest.approx(abs(difference - mean) / spread, abs=0.02)
    # A nose two kelvin below the face is what a cold room makes of it, and not a warm one.
    assert scores["regions_5"] < 1.5 < scores["regions_warm"]
    assert out["reject"][0] == "" and out["reject"][1].startswith("parts of the face apart in warm: ")
    assert out["reject"][1].endswith("standard deviations, at most 1.5 wanted")
    # A part without a reading is like no face.
    measured["thermal"][1, :, nose] = 0
    assert "apart" in GATES(measured, asked, 2)["reject"][1] or "temperature" in GATES(measured, asked, 2)["reject"][1]


def test_a_face_too_small_for_parts_is_not_apart() -> None:
    classes = np.full((4, 4), CLASSES.index("BACKGROUND"))
    classes[1, :2] = CLASSES.index("SKIN")
    values = dict[str, float]()
    _add_degrees(values, np.full((1, 4, 4), 34.0, np.float32), classes, [Layer("warm")], Gates(regions=0.5))
    assert values == {"celsius_warm": 34.0, "regions_warm": 0.0}


def test_a_gate_on_the_pose_has_the_landmarks_run_before_it() -> None:
    flow = columns(NoOptions(), Settings(pose=5.0), {})
    assert {"pose", "pose_asked"} <= set(flow.reads)
    assert "pose" not in columns(NoOptions(), Settings(), {}).reads
    strict = columns(NoOptions(), Settings(regions=3.0), {})
    assert {"classes", "thermal"} <= set(strict.reads) and "thermal" not in strict.reads_if_there


def test_the_halves_of_a_pair_are_held_to_each_other() -> None:
    measured = rows(33.0, 34.0) | {"apart_70": np.array([[0.02, 0.03], [0.02, 0.3]], np.float32)}
    asked = Settings(layers=layers_of(["warm", "cold"]), agreement=0.1)
    assert "apart_70" in columns(NoOptions(), asked, {}).reads
    assert "apart_70" not in columns(NoOptions(), Settings(), {}).reads
    out = GATES(measured, asked, 2)
    assert json.loads(out["scores"][0])["apart_cold"] == 0.03
    assert list(out["reject"]) == ["", "halves apart in cold: 0.300, at most 0.1 wanted"]
    # Without a face there is nothing that agrees.
    lost = GATES(measured | {"apart_70": np.full((2, 2), np.nan, np.float32)}, asked, 2)
    assert lost["reject"][0].startswith("halves apart in warm")


def test_gates_that_are_not_asked_for_change_no_recipe() -> None:
    assert not {"agreement", "duplicates"} & set(Gates().model_dump()) and "pose" in Gates().model_dump()
    assert Settings.model_validate(Gates(agreement=0.1).model_dump()).agreement == 0.1


def test_a_copy_and_a_relit_copy_are_duplicates_and_another_picture_is_none() -> None:
    rng = np.random.default_rng(0)
    one, other = (np.kron(rng.integers(60, 200, (8, 8, 3)), np.ones((8, 8, 1))).astype(np.uint8) for _ in range(2))
    relit = (one * 0.8 + 10).astype(np.uint8)
    hashes = difference_hash(np.stack([one, other, relit, one, one]))
    people = np.array(["a", "a", "a", "b", "a"], object)
    found = least_differences(hashes, people, 0.1)
    assert list(np.flatnonzero(found < 0.1)) == [2, 4] and found[4] == 0 and found[1] > 0.3
    assert list(np.isnan(found)) == [True, False, False, True, False]
    assert np.isnan(least_differences(hashes, np.arange(5), 0.1)).all()


def test_how_far_a_picture_is_from_the_persons_others_is_a_score() -> None:
    rng = np.random.default_rng(1)
    one, other = (np.kron(rng.integers(60, 200, (8, 8, 3)), np.ones((8, 8, 1))).astype(np.uint8) for _ in range(2))
    measured = {
        "visible": np.stack([one, other, one]),
        "identity_id": np.array(["a", "a", "a"], object),
        "scores": np.array(['{"faces": 1.0}'] * 3, object),
        "reject": np.array([""] * 3, object),
    }
    asked = Settings(duplicates=0.1)
    assert columns(NoOptions(), asked, {}).compares == ("visible", "identity_id")
    assert columns(NoOptions(), Settings(), {}).compares == ()
    out = GATES.compare(measured, asked)
    scores = [json.loads(text) for text in out["scores"]]
    assert scores[0] == {"faces": 1.0} and scores[1]["difference"] > 0.3 and scores[2]["difference"] == 0
    assert list(out["reject"]) == ["", "", "near-duplicate within the person: 0.000, at least 0.1 wanted"]
    # Pictures without pixels are compared with nothing.
    none = measured | {"visible": np.zeros((3, 0, 0, 3), np.uint8)}
    assert list(GATES.compare(none, asked)["reject"]) == [""] * 3
