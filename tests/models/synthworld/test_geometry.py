"""The camera, the people and the field by themselves."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from models.synthworld.sampling.person import sample_person
from models.synthworld.sampling.scene import Scene, View
from models.synthworld.shape import march
from models.synthworld.shape.cover import add_covers
from models.synthworld.shape.figure import figure
from models.synthworld.shape.framing import framing
from models.synthworld.shape.kernels import can_compile, kernel, pack_numbers
from models.synthworld.shape.landmarks import MIRROR_70
from models.synthworld.shape.march import distance, trace

ANGLE = st.floats(-90, 90)


@settings(max_examples=40)
@given(ANGLE, st.floats(-35, 35), st.floats(-20, 20), st.floats(0.2, 0.9), st.floats(-0.2, 0.2), st.floats(0.6, 6.6))
def test_rays_and_projection_are_inverse(
    yaw: float, pitch: float, roll: float, scale: float, shift: float, away: float
) -> None:
    frame = framing(
        View(yaw=yaw, pitch=pitch, roll=roll, scale=scale, shift_x=shift, shift_y=-shift, distance_m=away), 128
    )
    px, py = torch.tensor([0.5, 64.0, 100.3]), torch.tensor([127.5, 64.0, 3.0])
    points = torch.stack(frame.rays(px, py), -1) * (away * 10) + torch.tensor(frame.origin)
    pixels, distances = frame.project(points)
    assert torch.allclose(pixels, torch.stack([px, py], -1), atol=0.05)
    assert torch.allclose(distances, torch.full((3,), away * 10), rtol=1e-3)


@settings(max_examples=20)
@given(st.floats(5, 80))
def test_signs_of_the_pose(angle: float) -> None:
    nose = torch.tensor([[0.0, -0.05, 1.0]])
    centre = framing(View(), 100).project(torch.tensor([[0.0, -0.05, 0.0]]))[0]
    turned = framing(View(yaw=angle), 100).project(nose)[0] - centre
    nodded = framing(View(pitch=angle), 100).project(nose)[0] - centre
    tilted = framing(View(roll=angle), 100).project(torch.tensor([[0.0, 0.95, 0.0]]))[0] - centre
    assert turned[0, 0] > 0 and nodded[0, 1] < 0 and tilted[0, 0] > 0


def test_people_are_deterministic_and_differ() -> None:
    assert sample_person(7) == sample_person(7)
    people = [sample_person(i).shape for i in range(60)]
    shapes = torch.tensor([[getattr(shape, name) for name in shape.names()] for shape in people])
    assert shapes.shape[1] >= 30
    gaps = torch.cdist(shapes, shapes) + 1e9 * torch.eye(60)
    assert float(gaps.min()) > 1.5


def test_unconverged_rays_are_background() -> None:
    """Rays past the head, and rays that are given too few steps, meet nothing."""
    scene = Scene(sample_person(1))
    q = figure(scene)
    add_covers(scene, q)
    aim = torch.tensor([0.0, 1.0])
    way = (torch.zeros(2), aim * 0.35, -torch.ones(2))
    near = torch.full((2,), 9.0)
    assert trace((0.0, 0.0, 12.0), way, near, 15.0, 0.003, q).isfinite().tolist() == [True, False]
    assert trace((0.0, 0.0, 12.0), way, near, 15.0, 0.003, q, steps=2).isfinite().tolist() == [False, False]


def test_hits_lie_on_the_surface() -> None:
    scene = Scene(sample_person(2), View(hair_style="long"))
    q = figure(scene)
    add_covers(scene, q)
    frame = framing(scene.view, 48)
    axis = torch.arange(48) + 0.5
    py, px = (g.reshape(-1) for g in torch.meshgrid(axis, axis, indexing="ij"))
    rays = frame.rays(px, py)
    t = trace(frame.origin, rays, torch.full_like(px, frame.distance - march.REACH), 15.0, 0.25 * frame.pixel, q)
    hit = t.isfinite()
    x, y, z = (rays[k][hit] * t[hit] + frame.origin[k] for k in range(3))
    assert float(distance(x, y, z, q).abs().quantile(0.98)) < frame.pixel


def test_mirror_order_is_an_involution() -> None:
    assert sorted(MIRROR_70) == list(range(70))
    assert [MIRROR_70[k] for k in MIRROR_70] == list(range(70))


def test_numbers_are_packed_once_by_name() -> None:
    scene = Scene(sample_person(2))
    q = figure(scene)
    add_covers(scene, q)
    names, numbers = pack_numbers(q)
    assert len(names) == len(numbers) and float(numbers[names.index("ex")]) == torch.tensor(q.ex)
    assert not can_compile() or callable(kernel(march._bare, ""))
