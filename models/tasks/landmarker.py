"""Train a landmarker jointly on visible pictures and on what the thermalizer makes of them (T-FAKE, section 2.3 of its code).

Thermal pictures are predicted from the visible ones; true temperature is read by `validate` alone, and by
`models/tasks/landmarker_bound.py`, the upper bound.
"""

import shutil
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np
import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from models.augment.batch import to_unit_tensor
from models.augment.faceless import augment_negative
from models.augment.landmarks import Augmentation, Crop, augment_face
from models.card import Card
from models.classes import BACKGROUND, IGNORE
from models.columns import Columns
from models.errors import UserError
from models.landmarks.calibration import FILE as CALIBRATION
from models.landmarks.detect import FILE as DETECTION
from models.landmarks.detect import write_detection
from models.landmarks.intensity import unit_values
from models.landmarks.loss import nll
from models.landmarks.metrics import nme
from models.landmarks.network import Landmarker, LandmarkerConfig, new_landmarker, normalise
from models.landmarks.painting import paint_landmarks
from models.tasks import Place, TrainConfig
from models.thermal.unet.network import Thermalizer, load_thermalizer
from models.weights.networks import save_network
from models.weights.store import ROOT

COLUMNS: tuple[str, ...] = ("visible", "classes", "landmarks_70", "landmarks_478")
VALIDATION_COLUMNS = (*COLUMNS, "thermal", "seen_70_visible", "seen_70_thermal")
VALIDATION_OPTIONAL = ("thermal",)
SHOWN = 8
ENOUGH = 0.5
"""Share of its points that a row needs to be taken for a face: of the 70, iBUG's 68 are given without the pupils."""

SUMMARY = """Places {standard} landmarks on visible and thermal faces and says how sure it is of each: x, y and a variance in
(crop sides)^2. MobileNetV2 with T-FAKE's key names; found faces are the windows whose mean variance is low."""
LIMITS = """Learnt from rendered people and from what the starter's thermalizer makes of them: it knows no photograph and no
real thermal camera. The 478 points are the world's own topology, not MediaPipe's."""


class Config(TrainConfig):
    """Batch statistics are of one worker's rows: train on one worker, or expect other numbers."""

    steps: int = Field(4000, gt=0)
    batch: int = Field(64, gt=0)
    lr: float = Field(2e-3, gt=0)
    weight_decay: float = Field(5e-5, ge=0)
    ema: float = Field(0.995, ge=0, lt=1)
    validate_rows: int = Field(800, gt=0)
    network: LandmarkerConfig = LandmarkerConfig(size=96, width=0.5, head=256, cells=3, outputs="softplus")
    augmentation: Augmentation = Augmentation(
        rotation=25, flip=0.5, rgb_texture=0.25, gain=0.3, thermal_noise=(0.3, 1e-4, 0.03), colour=0.25
    )
    thermalizer: Place = Field(
        "models/starter/thermal", description="folder of the thermalizer that makes thermal rows"
    )
    thermal: float = Field(0.4, ge=0, le=1, description="share of rows that are thermal")
    negatives: float = Field(0.2, ge=0, lt=1, description="share of rows without a face")

    @model_validator(mode="after")
    def _drop_flip(self) -> "Config":
        """Turn flipping off where no table says which point is which in the mirror: for all standards but the 70."""
        if self.augmentation.flip and self.network.standard != 70:
            flipless = self.augmentation.model_copy(update={"flip": 0.0})
            object.__setattr__(self, "augmentation", flipless)
        return self


def build(config: Config) -> nn.Module:
    """Return a fresh landmarker."""
    return new_landmarker(config.network)


def weights(config: Config) -> list[Path]:
    """Return the thermalizer, if it is looked through."""
    return [ROOT / config.thermalizer] if config.thermal else []


def takes_grey(config: Config) -> bool:
    """Whether rows may have a user's annotated thermal pictures, in grey, in `visible`: only if none are predicted beside."""
    return not config.thermal


