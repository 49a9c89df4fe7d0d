"""Adapt a recogniser to thermal probes with pairs of two cameras, as PACT does; no translation is needed to compare them.

python -m cluster train hfr --data URI --validation URI --out DIR [--set recogniser=FILE.onnx]
    [--set recogniser=FILE.safetensors --set recogniser_class=package.module:Class]

Any ONNX recogniser of insightface's kind can be adapted: its graph is read as torch operations and written back as it was. So can
any of torch, given as its weights and its class: it is written as ONNX, and its original beside it for the gallery. The thermal
picture is shown to it in grey, stretched over human temperatures as landmarkers see it.
"""

import copy
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn

from models.augment.crop import CropAugmentation, augment_crop
from models.card import Card
from models.columns import Columns
from models.errors import UserError
from models.faces.align import align, five_points
from models.faces.gradient.torch_recogniser import TorchRecogniser
from models.faces.gradient.trainable import TrainableRecogniser
from models.faces.metrics import verification, verify
from models.faces.space import write_space
from models.landmarks.found import can_align, fill_points
from models.landmarks.intensity import show_thermal
from models.seeds import seed_of
from models.tasks import Place, TrainConfig
from models.tasks.hfr.contrast import drift, numbers_of, symmetric_loss, unit
from models.visible.cache import from_root

Recogniser = TrainableRecogniser | TorchRecogniser
POINTS = {"visible": "points", "thermal": "thermal_points"}
"""Of each half of prepared rows."""
COLUMNS = ("identity_id", "view", "visible", "thermal", "thermal_kind", "landmarks_70")
TAKES_HALVES = TAKES_TRANSLATED = True
SUMMARY = """Embeds thermal faces into the space of the recogniser that it was adapted from: a thermal probe is looked up in a
gallery of visible faces. Input: the aligned thermal crop in grey, stretched over human temperatures, in three channels."""
LIMITS = {
    "adapted": """It knows the cameras and rooms of its training pairs. Of visible faces it embeds as its original does, up to
the drift that the card states.""",
    "original": """It knows the cameras and rooms of its training pairs, and serves thermal crops alone: visible ones are embedded
by its original.""",
}


class Config(TrainConfig):
    steps: int = Field(600, gt=0)
    batch: int = Field(128, gt=1)
    lr: float = Field(1e-5, gt=0, description="PACT's; a small recogniser takes more (1e-4 to 1e-3)")
    weight_decay: float = Field(0.01, ge=0)
    ema: float = Field(0.99, ge=0, lt=1)
    channels_last: bool = False
    recogniser: Place = Field(
        "models/starter/faces/arcface_starter.onnx",
        description="recogniser to adapt: an ONNX file, or the safetensors file of a torch one",
    )
    recogniser_class: str = Field(
        "",
        pattern=r"^$|^[\w.]+:[\w.]+$",
        description="package.module:Class (or a function) that makes the torch one; it takes crops as insightface feeds them",
    )
    recogniser_options: dict[str, Any] = Field({}, description="what the class is called with")
    gallery: Literal["adapted", "original"] = Field(
        "adapted",
        description="what embeds visible faces: the adapted network, kept near the original (PACT), or the frozen original, so "
        "that the network learns thermal crops alone",
    )
    temperature: float = Field(0.07, gt=0, description="of the contrastive term")
    keep: float = Field(
        1.0,
        ge=0,
        description="weight of staying where the original is: of visible faces, or of the pair's visible half",
    )
    augmentation: CropAugmentation = CropAugmentation()
    landmarks: Place = Field(
        "models/starter/landmarks", description="folder of the landmarker that finds the faces of rows without points"
    )
    file: str = Field("thermal.onnx", description="name of the exported file")


