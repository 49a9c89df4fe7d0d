"""The ControlNet's picture: axes, background and framing as the published ones have them, and ours onto landmarks."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from models.errors import EnvironmentFault
from models.landmarks.pose import estimate_pose
from models.synthworld.sampling.person import person_from_measures
from models.synthworld.sampling.scene import Scene, View
from models.synthworld.shape.figure import figure
from models.synthworld.shape.framing import framing
from models.synthworld.shape.landmarks import landmarks
from models.visible import normals
from models.visible.normals import (
    FILE,
    average_measures,
    draw_normals,
    frame_onto,
    frame_portrait,
    mirror_normals,
    read_framing,
)

SIZE = 64
VIEW = View(pitch=4.0, roll=6.0, shift_x=0.07)


@pytest.fixture(scope="module")
def frontal() -> np.ndarray:
    """The average head, frontal, uint8 [S, S, 3]."""
    return (draw_normals(average_measures()[None], [View()], SIZE)[0] * 255).round().byte().permute(1, 2, 0).numpy()


def points_of(scene: Scene) -> np.ndarray:
    return framing(scene.view, SIZE).project(landmarks(figure(scene))[0])[0].numpy()


def test_axes_and_background_are_the_published_ones(frontal: np.ndarray) -> None:
    assert frontal[0, 0].tolist() == [127, 127, 127] and frontal[SIZE // 3, 2].tolist() == [127, 127, 127]
    row = frontal[SIZE // 2].astype(int)
    inside = np.flatnonzero((row != 127).any(axis=1))
    left, middle, right = row[inside[2]], row[SIZE // 2], row[inside[-3]]
    assert left[0] < 100 < 155 < right[0]  # red: x to the image right
    assert middle[2] > 200  # blue: to the camera
    column = frontal[:, SIZE // 2].astype(int)
    top = np.flatnonzero((column != 127).any(axis=1))[0]
    assert column[top + 1, 1] > 170  # green: up
    # The neck runs out of the picture; nothing dressed is there.
    assert (frontal[-1, SIZE // 2 - 4 : SIZE // 2 + 4] != 127).any()


@pytest.mark.parametrize("view", [VIEW, replace(VIEW, yaw=35.0, scale=0.3, shift_y=-0.1)])
def test_faces_lie_where_ffhq_puts_them(view: View) -> None:
    """FFHQ's rule, written out as its script has it: the crop of the framed face is the whole picture."""
    scene = frame_portrait(Scene(person_from_measures(average_measures()), view))
    points = points_of(scene)
    eyes = [points[36:42].mean(axis=0), points[42:48].mean(axis=0)]
    eye_to_eye, middle = eyes[1] - eyes[0], (eyes[0] + eyes[1]) / 2
    eye_to_mouth = (points[48] + points[54]) / 2 - middle
    size = 2 * max(np.hypot(*eye_to_eye) * 2.0, np.hypot(*eye_to_mouth) * 1.8)
    np.testing.assert_allclose(size, SIZE, rtol=1e-4)
    np.testing.assert_allclose(middle + 0.1 * eye_to_mouth, SIZE / 2, atol=1e-3)
    assert (scene.view.yaw, scene.view.pitch, scene.view.roll) == (view.yaw, view.pitch, view.roll)


def test_a_head_is_laid_onto_landmarks() -> None:
    """Drawn from the landmarks of another picture of the same head it lies where that one lay."""
    person = person_from_measures(average_measures())
    true = points_of(Scene(person, replace(VIEW, yaw=20.0, scale=0.4, shift_y=0.1)))
    yaw, pitch, roll = map(float, estimate_pose(true[None])[0])
    laid = points_of(frame_onto(Scene(person, View(yaw=yaw, pitch=pitch, roll=roll)), true, SIZE))
    assert np.linalg.norm(laid[17:68] - true[17:68], axis=1).mean() < 0.02 * SIZE


def test_the_mirror_of_a_picture_is_the_picture_of_the_mirror() -> None:
    left, right = (
        (draw_normals(average_measures()[None], [View(yaw=yaw)], SIZE, "view") * 255).round().byte()
        for yaw in (25.0, -25.0)
    )
    pictures = [values.permute(0, 2, 3, 1).numpy() for values in (left, right)]
    difference = np.abs(mirror_normals(pictures[0]).astype(int) - pictures[1])
    assert (difference.max(axis=-1) <= 12).mean() > 0.95
    assert mirror_normals(pictures[0])[0, 0, 0].tolist() == [127, 127, 127]


def test_large_pictures_are_enlarged_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(normals, "FINEST", 48)
    small, large = (draw_normals(average_measures()[None], [View()], size, "view") for size in (48, 96))
    assert large.shape == (1, 3, 96, 96)
    back = torch.nn.functional.interpolate(large, size=(48, 48), mode="area")
    assert (back - small).abs().mean() < 0.02


def test_how_pictures_are_framed_is_said_beside_the_weights(tmp_path: Path) -> None:
    assert read_framing(tmp_path) == "ffhq"
    (tmp_path / FILE).write_text(json.dumps({"framing": "view"}))
    assert read_framing(tmp_path) == "view"
    (tmp_path / FILE).write_text(json.dumps({"framing": "flame"}))
    with pytest.raises(EnvironmentFault, match="framing is 'flame'"):
        read_framing(tmp_path)
