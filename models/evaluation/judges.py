"""The judges: who, in what pose and of which parts a generated picture shows, read by networks that had no part in making it.

    judges = load_judges(Path("models/starter-judge"))
    judges.judge_attributes(pictures)["glasses"]     # float32 [B, 3], a probability of each word
    judges.judge_pose(pictures).degrees              # float32 [B, 3]: yaw, pitch, roll
    judges.judge_parser(pictures)                    # uint8 [B, S, S]

Evaluation alone may ask them. Pictures are uint8 RGB [B, S, S, 3], of any side; 64 and 128 px are what they were trained for.
The recogniser among the judges is an insightface pack in the same folder (`models.evaluation.visible`).
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from models.errors import EnvironmentFault
from models.judges.attributes import AttributesJudge, build_attributes
from models.judges.parser import ParserJudge, build_parser, upsample
from models.judges.pictures import to_input
from models.judges.pose import PoseJudge, angles_of_rotation, build_pose
from models.weights.networks import Network, accelerator, device_of, load_network

BATCH = 32
"""Pictures of one forward pass."""
FOLDERS = ("attributes", "pose", "parser")
"""Below the judges' folder, each with `NAME.safetensors` and its card."""


@dataclass(frozen=True)
class Poses:
    """degrees: yaw, pitch, roll float32 [B, 3], signs of the world's `View`. expected_error: degrees float32 [B], the mean
    angle that the judge expects between its rotation and the true one."""

    degrees: np.ndarray
    expected_error: np.ndarray


class Judges:
    """The judges of a folder; each is loaded when it is first asked.

    Every method takes pictures uint8 [B, S, S, 3]. It raises ValueError for others, and EnvironmentFault for weights that are
    missing, damaged or of another network.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @cached_property
    def attributes(self) -> AttributesJudge:
        """The judge of attributes."""
        return self._load("attributes", build_attributes)

    @cached_property
    def pose(self) -> PoseJudge:
        """The judge of head pose."""
        return self._load("pose", build_pose)

    @cached_property
    def parser(self) -> ParserJudge:
        """The judge of pixel classes."""
        return self._load("parser", build_parser)

    def _load(self, name: str, build: Callable[[dict[str, Any]], Network]) -> Network:
        return load_network(place_of(self.folder, name), build).to(accelerator())

    def judge_attributes(self, pictures: np.ndarray) -> dict[str, np.ndarray]:
        """Return attribute -> probabilities of its words, float32 [B, words], in the order of `models.attributes`.

        They are of a population in which all words of an attribute are equally frequent.
        """

        def run(seen: Tensor) -> tuple[Tensor, ...]:
            return tuple(logits.softmax(dim=1) for logits in self.attributes(seen).values())

        found = _ask(self.attributes, run, pictures)
        return dict(zip(self.attributes.config.words, found, strict=True))

    def judge_pose(self, pictures: np.ndarray) -> Poses:
        """Return the head poses in degrees, and how far off they are expected to be."""

        def run(seen: Tensor) -> tuple[Tensor, ...]:
            turn, scale = self.pose(seen)
            return angles_of_rotation(turn), torch.rad2deg(3 * scale)

        return Poses(*_ask(self.pose, run, pictures))

    def describe(self, pictures: np.ndarray) -> np.ndarray:
        """Return features float32 [B, D] of whole pictures: the last of the attributes' trunk, averaged over the picture."""

        def run(seen: Tensor) -> tuple[Tensor, ...]:
            return (self.attributes.trunk(seen)[-1].mean(dim=(2, 3)),)

        return _ask(self.attributes, run, pictures)[0]

    def judge_parser(self, pictures: np.ndarray) -> np.ndarray:
        """Return the class of every pixel, uint8 [B, S, S] (`models.classes.CLASSES`)."""

        def run(seen: Tensor) -> tuple[Tensor, ...]:
            return (upsample(self.parser(seen), pictures.shape[1]).argmax(dim=1).to(torch.uint8),)

        return _ask(self.parser, run, pictures)[0]


def load_judges(folder: Path) -> Judges:
    """Return the judges of `folder`. Raises EnvironmentFault for a folder without one."""
    if not list_judges(folder):
        raise EnvironmentFault(f"{folder} holds no judge ({', '.join(FOLDERS)}). Train one: docs/evaluate.md says how.")
    return Judges(folder)


def list_judges(folder: Path) -> list[str]:
    """Return which of `FOLDERS` have weights in `folder`."""
    return [name for name in FOLDERS if place_of(folder, name).is_file()]


def place_of(folder: Path, name: str) -> Path:
    """Return the file of a judge's weights."""
    return folder / name / f"{name}.safetensors"


@torch.inference_mode()
def _ask(
    network: AttributesJudge | PoseJudge | ParserJudge,
    run: Callable[[Tensor], tuple[Tensor, ...]],
    pictures: np.ndarray,
) -> list[np.ndarray]:
    """Return the arrays that `run` makes of the pictures at the network's side, batch by batch."""
    found = []
    for begin in range(0, len(pictures), BATCH):
        seen = to_input(pictures[begin : begin + BATCH], network.config.trunk.side).to(device_of(network))
        found.append([values.cpu().numpy() for values in run(seen)])
    return [np.concatenate(parts) for parts in zip(*found, strict=True)]
