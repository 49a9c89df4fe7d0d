"""Label adaptation: a landmark standard in, another out, learnt from coordinates alone (T-FAKE, section 3).

The paper says five fully connected layers on coordinates alone. Width, activation, normalisation and loss are our choice:
points are centred and divided by the size of the face, ReLU between layers, mean squared error. Where
the target's points are known means of the source's (`standards.conversion_weights`), the layers learn what differs from that.
"""

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from models.errors import UserError
from models.landmarks.detect import Face
from models.landmarks.standards import Standard, conversion_weights
from models.weights.networks import load_network

FILE = "adapter.safetensors"


class AdapterConfig(BaseModel):
    """hidden: width of the four inner layers."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    source: Standard
    target: Standard
    hidden: int = Field(128, ge=1)


class Adapter(nn.Module):
    """Points float [B, source, 2] in pixels -> float32 [B, target, 2] in pixels, whatever the face's place and size."""

    rule: Tensor

    def __init__(self, config: AdapterConfig) -> None:
        super().__init__()
        self.config = config
        widths = [2 * config.source, *[config.hidden] * 4, 2 * config.target]
        layers: list[nn.Module] = []
        for inside, out in pairwise(widths):
            layers += [nn.Linear(inside, out), nn.ReLU()]
        self.layers = nn.Sequential(*layers[:-1])
        # What is known of the target: the last layer starts at zero, so that the adapter starts there.
        known = conversion_weights(config.source, config.target)
        weights = torch.zeros(config.target, config.source) if known is None else torch.from_numpy(known).float()
        self.register_buffer("rule", weights, persistent=False)
        if known is not None:
            for parameter in self.layers[-1].parameters():
                nn.init.zeros_(parameter)

    def forward(self, points: Tensor) -> Tensor:
        points = points.float()
        middle, size = middle_and_size(points)
        inside = (points - middle) / size
        learnt = self.layers(inside.flatten(1)).unflatten(1, (self.config.target, 2))
        return (self.rule @ inside + learnt) * size + middle


def middle_and_size(points: Tensor) -> tuple[Tensor, Tensor]:
    """Return the middle [B, 1, 2] and the size [B, 1, 1] (root mean square distance from it) of points [B, L, 2]."""
    middle = points.mean(dim=1, keepdim=True)
    size = (points - middle).square().sum(dim=2, keepdim=True).mean(dim=1, keepdim=True)
    return middle, size.clamp(min=1e-12).sqrt()  # a slope of zero, not NaN, where all points are one


def build_adapter(config: dict[str, Any]) -> Adapter:
    """Return an untrained adapter of the stored configuration."""
    return Adapter(AdapterConfig(**config))


def load_adapter(part: Path, target: Standard, sources: Sequence[Standard]) -> Adapter:
    """Return the adapter in `part/adapters` that makes `target` of the first of `sources` it can be made of.

    Raises a UserError that says what there is instead.
    """
    folder = part / "adapters"
    for source in sources:
        path = folder / f"{source}-{target}" / FILE
        if path.is_file():
            return load_network(path, build_adapter)
    # What there is instead, for the message.
    there = " and ".join(map(str, sources))
    known = ", ".join(sorted(path.parent.name for path in folder.glob(f"*/{FILE}")))
    also = f", and the conversions {known}" if known else ""
    raise UserError(f"this bundle has no landmarker of {target} points; it has {there}{also}")


def adaptation_loss(model: Adapter, source: Tensor, target: Tensor) -> Tensor:
    """Return the mean squared distance of the answer to `target` [B, target, 2], in sizes of the source's face.

    Points of `target` that are NaN count nothing.
    """
    _, size = middle_and_size(source.float())
    known = torch.isfinite(target)
    return ((model(source) - target.float().nan_to_num()) / size).square()[known].mean()


def fit_adapter(
    config: AdapterConfig, source: np.ndarray, target: np.ndarray, *, steps: int = 1500, lr: float = 2e-3, seed: int = 0
) -> Adapter:
    """Return an adapter trained on pairs of points [N, source, 2] and [N, target, 2] alone, each turned up to 15 degrees."""
    torch.manual_seed(seed)
    rng = torch.Generator().manual_seed(seed)
    model = Adapter(config)
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, lr, total_steps=steps)
    given, wanted = (torch.from_numpy(np.asarray(v, np.float32)) for v in (source, target))
    for _ in range(steps):
        # A batch of faces, each turned a little.
        rows = torch.randint(len(given), (min(64, len(given)),), generator=rng)
        angle = (torch.rand(len(rows), generator=rng) - 0.5) * (torch.pi / 6)
        turn = torch.stack(
            [torch.stack([angle.cos(), angle.sin()], -1), torch.stack([-angle.sin(), angle.cos()], -1)], -2
        )
        # The pair is turned together, so that the adapter learns every tilt of the head.
        value = adaptation_loss(model, given[rows] @ turn, wanted[rows] @ turn)
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        schedule.step()
    return model.eval()


@torch.inference_mode()
def adapt_points(model: Adapter, points: np.ndarray) -> np.ndarray:
    """Return points [N, L, 2] in the target's standard, float32 [N, L', 2]."""
    return model(torch.from_numpy(np.ascontiguousarray(points, np.float32))).numpy()


def adapt_face(model: Adapter, face: Face) -> Face:
    """Return `face` in the target's standard, its variances to first order, the errors of its points being independent."""
    points, variance = torch.from_numpy(face.points), torch.from_numpy(face.variance)
    # First-order propagation: the sum over source points of squared slope times variance.
    slopes = torch.func.jacrev(lambda one: model(one[None])[0])(points)  # [L', 2, L, 2]
    spread = (slopes.detach().square().sum(dim=3).mean(dim=1) * variance).sum(dim=1)
    return replace(face, points=adapt_points(model, face.points[None])[0], variance=spread.numpy())


def leave_subject_out(
    config: AdapterConfig,
    source: np.ndarray,
    target: np.ndarray,
    subjects: np.ndarray,
    *,
    folds: int = 5,
    **options: Any,
) -> np.ndarray:
    """Return every row converted by an adapter that has seen nobody of its subject, float32 [N, target, 2].

    source: predictions of a landmarker in one standard, [N, L, 2]; target: annotations in another, NaN where there are none;
    subjects: [N]. Each fold leaves whole subjects out, as T-FAKE reads one model on several conventions.
    """
    people = np.unique(subjects)
    out = np.zeros((len(source), config.target, 2), np.float32)
    for fold in range(min(folds, len(people))):
        # Fit on the others, convert those that were left out.
        held = np.isin(subjects, people[fold::folds])
        model = fit_adapter(config, source[~held], target[~held], seed=fold, **options)
        out[held] = adapt_points(model, source[held])
    return out


def convert_to_labels(points: np.ndarray, labels: np.ndarray, subjects: np.ndarray, **options: Any) -> np.ndarray:
    """Return predictions [N, L, 2] of any standard in that of annotators' 72 labels, float32 [N, 72, 2], by `leave_subject_out`.

    labels: [N, 72, 2] px, NaN where none was set; subjects: [N]. A profile's points are others than the first of a front's:
    faces that give equally many have an adapter of their own, and are NaN where they are of one subject alone, as faces
    without labels are.
    """
    config, found = AdapterConfig(source=points.shape[1], target=72), np.full(labels.shape, np.nan, np.float32)
    given = np.isfinite(labels).all(axis=2).sum(axis=1)
    for count in np.unique(given[given > 0]):
        rows = given == count
        if len(np.unique(subjects[rows])) > 1:
            found[rows] = leave_subject_out(config, points[rows], labels[rows], subjects[rows], **options)
    return found
