"""Train the face recogniser: ArcFace on aligned crops, exported as the ONNX file that an insightface pack holds.

python -m cluster train recogniser --data URI --validation URI --out DIR
"""

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache, partial
from pathlib import Path

import numpy as np
import torch
from pydantic import Field
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from models.augment.crop import CropAugmentation, augment_crop
from models.card import Card
from models.columns import Columns
from models.errors import UserError
from models.faces.align import align, five_points
from models.faces.inputs import RECOGNISER_SCALE, to_tensor
from models.faces.metrics import gallery_split, rank_one, verification
from models.faces.onnx_file import export_recogniser
from models.faces.recogniser import ArcFace, Architecture
from models.synthworld.sampling.person import measure_person, sample_person
from models.synthworld.sampling.splits import identities
from models.tasks import Place, TrainConfig
from models.weights.networks import load_strictly
from models.weights.store import ROOT

COLUMNS = ("world_identity", "visible", "landmarks_70")

SUMMARY = """Embeds an aligned face (insightface's five-point template), trained with ArcFace and on the person's measures,
which the world knows. ONNX in the form of
insightface's recognisers: input [B, 3, 112, 112], (x - 127.5) / 127.5 on RGB; output [B, 512], not of length one."""
LIMITS = """It tells rendered people of the synthetic world apart and has seen no photograph. Its embeddings mean nothing to
another recogniser, nor theirs to it."""


class Config(TrainConfig):
    """Batch statistics are of one worker's rows: train on one worker, or expect other numbers."""

    steps: int = Field(1800, gt=0)
    batch: int = Field(128, gt=0)
    lr: float = Field(2e-3, gt=0)
    weight_decay: float = Field(0.05, ge=0)
    clip: float = Field(5.0, ge=0)
    ema: float = Field(0.998, ge=0, lt=1)
    bf16: bool = True
    architecture: Architecture = "residual"
    split: str = Field("recogniser", description="whose identities are the classes")
    classes: int = Field(1200, gt=1, description="the first so many identities of the split")
    scale: float = Field(32.0, gt=0, description="ArcFace s")
    margin: float = Field(0.4, ge=0, lt=1.5, description="ArcFace m in radians, after the ramp")
    ramp: tuple[float, float] = Field((0.1, 0.4), description="shares of the steps in which the margin grows from 0")
    augmentation: CropAugmentation = CropAugmentation()
    traits_weight: float = Field(10.0, ge=0, description="weight of reading the person's measures from the embedding")
    start: Place = Field(
        "", description="model.safetensors of an earlier run: start from its embedder, with new centres"
    )
    file: str = Field("arcface_starter.onnx", description="name of the exported file")


def build(config: Config) -> nn.Module:
    """Return the embedder with one centre per class."""
    model = ArcFace(config.architecture, config.classes, config.scale, len(_traits(0)))
    # An earlier run's embedder may be taken over; its centres are of other classes.
    if config.start:
        try:
            weights = load_file(ROOT / config.start)
        except (OSError, SafetensorError) as error:
            raise UserError(f"start={config.start}: not a readable safetensors file: {error}") from None
        state = {
            name.removeprefix("embedder."): value for name, value in weights.items() if name.startswith("embedder.")
        }
        load_strictly(model.embedder, state, Path(config.start))
    return model


def prepare(rows: Columns, config: Config) -> Columns:
    """Keep the picture, its five points, its class and its person's measures."""
    # A class is a person's place in the split.
    first = identities(config.split).start
    labels = rows["world_identity"].astype(np.int64) - first
    if labels.min() < 0 or labels.max() >= config.classes:
        raise UserError(
            f"person {rows['world_identity'][int(labels.argmax())]} is not among the first {config.classes} of split "
            f"{config.split!r} (from {first}); give the split that the data was drawn from, or raise `classes`"
        )
    # The crop is cut anew at every visit.
    return {
        "visible": rows["visible"],
        "points": _points(rows),
        "label": labels,
        "traits": np.stack([_traits(int(identity)) for identity in rows["world_identity"]]),
    }


