"""T-FAKE's published checkpoints as parts of a bundle: read strictly, written as this project writes its own, sealed."""

import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import torch
from torch import nn

from models.card import Card
from models.errors import EnvironmentFault, UserError
from models.landmarks.detect import MARGIN, write_detection
from models.landmarks.network import Landmarker, load_published
from models.thermal.unet.network import ThermalConfig, save_config, thermal_config
from models.unet import UNet, UNetConfig
from models.weights.networks import load_strictly, read_checkpoint, save_network
from models.weights.store import seal, verify

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
        with _new_version(parts["thermal"]) as folder:
            _write_thermalizers(networks, list(thermal.values()), folder)
    if landmarkers:
        parts["landmarks"] = out / "landmarks"
        with _new_version(parts["landmarks"]) as folder:
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
    _check_finite(network, path)
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
    _check_finite(model, path)
    return model


def _check_finite(network: nn.Module, path: Path) -> None:
    """Raise a UserError for weights with NaN or infinity, which would make all that they compute NaN."""
    odd = [key for key, value in network.state_dict().items() if not torch.isfinite(value).all()]
    if odd:
        raise UserError(f"{path}: {odd[0]} holds NaN or infinity: a training that diverged, or a damaged file.")


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


@contextmanager
def _new_version(folder: Path) -> Iterator[Path]:
    """Give a copy of a part (or an empty folder) to write in; after the block it is sealed and takes the part's place.

    What stops the block leaves the part as it was. Raises EnvironmentFault for a part that is damaged.
    """
    there = folder.is_dir() and any(folder.iterdir())
    if there:
        verify(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}.") as temporary:
        new, old = Path(temporary) / "new", Path(temporary) / "old"
        if there:
            shutil.copytree(folder, new)
        else:
            new.mkdir()
        yield new
        seal(new)
        if there:
            folder.rename(old)
        new.rename(folder)


def _card(title: str, task: str, data: str) -> Card:
    return Card(title=title, task=task, licence=LICENCE, limits=LIMITS, data=data)
