"""T-FAKE's published checkpoints as parts of a bundle: read strictly, written as this project writes its own, sealed."""

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from models.card import Card
from models.errors import EnvironmentFault, UserError
from models.landmarks.detect import MARGIN, write_detection
from models.landmarks.network import Landmarker, load_published
from models.published.versions import check_finite, new_version
from models.thermal.unet.network import ThermalConfig, save_config, thermal_config
from models.unet import UNet, UNetConfig
from models.weights.networks import load_strictly, read_checkpoint, save_network

BLUR = 0.5
"""Sigma in pixels of what the published thermalizer's pictures were blurred by, masked before."""
THRESHOLD = 6e-4
"""Mean variance, (crop units)^2, below which the published landmarkers' windows show a face."""
LICENCE = "research-only"
LIMITS = """Weights of the authors of T-FAKE (arXiv 2408.15127), imported and not trained here. Their page says CC BY-NC-SA 4.0,
the licence file beside it Microsoft's Research Use of Data Agreement: read both before use; neither allows commercial use.
Name the licence in the bundle's part."""


def import_checkpoints(
    thermal: Mapping[str, Path], landmarks: Mapping[Literal[70, 478], Path], out: Path
) -> dict[str, Path]:
    """Write `out/thermal` of thermalizers by condition and `out/landmarks` of landmarkers by points; returns the parts.

    Weights stay float32. All files are read before one is written, and a part appears whole or not at all; what it holds of
    other conditions or points stays.

    Raises:
        UserError: a file that is no checkpoint of tensors, or of another network, with what differs.
    """
    # Read everything first.
    networks = {condition: _read_thermalizer(path) for condition, path in thermal.items()}
    landmarkers = {standard: _read_landmarker(path, standard) for standard, path in landmarks.items()}
    parts = {}
    if networks:
        parts["thermal"] = out / "thermal"
        with new_version(parts["thermal"]) as folder:
            _write_thermalizers(networks, list(thermal.values()), folder)
    if landmarkers:
        parts["landmarks"] = out / "landmarks"
        with new_version(parts["landmarks"]) as folder:
            for standard, model in landmarkers.items():
                own = folder / str(standard)
                save_network(model, own / "landmarker.safetensors", half=False)
                write_detection(own, threshold=THRESHOLD, margin=MARGIN)
                title = f"T-FAKE's landmarker, {standard} points"
                _card(title, "landmarker", landmarks[standard].name).write(own)
    return parts


def _read_thermalizer(path: Path) -> UNet:
    """Return the network of one condition's checkpoint."""
    network = UNet(UNetConfig())
    state = read_checkpoint(path)
    try:
        load_strictly(network, state, path)
    except EnvironmentFault as error:
        raise UserError(str(error)) from None
    check_finite(network.state_dict(), path)
    return network


def _read_landmarker(path: Path, standard: int) -> Landmarker:
    """Return the network of a checkpoint that must place `standard` points."""
    try:
        model = load_published(path)
    except EnvironmentFault as error:
        raise UserError(str(error)) from None
    if model.config.standard != standard:
        raise UserError(
            f"{path} places {model.config.standard} points, not {standard}: --landmarks 70.pt, --dense 478.pt"
        )
    check_finite(model.state_dict(), path)
    return model


def _write_thermalizers(networks: dict[str, UNet], files: list[Path], folder: Path) -> None:
    """Write the networks of conditions into `folder`, beside those of others that it holds."""
    config, names = ThermalConfig(conditions=tuple(networks), blur=BLUR), [path.name for path in files]
    if (folder / "thermal.json").is_file():
        known = thermal_config(folder)
        if known.model_copy(update={"conditions": config.conditions}) != config:
            raise UserError(
                f"--out holds a thermalizer of {known.low:g} to {known.high:g} degC that is not the authors': name another"
            )
        both = tuple(dict.fromkeys((*known.conditions, *config.conditions)))
        config = config.model_copy(update={"conditions": both})
        names = list(dict.fromkeys((*Card.read(folder).data.split(", "), *names)))
    save_config(config, folder)
    for condition, network in networks.items():
        save_network(network, folder / f"{condition}.safetensors", half=False)
    _card("T-FAKE's thermalizer", "thermalizer", ", ".join(names)).write(folder)


def _card(title: str, task: str, data: str) -> Card:
    return Card(title=title, task=task, licence=LICENCE, limits=LIMITS, data=data)