def prepare(rows: Columns, config: Config) -> Columns:
    """Keep visible uint8 [B, S, S, 3], classes, points float32 [B, L, 2] px and thermal_pictures uint8 [B, C, S, S],
    predicted.
    """
    kept = keep_columns(rows, config)
    if not config.thermal:  # a user's annotated thermal pictures may be in `visible`
        return {**kept, "thermal_pictures": np.zeros((len(rows["classes"]), 0, *rows["classes"].shape[1:]), np.uint8)}
    return {**kept, "thermal_pictures": predict_thermal(rows, config.thermalizer)}


def keep_columns(rows: Columns, config: Config) -> Columns:
    """Return the columns that both kinds of training share."""
    points = np.asarray(rows[f"landmarks_{config.network.standard}"], np.float32)
    return {"visible": rows["visible"], "classes": rows["classes"], "points": points}


def check_row(rows: Columns, config: Config) -> None:
    """Raise a UserError for rows of which no thermal picture can be predicted, where there are to be some."""
    if config.thermal:
        _check_masks(rows)


check_validation_row = check_row


def _check_masks(rows: Columns) -> None:
    if (np.asarray(rows["classes"]) == IGNORE).all(axis=(1, 2)).any():
        raise UserError(
            "thermal pictures are predicted of pictures with a mask, and a row has none: set thermal=0, or gather with --bundle "
            "starter (of a published set: --reader NAME --parser starter)"
        )


def predict_thermal(rows: Columns, folder: str) -> np.ndarray:
    """Return what the thermalizer of `folder` predicts in all its conditions, stretched to uint8 [B, C, S, S].

    Raises UserError for rows without a mask.
    """
    _check_masks(rows)
    model = thermalizer(folder)
    pictures, classes = to_unit_tensor(rows["visible"]), torch.from_numpy(np.ascontiguousarray(rows["classes"]))
    with torch.inference_mode():
        layers = [
            torch.cat([model(p, c, name) for p, c in zip(pictures.split(32), classes.split(32), strict=True)])
            for name in model.networks
        ]
    return np.stack([levels(layer.numpy()) for layer in layers], axis=1)


@lru_cache(maxsize=1)
def thermalizer(folder: str) -> Thermalizer:
    """Return the frozen thermalizer of `folder` (relative ones from the repository root)."""
    return load_thermalizer(ROOT / folder).requires_grad_(False)


def levels(celsius: np.ndarray) -> np.ndarray:
    """Return pictures [B, S, S] in degrees Celsius, each stretched over its own range, as uint8 [B, S, S]; grey stays grey."""
    if celsius.dtype == np.uint8:
        return celsius
    return np.stack([(unit_values(layer, "temperature")[..., 0] * 255 + 0.5).astype(np.uint8) for layer in celsius])


def loss(model: nn.Module, batch: Columns, config: Config, step: int) -> tuple[Tensor, dict[str, float]]:
    """Return the mean negative log-likelihood of a crop of every row: a face, or in its place something without one.

    Logged as `unannotated`: the share of rows without points, which are no faces.
    """
    rows = range(len(batch["draw"]))
    known = is_annotated(batch["points"])
    if not known.any():
        raise UserError(
            f"no row of a batch has its {config.network.standard} landmarks: the data set gives others (convert "
            "them with a label adapter, or set network.standard)"
        )

    # A crop of each row, and the truth: points of a face, random places where there is none.
    crops, faces = zip(*(example({k: batch[k][row] for k in batch}, config) for row in rows), strict=True)
    pictures = normalise(to_unit_tensor(np.stack([crop.picture for crop in crops])))
    truth = torch.from_numpy(np.stack([crop.points for crop in crops]))
    device = next(model.parameters()).device
    prediction = model(pictures.contiguous(memory_format=torch.channels_last).to(device))
    losses, clipped = nll(prediction, truth.to(device))

    # What is logged: the points' error on faces, and how sure the network is with and without one.
    face = torch.tensor(faces)
    with torch.no_grad():
        error = (prediction[..., :2].cpu() - truth)[face].norm(dim=-1).nanmean()
        variance = prediction[..., 2].mean(dim=1).cpu()
    return losses.mean(), {
        "clipped": clipped.item(),
        "error": error.item(),
        "variance_face": variance[face].median().item(),
        "variance_other": variance[~face].median().item() if (~face).any() else float("nan"),
        "unannotated": float((~known).mean()),
    }


