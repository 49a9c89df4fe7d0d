"""Every gate closes on what it guards against, and on a missing number."""

import json

import numpy as np
import pytest
from pipelines.record import reasons

from models.gates import Gates, GateStage, reason
from models.temperature import to_centikelvin

GOOD = {"identity": 0.8, "detection": 0.9, "faces": 1.0, "face_area": 0.3, "celsius_warm": 34.0, "clipped_warm": 0.0}


def test_a_good_sample_passes() -> None:
    assert reason(GOOD, Gates()) == ""


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"faces": 0.0}, "no face"),
        ({"faces": 2.0}, "several faces: 2"),
        ({"detection": 0.1}, "detection"),
        ({"identity": 0.1}, "identity"),
        ({"identity": float("nan")}, "identity"),
        ({"face_area": 0.9}, "face area"),
        ({"celsius_warm": 55.0}, "in warm out of range: 55.0 degC"),
        ({"celsius_warm": float("nan")}, "temperature in warm"),
        ({"clipped_warm": 0.5}, "clipped in warm"),
    ],
)
def test_each_gate_closes(change: dict[str, float], word: str) -> None:
    assert word in reason({**GOOD, **change}, Gates())


def test_reasons_are_counted_by_their_kind_in_whole_words() -> None:
    changes = ({"identity": 0.1}, {"celsius_warm": 55.0}, {"faces": 2.0}, {"clipped_warm": 0.5})
    told = np.array([reason({**GOOD, **change}, Gates()) for change in changes], object)
    assert list(reasons({"reject": told}, np.arange(4))) == [
        "identity too low", "face temperature in warm out of range", "several faces", "person clipped in warm",
    ]  # fmt: skip


def test_the_stage_measures_and_keeps_earlier_reasons() -> None:
    embedding = np.eye(2, 512, dtype=np.float32)
    classes = np.zeros((2, 8, 8), np.uint8)
    classes[:, 2:6, 2:6] = 1
    batch = {
        "embedding": 3 * embedding,
        "found_embedding": embedding,
        "detection_score": np.array([0.9, 0.9], np.float32),
        "faces": np.array([1, 1], np.int32),
        "classes": classes,
        "thermal": to_centikelvin(np.where(classes == 1, 33.0, 10.0))[:, None],
        "thermal_clipped": np.zeros((2, 1), np.float32),
        "reject": np.array(["", "picture cannot be read"], dtype=object),
    }
    out = GateStage(gates=Gates(), conditions=("warm",))(batch)
    first = json.loads(out["scores"][0])
    assert first["identity"] == 1.0 and first["celsius_warm"] == 33.0 and first["face_area"] == 0.25
    assert list(out["reject"]) == ["", "picture cannot be read"]
