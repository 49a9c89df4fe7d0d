"""What the detector is taught: assignment, losses, canvases."""

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from models.augment.canvas import compose
from models.card import Card
from models.faces.scrfd import SCRFD, anchors
from models.faces.scrfd_loss import assign, detection_loss, giou
from models.tasks import detector

BOX = np.array([30, 25, 95, 105], np.float32)
POINTS = np.array([[48, 60], [76, 60], [62, 75], [50, 90], [75, 90]], np.float32)


def picture() -> np.ndarray:
    """A face-coloured ellipse with five dots, uint8 [128, 128, 3]."""
    out = np.full((128, 128, 3), 90, np.uint8)
    cv2.ellipse(out, (62, 65), (32, 40), 0, 0, 360, (210, 160, 130), -1)
    for x, y in POINTS.astype(int).tolist():
        cv2.circle(out, (x, y), 3, (40, 20, 20), -1)
    return out


@pytest.mark.parametrize("side", [8, 16, 30, 64, 128, 250, 600])
def test_every_size_of_face_has_an_anchor(side: int) -> None:
    box = torch.tensor([[[150.0 - side / 2, 150 - side / 2, 150 + side / 2, 150 + side / 2]]])
    face, left_out = assign(box, torch.ones(1, 1, dtype=torch.bool), 320, 320)
    mine = (face[0] == 0).nonzero()[:, 0]
    assert len(mine) > 0
    centres, _, sizes = anchors(320, 320)
    octaves = torch.log2(sizes[mine] / min(max(side, 16), 512)).abs()
    assert octaves.max() <= 0.6
    assert (centres[mine] - 150).abs().max() <= max(0.2 * side, 0.7 * 32)
    assert not (left_out[0] & (face[0] >= 0)).any()


def test_a_canvas_without_faces_has_no_positive_anchor() -> None:
    face, left_out = assign(torch.zeros(2, 3, 4), torch.zeros(2, 3, dtype=torch.bool), 128, 128)
    assert (face == -1).all()
    assert not left_out.any()


def test_giou_of_apart_boxes_is_negative() -> None:
    a = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 10]])
    b = torch.tensor([[0.0, 0, 10, 10], [20, 0, 30, 10]])
    overlap, generalized = giou(a, b)
    assert overlap.tolist() == pytest.approx([1.0, 0.0])
    assert generalized.tolist() == pytest.approx([1.0, -1 / 3])


def test_a_face_whose_box_is_still_wrong_is_to_score_a_half(monkeypatch: pytest.MonkeyPatch) -> None:
    """A threshold of one half means a face from the start, also where the boxes hardly overlap."""
    network = SCRFD()
    box = torch.tensor([[[32.0, 32, 96, 96]]])
    face, _ = assign(box, torch.ones(1, 1, dtype=torch.bool), 128, 128)
    count = face.shape[1]
    scores = torch.where(face >= 0, 0.0, -30.0)[..., None]  # of the face's anchors a half, of all others nothing
    boxes = torch.full((1, count, 4), 0.01)
    monkeypatch.setattr(network, "logits", lambda pictures: ([scores], [boxes], [torch.zeros(1, count, 10)]))
    points = torch.zeros(1, 1, 5, 2)
    total, parts = detection_loss(network, torch.zeros(1, 3, 128, 128), box, points, torch.ones(1, 1, dtype=torch.bool))
    assert parts["iou"] < 0.01 and parts["score"] == pytest.approx(0, abs=1e-6)
    assert torch.isfinite(total)


def test_canvas_faces_are_where_it_says() -> None:
    """The dots of the picture lie under the canvas's points, mirrored or not."""
    errors = []
    for draw in range(60):
        canvas = compose(picture(), BOX, POINTS, 160, draw)
        assert canvas.picture.shape == (160, 160, 3)
        for box, points, present in zip(canvas.boxes, canvas.points, canvas.present, strict=True):
            size = np.sqrt((box[2:] - box[:2]).prod())
            if present and size > 60 and (points > 4).all() and (points < 156).all():
                assert points[0, 0] < points[1, 0], "mirrored points keep their sides"
                grey = canvas.picture.mean(axis=-1)
                between = points[:2].mean(axis=0)
                errors.append(grey[int(between[1]), int(between[0])] - grey[int(points[0, 1]), int(points[0, 0])])
    assert len(errors) > 10
    assert np.mean(np.array(errors) > 10) > 0.9, "an eye is darker than the bridge of the nose"


def test_the_same_draw_gives_the_same_canvas() -> None:
    first, again = (compose(picture(), BOX, POINTS, 128, 5) for _ in range(2))
    assert (first.picture == again.picture).all()
    assert (first.boxes == again.boxes).all()


@pytest.mark.slow
def test_a_detector_learns_and_exports(tmp_path: Path) -> None:
    torch.manual_seed(0)
    config = detector.Config(steps=20, batch=8, sides=(96,))
    landmarks = np.zeros((8, 70, 2), np.float32)
    landmarks[:, 36:42], landmarks[:, 42:48] = POINTS[0], POINTS[1]
    landmarks[:, 30], landmarks[:, 48], landmarks[:, 54] = POINTS[2:]
    rows = {"visible": np.stack([picture()] * 8), "bbox": np.stack([BOX] * 8), "landmarks_70": landmarks}
    model = detector.build(config)
    assert isinstance(model, SCRFD)
    optimizer = torch.optim.AdamW(model.parameters(), 2e-3)
    batch, losses = detector.prepare(rows, config), []
    for step in range(12):
        batch["draw"] = np.arange(8)
        value, _ = detector.loss(model, batch, config, step)
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        losses.append(value.item())
    assert losses[-1] < losses[0] * 0.85
    model.eval()
    with torch.inference_mode():
        assert 0 <= detector.validate(model, [rows], config)["recall_iou_0.5"] <= 1
    detector.export(model, config, tmp_path, Card(title="a detector", task="detector"))
    assert (tmp_path / config.file).stat().st_size < 2**20
    assert Card.read(tmp_path / "detector").parameters > 1e5