class Trainee(nn.Module):
    """The recogniser that learns, and its frozen original (not a submodule: it is neither trained nor saved)."""

    def __init__(self, network: Recogniser) -> None:
        super().__init__()
        self.network = network
        self._original = (copy.deepcopy(network).requires_grad_(False),)

    def original(self, crops: Tensor) -> Tensor:
        """Return what the recogniser gave before it was adapted."""
        with torch.no_grad():
            embeddings: Tensor = self._original[0].to(crops.device)(crops)
        return embeddings

    def original_file(self, folder: Path) -> Path:
        """Return the ONNX file of the original, which is written below `folder` where it came as no ONNX."""
        return self._original[0].cpu().original_file(folder)


def weights(config: Config) -> list[Path]:
    """Return the files that training reads beside `init`."""
    return [from_root(config.recogniser), from_root(config.landmarks)]


def check(config: Config) -> None:
    """Raise a UserError for a recogniser that cannot be read or trained."""
    load_recogniser(config)


def build(config: Config) -> nn.Module:
    """Return the recogniser to adapt. Raises UserError for one that cannot be trained."""
    return Trainee(load_recogniser(config))


def load_recogniser(config: Config) -> Recogniser:
    """Return the recogniser that is adapted, as it is. Raises UserError for one that cannot be read or trained."""
    path = from_root(config.recogniser)
    if path.suffix not in (".onnx", ".safetensors") or not path.is_file():
        raise UserError(
            f"recogniser={config.recogniser}: give an ONNX file, or a safetensors file with recogniser_class"
        )
    if path.suffix == ".onnx":
        if config.recogniser_class or config.recogniser_options:
            raise UserError(
                f"recogniser={config.recogniser} holds its own graph: recogniser_class is of a safetensors file"
            )
        try:
            return TrainableRecogniser(path)
        except UserError as error:
            raise UserError(
                f"{error}. No gradient flows through it (as of any quantised file): give it in floating point and of known "
                "operations, or the torch model that it was exported from, as safetensors with recogniser_class"
            ) from None
    if not config.recogniser_class:
        raise UserError(
            f"recogniser={config.recogniser} holds weights alone: name recogniser_class=package.module:Class, which they are of,"
            " or export it with torch.onnx.export and give the ONNX file"
        )
    return TorchRecogniser(path, config.recogniser_class, config.recogniser_options)


def prepare(rows: Columns, config: Config) -> Columns:
    """Keep both pictures of rows, uint8 [B, S, S, 3], their five points (NaN where no face was found) and who is shown.

    The halves of a pair share their points, unless rows say that they stand apart (`thermal_grey`, `thermal_landmarks_70`).
    """
    folder = from_root(config.landmarks)
    points = five_points(fill_points(rows, folder))
    apart = "thermal_landmarks_70" in rows
    if apart:
        felt = {"visible": rows["thermal_grey"], "landmarks_70": rows["thermal_landmarks_70"]}
    return {
        "visible": rows["visible"],
        "thermal": np.stack([show_thermal(one) for one in rows["thermal"]]),
        "points": points,
        "thermal_points": five_points(fill_points(felt, folder)) if apart else points,
        "person": np.asarray(rows["identity_id"]).astype(str),
    }


def have_faces(rows: Columns) -> np.ndarray:
    """Return bool [B], whether a face is known in both halves of prepared rows."""
    return can_align(rows["points"]) & can_align(rows["thermal_points"])


def _with_faces(rows: Columns) -> Columns:
    """Return the prepared rows with a face in both halves."""
    known = have_faces(rows)
    return {name: np.asarray(values)[known] for name, values in rows.items()}


def loss(model: nn.Module, batch: Columns, config: Config, step: int) -> tuple[Tensor, dict[str, float]]:
    """Return PACT's loss of augmented crops: symmetric multi-positive InfoNCE over the rows of one person in the other
    modality, plus `keep` x (1 - cosine) of visible crops to the original; with `gallery: original`, of thermal crops to what
    the original gives of the pair's visible half."""
    assert isinstance(model, Trainee)
    device = next(model.parameters()).device
    batch = _with_faces(batch)
    if len(batch["person"]) < 2:
        raise UserError("a batch has no two rows with a face: they have no points, and the landmarker finds none")
    # Each half has its own draw: two cameras never frame alike.
    visible, thermal = (_augment(batch, name, config).to(device) for name in ("visible", "thermal"))
    original, warm = model.original(visible), model.network(thermal)
    seen = original if config.gallery == "original" else model.network(visible)
    person = numbers_of([str(name) for name in batch["person"]]).to(device)
    together = symmetric_loss(unit(seen), unit(warm), person, config.temperature)
    away = drift(warm if config.gallery == "original" else seen, original)
    own = (unit(seen) * unit(warm)).sum(dim=1).mean()
    return together + config.keep * away, {"together": together.item(), "drift": away.item(), "cosine": own.item()}


