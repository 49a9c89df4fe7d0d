"""T-FAKE's published checkpoints as parts of a bundle: read strictly, written as this project writes its own, sealed."""

from pathlib import Path
from typing import Literal

from models.card import Card
from models.errors import UserError
from models.landmarks.detect import MARGIN, write_detection
from models.landmarks.network import load_published
from models.thermal.unet.network import ThermalConfig, Thermalizer, save_thermalizer
from models.unet import UNet, UNetConfig
from models.weights.networks import load_strictly, read_checkpoint, save_network
from models.weights.store import seal

BLUR = 0.5
"""Sigma in pixels of what the published thermalizer's pictures were blurred by, masked before."""
THRESHOLD = 6e-4
"""Mean variance, (crop units)^2, below which the published landmarkers' windows show a face."""
LICENCE = "research-only"
LIMITS = """Weights of the authors of T-FAKE (arXiv 2408.15127), imported and not trained here. Their page says CC BY-NC-SA 4.0,
the licence file beside it Microsoft's Research Use of Data Agreement: read both before use; neither allows commercial use.
Name the licence in the bundle's part."""


def import_thermalizer(checkpoints: dict[str, Path], folder: Path) -> Path:
    """Write the thermalizer whose networks by condition are `checkpoints` (.pth) into `folder`; returns it.

    Raises EnvironmentFault for a file that is no checkpoint of tensors, or of another architecture, with what differs.
    """
    networks = {}
    for condition, path in checkpoints.items():
        networks[condition] = UNet(UNetConfig())
        load_strictly(networks[condition], read_checkpoint(path), path)
    config = ThermalConfig(conditions=tuple(networks), blur=BLUR)
    save_thermalizer(Thermalizer(config, networks), folder)
    _card("T-FAKE's thermalizer", "thermalizer", list(checkpoints.values())).write(folder)
    seal(folder)
    return folder


def import_landmarkers(checkpoints: dict[Literal[70, 478], Path], folder: Path) -> Path:
    """Write landmarkers by their number of points into `folder`; returns it. Raises as `import_thermalizer` does."""
    for standard, path in checkpoints.items():
        model, own = load_published(path), folder / str(standard)
        if model.config.standard != standard:
            raise UserError(
                f"{path} places {model.config.standard} points, not {standard}: --landmarks 70.pt, --dense 478.pt"
            )
        save_network(model, own / "landmarker.safetensors")
        write_detection(own, threshold=THRESHOLD, margin=MARGIN)
        _card(f"T-FAKE's landmarker, {standard} points", "landmarker", [path]).write(own)
    seal(folder)
    return folder


def _card(title: str, task: str, files: list[Path]) -> Card:
    return Card(title=title, task=task, licence=LICENCE, limits=LIMITS, data=", ".join(path.name for path in files))
