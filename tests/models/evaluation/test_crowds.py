"""Frames with people and without: composed as said, counted as said, and the threshold that is chosen on them."""

from pathlib import Path

import numpy as np
import pytest
import torch

from models.evaluation import crowds
from models.landmarks.detect import Detector, Face, Window, load_detector
from models.landmarks.network import LandmarkerConfig, new_landmarker
from models.landmarks.pose import average_head
from models.weights.networks import save_network

SIZE = 64
NOWHERE = Window((0, 0), (1, 1))


def rows(count: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    classes = np.zeros((count, SIZE, SIZE), np.uint8)
    classes[:, 8:56, 12:52] = 1
    head = average_head()[:, :2] * np.array([1, -1]) * 18 + 32
    return {
        "visible": rng.integers(0, 256, (count, SIZE, SIZE, 3), dtype=np.uint8),
        "thermal": np.full((count, SIZE, SIZE), 34, np.float32),
        "classes": classes,
        "landmarks_70": np.tile(head, (count, 1, 1)).astype(np.float32),
    }


@pytest.mark.parametrize("modality", ["rgb", "thermal"])
def test_crowds_hold_one_to_six_people_that_do_not_overlap(modality: str) -> None:
    pool, rng, counts = crowds.people_by_modality(rows(3))[modality], np.random.default_rng(0), set[int]()
    for _ in range(20):
        frame, boxes = crowds.draw_crowd(pool, modality, rng)
        counts.add(len(boxes))
        assert frame.shape[:2] == (480, 640) and (boxes[:, :2] >= 0).all() and (boxes[:, 2:] <= (640, 480)).all()
        for k, box in enumerate(boxes):
            assert all(crowds.intersection_over_smaller(box, other) == 0 for other in boxes[k + 1 :])
            x, y = ((box[:2] + box[2:]) / 2).astype(int)
            assert modality == "rgb" or frame[y, x] == pytest.approx(34, abs=0.01)
    assert len(counts) >= 4 and counts <= set(range(1, 7))


def test_a_domain_without_temperature_has_no_thermal_crowds() -> None:
    data = rows(2)
    del data["thermal"]
    assert list(crowds.people_by_modality(data)) == ["rgb"]


class Oracle(Detector):
    """Answers every face of the last crowd, twice, with given uncertainties, and one face in a frame without people."""

    def __init__(self) -> None:
        self.threshold = 1.0
        self.boxes: list[np.ndarray] = []

    def find(self, image: np.ndarray, *args: object, **options: object) -> list[Face]:  # type: ignore[override]
        def face(box: np.ndarray, uncertainty: float) -> Face:
            return Face(box.reshape(2, 2), np.ones(2), uncertainty, NOWHERE)

        boxes, self.boxes = self.boxes, []
        twice = [face(box, u) for box in boxes for u in (0.1, 0.5)]
        return sorted(twice, key=lambda f: f.uncertainty) if boxes else [face(np.array([0.0, 0, 9, 9]), 0.3)]


def test_second_boxes_and_faces_on_textures_are_false(monkeypatch: pytest.MonkeyPatch) -> None:
    oracle, draw_crowd = Oracle(), crowds.draw_crowd

    def draw_and_remember(*args: object) -> tuple[np.ndarray, np.ndarray]:
        frame, boxes = draw_crowd(*args)  # type: ignore[arg-type]
        oracle.boxes = list(boxes)
        return frame, boxes

    monkeypatch.setattr(crowds, "draw_crowd", draw_and_remember)
    found = crowds.count_faces(oracle, crowds.people_by_modality(rows(2))["rgb"], "rgb", 6)
    assert found.present == len(found.hits) == len(found.extra) > 6 and len(found.empty) == 6
    assert found.at(0.2) == {"recall": 1.0, "false_per_crowd": 0.0, "false_per_texture": 0.0}
    assert found.at(0.4)["false_per_texture"] == 1.0
    assert found.at(0.6)["false_per_crowd"] == pytest.approx(found.present / 6)


def test_the_threshold_is_where_faces_are_found_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    save_network(
        new_landmarker(LandmarkerConfig(size=48, width=0.25, head=32, outputs="softplus")),
        tmp_path / "landmarker.safetensors",
    )
    answer = crowds.FaceCounts(np.array([3e-4, 4e-4]), np.array([9e-4]), np.array([1e-3]), present=2, frames=1)
    monkeypatch.setattr(crowds, "count_faces", lambda *args: answer)
    threshold = crowds.fit_threshold(tmp_path, rows(2), 1)
    assert 4e-4 < threshold < 9e-4
    assert load_detector(tmp_path).threshold == threshold