def _augment(batch: Columns, name: str, config: Config) -> Tensor:
    """Return augmented crops float32 [B, 3, 112, 112] in [0, 255] of one half; a thermal one stays grey."""
    augment = partial(augment_crop, ranges=config.augmentation)
    seeds = [seed_of(name, int(draw)) for draw in batch["draw"]]
    crops = np.stack([augment(*given) for given in zip(batch[name], batch[POINTS[name]], seeds, strict=True)])
    if name == "thermal":
        crops = np.repeat(crops.mean(axis=3, keepdims=True), 3, axis=3)
    return _tensor(crops)


def _tensor(crops: np.ndarray) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(crops.transpose(0, 3, 1, 2))).float()


def validate(model: nn.Module, rows: Iterable[Columns], config: Config) -> dict[str, float]:
    """Return how thermal probes find their visible faces of other views: AUC, EER, rates at FAR 5, 1 and 0.1 %, the same of the
    original (`raw_`), and TAR at FAR 1e-3 among visible faces, before and after. `score` is the AUC."""
    assert isinstance(model, Trainee)
    found = dict[str, list[np.ndarray]]()
    for batch in rows:
        given = _with_faces(prepare(batch, config) | {"view": batch["view"]})
        for modality in ("visible", "thermal"):
            aligned = align(given[modality], given[POINTS[modality]])
            crops = _tensor(aligned)
            ours = model.original if (modality, config.gallery) == ("visible", "original") else model.network
            for who, embed in (("", ours), ("raw_", model.original)):
                found.setdefault(f"{who}{modality}", []).append(unit(embed(crops)).cpu().numpy())
            found.setdefault(f"{modality}_crop", []).append(np.array([hash(one.tobytes()) for one in aligned]))
        found.setdefault("person", []).append(given["person"])
        found.setdefault("view", []).append(given["view"])
    joined = {name: np.concatenate(values) for name, values in found.items()}
    same = joined["person"][:, None] == joined["person"][None]
    # The visible half of a pair shows the moment of the thermal one: only other views count as found.
    other = joined["view"][:, None] != joined["view"][None]
    if same.all() or not (same & other).any():
        raise UserError(
            "validation needs two people at least, one of them in two views: name other rows by --validation"
        )
    # Beside several thermal pictures the same visible one may stand: among visible faces it counts once.
    once = np.unique(joined["visible_crop"], return_index=True)[1]
    people = np.unique(joined["person"], return_inverse=True)[1]
    metrics = dict[str, float]()
    for who in ("", "raw_"):
        similarity = joined[f"{who}thermal"] @ joined[f"{who}visible"].T
        metrics |= {
            f"{who}{name}": value for name, value in verify(similarity[same & other], similarity[~same]).items()
        }
        metrics[f"{who}visible_tar"] = verification(joined[f"{who}visible"][once], people[once], 1e-3, rounds=0).tar
    return {"score": metrics["auc"], **metrics}


def export(model: nn.Module, config: Config, folder: Path, card: Card) -> None:
    """Write the ONNX file, from which recogniser it was adapted, and the card."""
    assert isinstance(model, Trainee)
    folder.mkdir(parents=True, exist_ok=True)
    model.network.save(folder / config.file)
    write_space(folder, model.original_file(folder))
    facts = {"title": "Face recogniser for thermal probes", "summary": SUMMARY, "limits": LIMITS[config.gallery]}
    card.model_copy(update=facts).write(folder)
