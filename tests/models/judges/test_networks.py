"""The judges' networks and losses: shapes, sensitivity, and each formula against another form of it."""

import itertools
import json

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from models.attributes import ATTRIBUTES
from models.augment.batch import Geometry, RowDraws, draw_transforms
from models.judges.attributes import AttributesConfig, AttributesJudge, balanced_entropy, label, mirror
from models.judges.parser import ParserConfig, ParserJudge, upsample
from models.judges.pictures import Augmentation, Wear, augment, to_input, wear_down
from models.judges.pose import (
    PoseConfig,
    PoseJudge,
    angle_between,
    angles_of_rotation,
    move_rotation,
    rotation_of_angles,
    rotation_of_six,
    scale_likelihood,
)
from models.judges.trunk import TrunkConfig
from models.landmarks.pose import average_head, estimate_pose
from models.synthworld.shape.figure import rotation

TRUNK = TrunkConfig(side=32, stem=8, widths=(8, 8, 8), inner=(8, 8, 8), depth=2)


def poses(count: int = 6) -> torch.Tensor:
    low, high = torch.tensor([-88.0, -30, -25]), torch.tensor([88.0, 30, 25])
    return low + (high - low) * torch.rand(count, 3, generator=torch.Generator().manual_seed(0))


def test_shapes() -> None:
    pictures = torch.rand(2, 3, 32, 32)
    logits = AttributesJudge(AttributesConfig(trunk=TRUNK))(pictures)
    assert {name: tuple(values.shape) for name, values in logits.items()} == {
        name: (2, len(words)) for name, (_, _, words) in ATTRIBUTES.items()
    }
    turn, scale = PoseJudge(PoseConfig(trunk=TRUNK))(pictures)
    assert turn.shape == (2, 3, 3) and scale.shape == (2,) and bool((scale > 0).all())
    assert ParserJudge(ParserConfig(trunk=TRUNK))(pictures).shape == (2, 19, 16, 16)


@pytest.mark.parametrize(
    "network",
    [
        AttributesJudge(AttributesConfig(trunk=TRUNK)),
        PoseJudge(PoseConfig(trunk=TRUNK)),
        ParserJudge(ParserConfig(trunk=TRUNK)),
    ],
    ids=["attributes", "pose", "parser"],
)
def test_every_output_reacts_to_the_picture_and_to_every_weight(network: torch.nn.Module) -> None:
    picture = torch.randn(3, 3, 32, 32, requires_grad=True)
    found = network(picture)
    outputs = list(found.values()) if isinstance(found, dict) else [found] if isinstance(found, torch.Tensor) else found
    for values in outputs:
        (gradient,) = torch.autograd.grad((values * torch.randn_like(values)).sum(), picture, retain_graph=True)
        assert (gradient.abs().amax(dim=(1, 2, 3)) > 0).all()
    sum((values * torch.randn_like(values)).sum() for values in outputs).backward()  # type: ignore[union-attr]
    assert not [name for name, p in network.named_parameters() if p.grad is None or not p.grad.abs().any()]


def test_a_rotation_of_angles_is_the_worlds() -> None:
    for degrees, turn in zip(poses(), rotation_of_angles(poses()), strict=True):
        torch.testing.assert_close(turn, torch.tensor(rotation(*degrees.tolist())), atol=1e-6, rtol=0)


def test_angles_come_back() -> None:
    torch.testing.assert_close(angles_of_rotation(rotation_of_angles(poses())), poses(), atol=1e-3, rtol=0)


def test_six_numbers_are_a_rotation() -> None:
    turn = rotation_of_six(torch.randn(50, 6, dtype=torch.float64))
    torch.testing.assert_close(turn @ turn.mT, torch.eye(3, dtype=torch.float64).expand(50, 3, 3))
    torch.testing.assert_close(torch.linalg.det(turn), torch.ones(50, dtype=torch.float64))
    torch.testing.assert_close(rotation_of_six(torch.zeros(1, 6))[0], torch.eye(3))


def test_the_angle_is_that_of_the_trace() -> None:
    one, other = rotation_of_angles(poses().double()), rotation_of_angles(poses().flip(0).double())
    trace = torch.einsum("bij,bij->b", one, other)
    torch.testing.assert_close(angle_between(one, other), ((trace - 1) / 2).acos(), atol=1e-6, rtol=0)
    turn = rotation_of_angles(poses().double()).requires_grad_()
    assert angle_between(turn, turn.detach()).max() < 1e-3
    assert torch.autograd.grad(angle_between(turn, turn.detach()).sum(), turn)[0].isfinite().all()


