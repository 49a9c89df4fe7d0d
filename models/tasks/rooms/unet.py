"""Train the U-Net that is told of rooms, by regression on radiometric pairs.

python -m cluster train room_thermalizer --data URI --validation URI --out DIR

What is told of the room is drawn anew at every visit of a row, as in `models.tasks.thermal_ldm`: where nobody says, the
network learns the mean over what rooms could be.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from models.augment.batch import Geometry, Photometry, RowDraws, draw_transforms, relight, to_unit_tensor, warp
from models.card import Card
from models.classes import BACKGROUND, FACE, IGNORE, MIRRORED_BYTES
from models.columns import Columns
from models.errors import UserError
from models.seeds import seed_of
from models.tasks.rooms import RoomConfig, draw_room, parse_rows, word_numbers
from models.thermal.baselines import Errors
from models.thermal.room_unet.network import (
    RoomUNet,
    RoomUNetConfig,
    load_room_unet,
    new_room_unet,
    save_room_unet,
)
from models.thermal.rooms import Room
from models.unet import STRIDE, UNetConfig
from models.weights.networks import device_of, load_strictly

STAGE = "thermal"
COLUMNS = ("visible", "classes", "thermal", "valid", "condition", "domain", "ambient_c", "sun_wm2", "wind_ms")
SUMMARY = """Turns a visible face into apparent temperature in degrees Celsius for a room in degrees (outdoors with sun and
wind), a word, or a room that nobody names: T-FAKE's U-Net with the room beside the picture, trained by regression alone."""
LIMITS = """Learnt from rendered people. What it gives is the mean of what is likely: it has less texture than a true picture,
and does not say how sure it is. Of rooms outside of those it learned from (`thermal.json`) it makes pictures that are marked."""


class Config(RoomConfig):
    steps: int = Field(2000, gt=0)
    batch: int = Field(32, gt=0)
    lr: float = Field(2e-3, gt=0)
    ema: float = Field(0.99, ge=0, lt=1)
    unet: UNetConfig = UNetConfig(width=16, blocks=(1, 1, 1, 1))
    thermal: RoomUNetConfig = RoomUNetConfig()
    geometry: Geometry = Geometry()
    photometry: Photometry = Photometry()
    face: float = Field(2.0, gt=0, description="weight of the face's pixels; the rest of the person has 1")
    background: float = Field(0.1, ge=0, description="weight of background pixels")
    bend: float = Field(1.0, gt=0, description="kelvin from which on errors weigh linearly, as at edges (Huber)")
    drop_classes: float = Field(0.15, ge=0, le=1, description="share of rows that are shown no classes")


def build(config: Config) -> nn.Module:
    """Return a fresh network."""
    return new_room_unet(config.thermal, config.unet)


def prepare(rows: Columns, config: Config) -> Columns:
    """Return the rows with `parsed` beside them: the classes that a job would know, uint8 [B, H, W]."""
    return {**rows, "parsed": parse_rows(rows, config)}


def begin(model: nn.Module, folder: Path) -> None:
    """Fill `model` from the folder of a thermalizer of rooms of the same shape, words and scale."""
    assert isinstance(model, RoomUNet)
    part = load_room_unet(folder)
    if (part.config.centre, part.config.scale) != (model.config.centre, model.config.scale):
        centre, scale = part.config.centre, part.config.scale
        raise UserError(
            f"{folder} has its zero at {centre:g} degC: set thermal.centre={centre:g} thermal.scale={scale:g}"
        )
    load_strictly(model.unet, part.unet.state_dict(), folder)


@dataclass(frozen=True)
class Drawn:
    """Rows as one visit shows them: pictures [B, 3, H, W], classes uint8, target and weight float32, all [B, H, W]."""

    pictures: Tensor
    classes: Tensor
    target: Tensor
    weight: Tensor
    rooms: list[Room]