@lru_cache(maxsize=1 << 16)
def _traits(identity: int) -> np.ndarray:
    """Return the measures of a person of the world, float32 [58]."""
    return measure_person(sample_person(identity))


def _points(rows: Columns) -> np.ndarray:
    """Return five points, float32 [B, 5, 2], of the rows' 70 landmarks."""
    return five_points(np.asarray(rows["landmarks_70"], np.float32).reshape(-1, 70, 2))


def margin_at(config: Config, step: int) -> float:
    """Return the margin of a step in radians: 0, then a linear ramp to `config.margin`.

    A fresh embedder does not learn at all under the full margin.
    """
    first, last = (share * config.steps for share in config.ramp)
    return config.margin * min(max((step - first) / max(last - first, 1), 0.0), 1.0)


def loss(model: nn.Module, batch: Columns, config: Config, step: int) -> tuple[Tensor, dict[str, float]]:
    """Return the ArcFace loss (arXiv 1801.07698, equation 3) of augmented crops, plus `traits_weight` times the mean squared
    error of the person's measures, read from the embedding.

    Classes alone only say which pictures belong together, and a few thousand people are soon learned by heart. The measures
    say how two people differ, which holds for people who were never seen, too.
    """
    device = next(model.parameters()).device
    margin = margin_at(config, step)
    labels = torch.from_numpy(batch["label"]).to(device)
    value, accuracy, traits = model(augmented(batch, config, device), labels, margin)
    error = ((traits - torch.from_numpy(batch["traits"]).to(device)) ** 2).mean()
    metrics = {"accuracy": float(accuracy.detach()), "margin": margin, "traits": float(error.detach())}
    return value + config.traits_weight * error, metrics


def augmented(batch: Columns, config: Config, device: torch.device) -> Tensor:
    """Return augmented crops of the rows, float32 [B, 3, 112, 112] in [-1, 1]."""
    # OpenCV and numpy leave the interpreter lock: two threads halve what augmentation adds to a step.
    with ThreadPoolExecutor(2) as pool:
        augment = partial(augment_crop, ranges=config.augmentation)
        crops = np.stack(list(pool.map(augment, batch["visible"], batch["points"], batch["draw"])))
    return to_tensor(torch.from_numpy(crops).to(device), RECOGNISER_SCALE)


def embeddings_of(model: nn.Module, crops: np.ndarray) -> np.ndarray:
    """Return embeddings float32 [B, 512] of aligned crops uint8 [B, 112, 112, 3]."""
    assert isinstance(model, ArcFace)
    device = next(model.parameters()).device
    return model.embedder(to_tensor(torch.from_numpy(crops).to(device), RECOGNISER_SCALE)).float().cpu().numpy()


def validate(model: nn.Module, rows: Iterable[Columns], config: Config) -> dict[str, float]:
    """Return TAR at FAR 1e-3 and rank-1 in a gallery of 100 on crops aligned by the true landmarks."""
    # Embed everything, then compare all pairs.
    vectors, people = [], []
    for batch in rows:
        vectors.append(embeddings_of(model, align(batch["visible"], _points(batch))))
        people.append(batch["world_identity"])
    # Verification over all pairs, identification in a gallery.
    embeddings, identity = np.concatenate(vectors), np.concatenate(people)
    result = verification(embeddings, identity, 1e-3, rounds=0)
    gallery, probes = gallery_split(identity, 100)
    rank = rank_one(embeddings[gallery], identity[gallery], embeddings[probes], identity[probes])
    return {
        "score": result.tar,
        "tar_at_far_1e-3": result.tar,
        "threshold": result.threshold,
        "impostor_pairs": float(result.impostor),
        "rank1_of_100": rank,
    }


def export(model: nn.Module, config: Config, folder: Path, card: Card) -> None:
    """Write the embedder as ONNX (any batch, weights stored in fp16) and its card."""
    assert isinstance(model, ArcFace)
    export_recogniser(model.embedder, folder / config.file)
    facts = {
        "title": f"Face {card.task}: 112 px to 512 numbers",
        "summary": SUMMARY,
        "limits": LIMITS,
        "parameters": sum(p.numel() for p in model.embedder.parameters()),
    }
    card.model_copy(update=facts).write(folder)