def is_annotated(points: np.ndarray) -> np.ndarray:
    """Return bool [...], which rows of points [..., L, 2] give `ENOUGH` of them; the others are not known to show a face."""
    return np.asarray(np.isfinite(points).all(axis=-1).mean(axis=-1) >= ENOUGH)


def example(row: Columns, config: Config) -> tuple[Crop, bool]:
    """Return one row's crop, drawn from its `draw` alone, and whether it shows a face.

    A share of `config.negatives` shows none, and so does a row without its points: their points are uniform in the crop, as
    T-FAKE has them, which the network can answer by a large variance alone.
    """
    rng = np.random.default_rng(int(row["draw"]))
    side = config.network.size
    thermal, face = rng.random() < config.thermal, rng.random() >= config.negatives
    picture = row["thermal_pictures"][rng.integers(len(row["thermal_pictures"]))] if thermal else row["visible"]
    if face and is_annotated(row["points"]):
        person = (row["classes"] != BACKGROUND).astype(np.uint8) * 255
        return augment_face(picture, person, row["points"], side, rng, config.augmentation), True
    anywhere = rng.random(row["points"].shape, dtype=np.float32)
    return Crop(augment_negative(picture, row["classes"], side, rng, config.augmentation), anywhere), False


def validate(model: nn.Module, rows: Iterable[Columns], config: Config) -> dict[str, float]:
    """Return "NME W/H" on whole pictures by modality (`rgb`, `thermal` predicted, `true` the rows' own temperature).

    Without thermal training (`thermal` 0) `rgb` is all there is: what stands in `visible`. Rows without points are left
    out. `nme_*` counts all points, `nme_*_seen` those that the modality shows. `threshold` is the mean variance that 95 % of
    the faces, of all modalities alike, stay below; `false_faces` the share of negatives that do, too. The score is that
    of the modalities that the model is trained on: true temperature chooses no checkpoint.
    """
    assert isinstance(model, Landmarker)
    standard = config.network.standard
    collected: dict[str, list[np.ndarray]] = {}
    for whole in rows:
        known = is_annotated(whole[f"landmarks_{standard}"])
        batch = {name: values[known] for name, values in whole.items()}
        if not known.any():
            continue
        truth = np.asarray(batch[f"landmarks_{standard}"], np.float32)
        for name, inputs in inputs_of(batch, config).items():
            points = locate(model, inputs)
            seen = batch.get(f"seen_{standard}_{'visible' if name == 'rgb' else 'thermal'}")
            collected.setdefault(f"nme_{name}", []).append(nme(points, truth))
            if seen is not None:
                collected.setdefault(f"nme_{name}_seen", []).append(nme(points, truth, seen))
            collected.setdefault("faces", []).append(points[..., 2].mean(axis=-1))
        collected.setdefault("others", []).append(_variance_on_negatives(model, batch, config))
    if not collected:
        raise UserError(f"no validation row has its {standard} landmarks: name others with --validation")

    # The threshold lets 95 % of the faces through.
    values = {name: np.concatenate(batches) for name, batches in collected.items()}
    faces, others = values.pop("faces"), values.pop("others")
    threshold = float(np.quantile(faces, 0.95))
    metrics = {name: float(value.mean()) for name, value in values.items()}
    return {
        "score": -float(np.mean([metrics[name] for name in ("nme_rgb", "nme_thermal") if name in metrics])),
        **metrics,
        "threshold": threshold,
        "false_faces": float((others < threshold).mean()),
    }