def draw_rows(batch: Columns, config: Config) -> Drawn:
    """Draw what a step needs of its rows, each from its own `draw`."""
    # Picture and temperature move together; light and noise change the picture alone.
    draws = RowDraws(batch["draw"])
    matrices, flipped = draw_transforms(config.geometry, draws)
    pictures = relight(warp(to_unit_tensor(batch["visible"]), matrices), config.photometry, draws)
    names = ("thermal", "valid", "classes", "parsed")
    layers = [torch.from_numpy(np.asarray(batch[name], np.float32)) for name in names]
    layers[1] = layers[1] * layers[0].isfinite()
    layers[0] = layers[0].nan_to_num()
    stacked = torch.stack([*layers, torch.ones_like(layers[0])], dim=1)
    thermal, valid, classes, parsed, inside = warp(stacked, matrices, nearest=True).unbind(dim=1)
    sides = torch.tensor(MIRRORED_BYTES)  # left and right eyes, brows and ears change places
    classes, parsed = (
        torch.where(flipped[:, None, None], sides[values.long()], values.long()) for values in (classes, parsed)
    )
    person = torch.where(torch.isin(classes, torch.tensor(list(FACE))), config.face, 1.0)
    weight = torch.where(classes == BACKGROUND, config.background, person) * (valid > 0) * inside
    # What each row is told: of its room, and of its classes.
    numbers = np.stack([np.asarray(batch[name], np.float64) for name in ("ambient_c", "sun_wm2", "wind_ms")], axis=1)
    words = word_numbers(batch, config.thermal.conditions, config.unnamed)
    rooms, shown, seen = list[Room](), list[bool](), list[bool]()
    for draw, known, word in zip(batch["draw"], numbers, words, strict=True):
        rng = np.random.default_rng(seed_of("rooms", int(draw)))
        rooms.append(draw_room(rng, known, "" if word < 0 else config.thermal.conditions[word], config))
        shown.append(bool(rng.random() >= config.drop_classes))
        seen.append(bool(rng.random() < config.parsed))
    told = torch.where(torch.tensor(seen)[:, None, None], parsed, classes).to(torch.uint8)
    hidden = ~torch.tensor(shown)[:, None, None]
    return Drawn(pictures, told.masked_fill(hidden, IGNORE), thermal, weight, rooms)


def loss(model: nn.Module, batch: Columns, config: Config, step: int) -> tuple[Tensor, dict[str, float]]:
    """Return the weighted Huber error in kelvin. Logged: `mae_kelvin` under the same weights."""
    assert isinstance(model, RoomUNet)
    if (side := batch["visible"].shape[1]) % STRIDE:
        raise UserError(
            f"pictures of {side} px: the thermalizer takes multiples of {STRIDE}; make them of another size"
        )
    # Predicted, and how far that is from the truth where it counts.
    drawn = draw_rows(batch, config)
    device = device_of(model)
    celsius = model(drawn.pictures.to(device), drawn.classes.to(device), drawn.rooms)
    target, weight = drawn.target.to(device), drawn.weight.to(device)
    errors = F.smooth_l1_loss(celsius, target, beta=config.bend, reduction="none")
    total = weight.sum().clamp(min=1)
    absolute = ((celsius.detach() - target).abs() * weight).sum() / total
    return (errors * weight).sum() / total, {"mae_kelvin": absolute.item()}


def validate(model: nn.Module, rows: Iterable[Columns], config: Config) -> dict[str, float]:
    """Return the person's temperature error in kelvin, each row told its room's numbers: absolute, after removing the
    picture's offset, and by condition; `mae_parsed`, the score, is that with the classes that a job would know."""
    assert isinstance(model, RoomUNet)
    errors, errors_parsed = Errors(), Errors()
    for batch in rows:
        errors.add(batch, predict(model, batch))
        errors_parsed.add(batch, predict(model, {**batch, "classes": parse_rows(batch, config)}))
    parsed = errors_parsed.summary()["mae"]
    return {"score": -parsed, **errors.summary(), "mae_parsed": parsed}


def predict(model: RoomUNet, rows: Columns) -> np.ndarray:
    """Return degrees Celsius float32 [B, H, W] for rows whose air, sun and wind are told as far as they are known."""
    told = zip(*(np.asarray(rows[name], np.float64) for name in ("ambient_c", "sun_wm2", "wind_ms")), strict=True)
    rooms = [Room(air, sun, wind) for air, sun, wind in told]
    pictures, classes = to_unit_tensor(rows["visible"]), torch.from_numpy(np.ascontiguousarray(rows["classes"]))
    device = device_of(model)
    made: np.ndarray = model(pictures.to(device), classes.to(device), rooms).cpu().numpy()
    return made


def export(model: nn.Module, config: Config, folder: Path, card: Card) -> None:
    """Write the network's folder and its card."""
    assert isinstance(model, RoomUNet)
    folder.mkdir(parents=True, exist_ok=True)
    save_room_unet(model, folder)
    facts: dict[str, Any] = {"title": "Thermalizer of rooms", "summary": SUMMARY, "limits": LIMITS}
    card.model_copy(update=facts).write(folder)