def test_the_scale_of_the_likelihood_is_a_third_of_the_mean_angle() -> None:
    """Among all scales the best one for angles of mean m is m / 3, and the density integrates to one over rotation vectors."""
    angles = torch.rand(1000, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    scales = torch.linspace(0.05, 0.5, 1801, dtype=torch.float64)
    best = scales[scale_likelihood(angles[:, None], scales).mean(dim=0).argmin()]
    assert abs(best - angles.mean() / 3) < 3e-4
    radii = torch.linspace(0, 20, 20001, dtype=torch.float64)
    density = (-scale_likelihood(radii, torch.tensor(0.4, dtype=torch.float64))).exp() / (8 * torch.pi)
    torch.testing.assert_close(torch.trapezoid(4 * torch.pi * radii**2 * density, radii).item(), 1.0, atol=1e-6, rtol=0)


@pytest.mark.parametrize("flip", [0.0, 1.0])
def test_a_rotation_moves_with_its_picture(flip: float) -> None:
    """The head's points, moved as the picture's pixels are, show the moved rotation to who reads pose from points."""
    geometry = Geometry(rotation=25, scale=(0.8, 1.2), shift=0.1, flip=flip)
    matrices, flipped = draw_transforms(geometry, RowDraws(np.arange(6)))
    degrees = poses() * torch.tensor([0.5, 1, 1])
    seen = average_head() @ rotation_of_angles(degrees.double()).numpy().transpose(0, 2, 1)
    points = seen[..., :2] * [1, -1] / 4  # of a picture from -1 to 1, rows going down
    linear, shift = matrices[:, :, :2].double().numpy(), matrices[:, :, 2].double().numpy()
    moved = (points - shift[:, None]) @ np.linalg.inv(linear).transpose(0, 2, 1)
    if flip:  # the other side's points have the names of this side's
        half = rotation_of_angles(degrees.double() * torch.tensor([-1, 1, -1]))
        seen = average_head() @ half.numpy().transpose(0, 2, 1)
        turned = np.linalg.inv(linear @ np.diag([-1.0, 1.0]))
        moved = (seen[..., :2] * [1, -1] / 4 - shift[:, None] * [-1, 1]) @ turned.transpose(0, 2, 1)
    expected = angles_of_rotation(move_rotation(rotation_of_angles(degrees), matrices, flipped)).numpy()
    np.testing.assert_allclose(estimate_pose(moved), expected, atol=0.05)


def words(place: int) -> str:
    return json.dumps({name: known[place % len(known)] for name, (_, _, known) in ATTRIBUTES.items()})


def test_labels_are_places_in_the_vocabulary() -> None:
    found = label([words(0), words(4)])
    assert found.tolist() == [[place % len(known) for _, _, known in ATTRIBUTES.values()] for place in (0, 4)]
    back = mirror(mirror(found))
    assert (back == found).all()
    pose = list(ATTRIBUTES).index("pose")
    poses_of = ATTRIBUTES["pose"][2]
    mirrored = {poses_of[k]: poses_of[mirror(np.full((1, 15), k))[0, pose]] for k in range(len(poses_of))}
    assert mirrored["turned left"] == "turned right" and mirrored["right profile"] == "left profile"
    assert mirrored["frontal"] == "frontal" and set(mirrored.values()) == set(poses_of)
    assert (np.delete(mirror(found), pose, 1) == np.delete(found, pose, 1)).all()


def test_balanced_entropy_against_its_ratio() -> None:
    """-log of share_y exp(f_y) / sum of share_k exp(f_k): with equal shares the plain cross-entropy."""
    torch.manual_seed(0)
    logits = {"a": torch.randn(5, 3), "b": torch.randn(5, 2)}
    labels = torch.tensor([[0, 1], [2, 0], [1, 1], [0, 0], [0, 1]])
    counts = {"a": torch.tensor([8.0, 1.0, 0.0]), "b": torch.tensor([4.0, 4.0])}
    found = balanced_entropy(logits, labels, counts)
    weights = (counts["a"] + 1) * logits["a"].exp()
    expected = -(weights[range(5), labels[:, 0]] / weights.sum(1)).log().mean()
    torch.testing.assert_close(found["a"], expected)
    torch.testing.assert_close(found["b"], F.cross_entropy(logits["b"], labels[:, 1]))


def test_an_input_has_the_networks_side_and_range() -> None:
    pictures = np.zeros((1, 128, 128, 3), np.uint8)
    pictures[:, :, ::2] = 255
    seen = to_input(pictures, 64)
    assert (
        seen.shape == (1, 3, 64, 64) and seen[..., 4:-4].abs().max() < 0.02
    )  # stripes of a pixel vanish, and do not alias
    assert to_input(np.full((1, 64, 64, 3), 255, np.uint8), 96).amin() == 1
    with pytest.raises(ValueError, match=r"uint8 pictures \[B, S, S, 3\], not float64 \[1, 8, 8, 3\]"):
        to_input(np.zeros((1, 8, 8, 3)), 64)


def test_an_augmented_row_depends_on_its_own_seed() -> None:
    pictures = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), dtype=np.uint8)
    whole, matrices, flipped = augment(pictures, np.array([5, 6, 7]), 32, Augmentation())
    alone, matrix, flip = augment(pictures[1:2], np.array([6]), 32, Augmentation())
    assert torch.equal(whole[1:2], alone) and torch.equal(matrices[1:2], matrix) and torch.equal(flipped[1:2], flip)
    assert whole.shape == (3, 3, 32, 32) and whole.abs().max() <= 1
    assert not torch.equal(augment(pictures[1:2], np.array([8]), 32, Augmentation())[0], alone)


def test_wear_takes_detail_away() -> None:
    picture = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    assert (wear_down(picture, 0, Wear(resize=0, blur=0, jpeg=0)) == picture).all()
    for one, left in {"resize": 0.8, "blur": 0.8, "jpeg": 0.99}.items():
        chosen = Wear(**({"resize": 0, "blur": 0, "jpeg": 0} | {one: 1}), sides=(16, 32), sigma=(1, 3), quality=(5, 20))
        worn = [wear_down(picture, seed, chosen) for seed in range(3)]
        assert all(detail(row) < left * detail(picture) for row in worn)
        assert all((a != b).any() for a, b in itertools.combinations(worn, 2))


def detail(picture: np.ndarray) -> float:
    return float(np.abs(np.diff(picture.astype(float), axis=1)).mean())


def test_logits_are_decided_at_the_pictures_side() -> None:
    assert upsample(torch.randn(1, 19, 16, 16), 40).shape == (1, 19, 40, 40)
