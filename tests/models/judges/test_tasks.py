"""The judges' tasks: they learn, their classes move with the picture, and what they export is what they trained."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from models.attributes import ATTRIBUTES
from models.augment.batch import Geometry, Photometry, RowDraws, draw_transforms
from models.card import Card
from models.columns import Columns
from models.errors import EnvironmentFault
from models.evaluation.judges import load_judges
from models.judges.attributes import AttributesConfig
from models.judges.parser import ParserConfig
from models.judges.pictures import Augmentation, Wear
from models.judges.pose import PoseConfig
from models.judges.trunk import TrunkConfig
from models.synthworld.sampling.splits import identities
from models.tasks import TrainConfig
from models.tasks.judges import attributes as judge_attributes
from models.tasks.judges import parser as judge_parser
from models.tasks.judges import pose as judge_pose

TRUNK = TrunkConfig(side=32, stem=8, widths=(8, 16, 16), inner=(8, 8, 8), depth=1)
SMALL = {
    judge_attributes: judge_attributes.Config(network=AttributesConfig(trunk=TRUNK)),
    judge_pose: judge_pose.Config(network=PoseConfig(trunk=TRUNK)),
    judge_parser: judge_parser.Config(network=ParserConfig(trunk=TRUNK)),
}


def rows(count: int = 6) -> Columns:
    """Return pictures whose halves differ, with classes, poses and words that follow from nothing."""
    rng = np.random.default_rng(0)
    texts = [{name: words[k % len(words)] for name, (_, _, words) in ATTRIBUTES.items()} for k in range(count)]
    return {
        "world_identity": identities("judges").start + np.arange(count),
        "visible": rng.integers(0, 256, (count, 32, 32, 3), dtype=np.uint8),
        "pose": rng.uniform(-25, 25, (count, 3)).astype(np.float32),
        "classes": rng.integers(0, 19, (count, 4, 4)).repeat(8, 1).repeat(8, 2).astype(np.uint8),
        "attributes": np.array([json.dumps(row) for row in texts], object),
    }


@pytest.mark.parametrize("task", list(SMALL), ids=lambda task: task.__name__.rpartition(".")[2])
def test_a_judge_learns_and_answers_after_its_export(task, tmp_path: Path) -> None:
    torch.manual_seed(0)
    config: TrainConfig = SMALL[task]
    model = task.build(config)
    batch = {**task.prepare(rows(), config), "draw": np.arange(6)}
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    losses = []
    for step in range(8):
        value, metrics = task.loss(model, batch, config, step)
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        losses.append(value.item())
        assert all(isinstance(number, float) for number in metrics.values())
    assert min(losses[-2:]) < losses[0] * 0.9 or losses[-1] < losses[0] - 0.1
    with torch.inference_mode():
        score = task.validate(model.eval(), [rows()], config)["score"]
    assert np.isfinite(score)
    # Whoever asks the exported weights gets what validation got of them.
    name = task.__name__.rpartition(".")[2]
    for other, small in SMALL.items():
        folder = tmp_path / other.__name__.rpartition(".")[2]
        other.export(model if other is task else other.build(small).eval(), small, folder, Card(title="", task=""))
    with pytest.raises(EnvironmentFault, match="holds no judge"):
        load_judges(folder)
    judges, seen = load_judges(tmp_path), rows()["visible"]
    attributes, pose, classes = judges.judge_attributes(seen), judges.judge_pose(seen), judges.judge_parser(seen)
    assert {k: v.shape for k, v in attributes.items()} == {
        k: (6, len(words)) for k, (_, _, words) in ATTRIBUTES.items()
    }
    assert all(np.allclose(values.sum(axis=1), 1, atol=1e-5) for values in attributes.values())
    assert pose.degrees.shape == (6, 3) and pose.expected_error.shape == (6,) and (pose.expected_error > 0).all()
    assert classes.shape == (6, 32, 32) and classes.dtype == np.uint8 and classes.max() < 19
    reached = {
        "attributes": lambda: np.mean([_balanced(attributes[k], rows(), k) for k in ATTRIBUTES]),
        "pose": lambda: -np.abs(pose.degrees - rows()["pose"]).mean(),
        "parser": lambda: _iou(classes, rows()["classes"]),
    }[name]()
    assert abs(reached - score) < 0.03 * max(1, abs(score))


def _balanced(probabilities: np.ndarray, seen: Columns, name: str) -> float:
    truth = np.array([ATTRIBUTES[name][2].index(json.loads(text)[name]) for text in seen["attributes"]])
    return float(np.mean([(probabilities[truth == k].argmax(1) == k).mean() for k in np.unique(truth)]))


def _iou(found: np.ndarray, truth: np.ndarray) -> float:
    either = [k for k in range(19) if (found == k).any() or (truth == k).any()]
    return float(np.mean([((found == k) & (truth == k)).sum() / ((found == k) | (truth == k)).sum() for k in either]))


def test_classes_move_with_their_picture() -> None:
    """A judge that sees the classes themselves, as colours, finds most of the moved ones, and no mirrored eye."""
    classes = np.zeros((4, 32, 32), np.uint8)
    classes[:, :, :12], classes[:, :8] = 3, 4  # right and left eye
    still = Photometry(brightness=0, contrast=0, saturation=0, grey=0, blur=0, noise=0)
    ranges = Augmentation(wear=Wear(resize=0, blur=0, jpeg=0), geometry=Geometry(), photometry=still)
    config = judge_parser.Config(network=ParserConfig(trunk=TRUNK), augmentation=ranges)

    class Reader(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = torch.nn.Parameter(torch.zeros(1))

        def forward(self, seen: torch.Tensor) -> torch.Tensor:
            red = torch.nn.functional.avg_pool2d((seen[:, 0] + 1) * 127.5 / 60, 2).round().long()
            return torch.nn.functional.one_hot(red.clamp(0, 18), 19).permute(0, 3, 1, 2).float() * 20

    visible = (classes[..., None] * np.array([60, 0, 0])).astype(np.uint8)
    batch = {"visible": visible, "classes": classes, "draw": np.arange(4)}
    flipped = draw_transforms(ranges.geometry, RowDraws(batch["draw"]))[1].tolist()
    assert set(flipped) == {True, False}
    # In a mirrored picture the colours still say 3 and 4, the truth 4 and 3.
    one = [judge_parser.loss(Reader(), {k: v[j : j + 1] for k, v in batch.items()}, config, 0)[1] for j in range(4)]
    for flip, found in zip(flipped, one, strict=True):
        assert found["accuracy"] < 0.7 if flip else found["accuracy"] > 0.8  # but for the borders
