"""Train the face detector: SCRFD on composed canvases, exported as the ONNX file that an insightface pack holds.

python -m cluster train detector --data URI --validation URI --out DIR
"""

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn

from models.augment.canvas import compose
from models.card import Card
from models.columns import Columns
from models.faces.align import five_points
from models.faces.decode import candidates, letterbox, merge_scales
from models.faces.inputs import DETECTOR_SCALE, to_tensor
from models.faces.metrics import count_recalled
from models.faces.onnx_file import export_detector
from models.faces.scrfd import SCRFD
from models.faces.scrfd_loss import detection_loss
from models.tasks import TrainConfig

COLUMNS = ("visible", "landmarks_70", "bbox")

SUMMARY = """Finds faces and their two eyes, nose tip and mouth corners. ONNX in the form of insightface's detectors: nine
outputs for strides 8, 16 and 32, two anchors a cell; (x - 127.5) / 128 on RGB; any batch, sides multiples of 32."""
LIMITS = """Learnt from rendered people pasted on textures, faces of 14 px up to the picture: it knows no photograph. For
portraits of about 128 px one look at (128, 128) is enough; `FaceAnalysis.prepare(det_size=(128, 128))`."""


class Config(TrainConfig):
    """Batch statistics are of one worker's rows: train on one worker, or expect other numbers."""

    steps: int = Field(1500, gt=0)
    batch: int = Field(48, gt=0)
    lr: float = Field(2e-3, gt=0)
    clip: float = Field(30.0, ge=0)
    ema: float = Field(0.995, ge=0, lt=1)
    bf16: bool = True
    validate_rows: int = Field(1000, gt=0)
    sides: tuple[int, ...] = Field((128, 128, 160, 128, 128, 320), description="canvas sides in px, step after step")
    file: str = Field("scrfd_starter.onnx", description="name of the exported file")


def build(config: Config) -> nn.Module:
    """Return the detector."""
    return SCRFD()


def prepare(rows: Columns, config: Config) -> Columns:
    """Keep the picture, its box and its five points."""
    landmarks = np.asarray(rows["landmarks_70"], np.float32).reshape(-1, 70, 2)
    return {"visible": rows["visible"], "bbox": rows["bbox"].astype(np.float32), "points": five_points(landmarks)}


def loss(model: nn.Module, batch: Columns, config: Config, step: int) -> tuple[Tensor, dict[str, float]]:
    """Return the detection loss on a canvas composed of each row: its picture whole, pasted faces, or none."""
    side = config.sides[step % len(config.sides)]
    with ThreadPoolExecutor(2) as pool:  # OpenCV and numpy leave the interpreter lock
        sides = [side] * len(batch["draw"])
        canvases = list(pool.map(compose, batch["visible"], batch["bbox"], batch["points"], sides, batch["draw"]))
    assert isinstance(model, SCRFD)
    device = next(model.parameters()).device
    pictures, boxes, points, present = (
        torch.from_numpy(np.stack([getattr(canvas, name) for canvas in canvases])).to(device)
        for name in ("picture", "boxes", "points", "present")
    )
    return detection_loss(model, to_tensor(pictures, DETECTOR_SCALE), boxes, points, present)


def validate(model: nn.Module, rows: Iterable[Columns], config: Config) -> dict[str, float]:
    """Return recall at IoU 0.5, faces too many a picture, and the points' error in shares of the eye distance.

    On whole pictures, scaled to 128 px as the generated ones are looked at.
    """
    device = next(model.parameters()).device
    size = (128, 128)
    faces = matched = extra = 0
    errors: list[float] = []
    # Each picture in the detector's square, and what is found in it.
    for batch in rows:
        landmarks = np.asarray(batch["landmarks_70"], np.float32).reshape(-1, 70, 2)
        boxed = [letterbox(picture, size) for picture in batch["visible"]]
        pictures = torch.from_numpy(np.stack([picture for picture, _ in boxed])).to(device)
        outputs = [output.float().cpu().numpy() for output in model(to_tensor(pictures, DETECTOR_SCALE))]
        # A picture shows one face: what is found beside it is one too many.
        for row, truth in enumerate(five_points(landmarks)):
            found = merge_scales([candidates(outputs, row, size, boxed[row][1], 0.5)])
            hits = count_recalled(found.boxes, batch["bbox"][row][None])
            faces, matched, extra = faces + 1, matched + hits, extra + len(found.boxes) - hits
            if hits:
                distance = np.linalg.norm(found.points - truth, axis=-1).mean(axis=-1).min()
                errors.append(float(distance / max(np.linalg.norm(truth[1] - truth[0]), 1.0)))
    return {
        "score": matched / faces - 0.1 * extra / faces,
        "recall_iou_0.5": matched / faces,
        "false_per_picture": extra / faces,
        "points_nme": float(np.mean(errors)) if errors else float("nan"),
    }


def export(model: nn.Module, config: Config, folder: Path, card: Card) -> None:
    """Write the detector as ONNX (any batch and size, weights stored in fp16), and its card into `folder/detector`.

    The folder is the pack that the recogniser lies in, whose README is the recogniser's card.
    """
    export_detector(model, folder / config.file)
    facts = {
        "title": "Face detector: SCRFD, five points",
        "summary": SUMMARY,
        "limits": LIMITS,
        "parameters": sum(p.numel() for p in model.parameters()),
    }
    card.model_copy(update=facts).write(folder / "detector")