def inputs_of(rows: Columns, config: Config) -> dict[str, np.ndarray]:
    """Return the pictures of `rows` that a network of `config` is validated on, by modality; see `modalities`."""
    return modalities(rows, config.thermalizer) if config.thermal else {"rgb": rows["visible"]}


def modalities(rows: Columns, thermalizer: str) -> dict[str, np.ndarray]:
    """Return the rows' pictures by modality: rgb uint8 [B, S, S, 3], and where there are such, thermal and true uint8 [B, S, S].

    thermal is what `thermalizer` (a folder; none if empty) predicts, in its first condition; true is the rows' own.
    """
    pictures = {"rgb": rows["visible"]}
    if thermalizer:
        pictures["thermal"] = predict_thermal(rows, thermalizer)[:, 0]
    if "thermal" in rows:
        pictures["true"] = levels(rows["thermal"])
    return pictures


def locate(model: Landmarker, pictures: np.ndarray) -> np.ndarray:
    """Return x, y in pixels and the variance in (crop units)^2, float32 [B, L, 3], of whole square pictures in one look."""
    size, side = pictures.shape[1], model.config.size
    small = np.stack([cv2.resize(picture, (side, side), interpolation=cv2.INTER_LINEAR) for picture in pictures])
    if small.ndim == 3:
        small = np.repeat(small[..., None], 3, axis=3)
    device = next(model.parameters()).device
    with torch.inference_mode():
        inputs = normalise(to_unit_tensor(small)).to(device)
        prediction = torch.cat([model(few) for few in inputs.split(64)]).cpu().numpy()
    return prediction * np.array([size, size, 1], np.float32)


def _variance_on_negatives(model: Landmarker, rows: Columns, config: Config) -> np.ndarray:
    """Return the mean variance on one negative per row, the same in every validation."""
    pictures = [
        augment_negative(picture, classes, config.network.size, np.random.default_rng(int(row)), config.augmentation)
        for picture, classes, row in zip(rows["visible"], rows["classes"], rows["row"], strict=True)
    ]
    return locate(model, np.stack(pictures))[..., 2].mean(axis=-1)


def pictures(model: nn.Module, rows: Columns, config: Config) -> np.ndarray:
    """Return a sheet of rows with the points found, larger where the variance is, uint8: rgb, predicted and true thermal."""
    assert isinstance(model, Landmarker)
    few = {name: values[:SHOWN] for name, values in rows.items()}
    lines = []
    for inputs in inputs_of(few, config).values():
        points, area = locate(model, inputs), inputs.shape[1] * inputs.shape[2]
        line = [paint_landmarks(p, f[:, :2], f[:, 2] * area) for p, f in zip(inputs, points, strict=True)]
        lines.append(np.concatenate(line, axis=1))
    return np.concatenate(lines)


def export(model: nn.Module, config: Config, folder: Path, card: Card) -> None:
    """Write `STANDARD/landmarker.safetensors` (float16), its detection threshold and card, so both standards share a part."""
    assert isinstance(model, Landmarker)
    standard = config.network.standard
    # Each standard has a folder of its own in the part.
    own = folder / str(standard)
    save_network(model, own / "landmarker.safetensors")
    # What the training began with keeps its margin and calibration; the threshold is measured anew.
    if config.init:
        _copy_settings(Path(config.init).parent, own)
    threshold = {key: value for key, value in card.metrics.get("validation", {}).items() if key == "threshold"}
    write_detection(own, **threshold)
    facts = {
        "title": f"Landmarker: {standard} points with variance",
        "summary": SUMMARY.format(standard=standard),
        "limits": LIMITS,
    }
    card.model_copy(update=facts).write(own)


def _copy_settings(part: Path, own: Path) -> None:
    """Copy threshold, margin and calibration of the landmarker in `part`, which the training began with, if it is one."""
    for name in (DETECTION, CALIBRATION):
        if (part / name).is_file() and part.resolve() != own.resolve():
            shutil.copyfile(part / name, own / name)
