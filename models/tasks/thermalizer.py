"""Train the thermalizer with RGB2Thermal: by default its first term alone, mean squared error on radiometric pairs.

--set loss.patches=0.01 --set loss.prior=1        the paper's other two terms
--set data.faces=URI                              pictures without temperature, which these two then see (its FAKE)
--set data.thermal_unpaired=DIR                   frames of your own camera, the patch term's wanted distribution
--set loss.fidelity=code                          the authors' released step: `RELEASED`, and the defects of its code
"""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator
from torch import Tensor, nn

from models.augment.batch import Geometry, Photometry, RowDraws, draw_transforms, relight, to_unit_tensor, warp
from models.card import Card
from models.classes import BACKGROUND, CLASSES
from models.columns import Columns
from models.errors import UserError
from models.seeds import generator, seed_of
from models.tasks import Side, TrainConfig, absolute
from models.temperature import Unit
from models.thermal.baselines import Errors
from models.thermal.losses import LossConfig, paired_error, patch_distance, stretch
from models.thermal.prior import prior_celsius, temperature_prior
from models.thermal.unet.network import (
    ThermalConfig,
    Thermalizer,
    clipped_share,
    load_thermalizer,
    new_thermalizer,
    save_thermalizer,
)
from models.unet import STRIDE, UNetConfig
from models.weights.networks import device_of, load_strictly

STAGE = "thermal"
COLUMNS = ("visible", "classes", "thermal", "valid", "condition")
SUMMARY = """Turns a visible face into apparent temperature in degrees Celsius: T-FAKE's U-Net, one network per condition. What it
gives is what the condition makes likely, not a measurement of anybody."""
LIMITS = """Learnt from rendered people and from rooms as its training data has them: of another camera, room or skin it knows
nothing, and a room's own temperature cannot be seen in a visible picture. Small vessels and asymmetries are not drawn."""


class Sources(BaseModel):
    """Rows beside the pairs."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    faces: str = Field(
        "", description="shards of pictures with classes for the patch term and the prior; else the pairs'"
    )
    thermal_unpaired: str = Field(
        "", description="folder of thermal frames for the patch term, of all conditions; else the pairs'"
    )
    unit: Unit = Field("centikelvin", description="of the frames' values")

    _absolute = field_validator("faces", "thermal_unpaired")(absolute)


RELEASED: dict[str, Any] = {
    "loss": {"mse": 1.0, "patches": 0.01, "prior": 1.0, "paired_scale": "minmax", "solver": "symmetric"},
    "thermal": {"low": 20.0, "high": 40.0, "mask_background": True, "blur": 0.5},
    "background": 1.0,
    "batch": 64, "lr": 1e-3, "final_lr": 0.1, "warmup": 0, "weight_decay": 0.0, "betas": (0.9, 0.999), "clip": 0.0,
    "ema": 0.0, "bf16": False,
}  # fmt: skip
"""What `loss.fidelity: code` sets where a configuration does not: the authors' training step, its optimizer included (they
lower the rate to a tenth at once, after four of ten epochs). Network, steps and augmentation stay."""


class Config(TrainConfig):
    steps: int = Field(900, gt=0)
    batch: int = Field(32, gt=0)
    lr: float = Field(3e-3, gt=0)
    ema: float = Field(0.99, ge=0, lt=1)
    bf16: bool = True
    unet: UNetConfig = UNetConfig(width=16, blocks=(1, 1, 1, 1))
    thermal: ThermalConfig = ThermalConfig(low=0.0, high=45.0)
    geometry: Geometry = Geometry()
    photometry: Photometry = Photometry()
    background: float = Field(
        0.1, ge=0, description="weight of background pixels; the masked picture says nothing of them"
    )
    loss: LossConfig = LossConfig()
    data: Sources = Sources()

    @model_validator(mode="before")
    @classmethod
    def _fill_released(cls, values: Any) -> Any:
        """Return `values` with those of `RELEASED` that they leave open, if they ask for the released code."""
        if not isinstance(values, dict):
            return values
        given = {key: _stated(value) for key, value in values.items()}
        loss = given.get("loss")
        if not isinstance(loss, dict) or loss.get("fidelity") != "code":
            return values
        for key, value in RELEASED.items():
            own = given.get(key, {} if isinstance(value, dict) else value)
            given[key] = {**value, **own} if isinstance(value, dict) and isinstance(own, dict) else own
        return given

    @model_validator(mode="after")
    def _check_terms(self) -> "Config":
        if self.data.thermal_unpaired and not self.loss.patches:
            raise ValueError("data.thermal_unpaired feeds the patch term, whose weight is 0: set loss.patches=0.01")
        if self.data.faces and not (self.loss.patches or self.loss.prior):
            raise ValueError(
                "data.faces feeds the patch term and the prior, whose weights are 0: set loss.patches, loss.prior"
            )
        lacking = set(self.thermal.conditions) - set(self.loss.reference)
        if self.loss.reference and lacking:
            raise ValueError(f"loss.reference has no condition {', '.join(sorted(lacking))}")
        return self


def _stated(value: Any) -> Any:
    """Return a model as what was said of it, without defaults; anything else as it is."""
    return {name: getattr(value, name) for name in value.model_fields_set} if isinstance(value, BaseModel) else value


def build(config: Config) -> nn.Module:
    """Return a fresh thermalizer, one network for each condition."""
    return new_thermalizer(config.thermal, config.unet)


def begin(model: nn.Module, folder: Path) -> None:
    """Fill `model` from a thermalizer's folder of the same shape, scale and conditions."""
    assert isinstance(model, Thermalizer)
    part = load_thermalizer(folder)
    if (part.config.low, part.config.high) != (model.config.low, model.config.high):
        low, high = part.config.low, part.config.high
        raise UserError(f"{folder} speaks of {low:g} to {high:g} degC: set thermal.low={low:g} thermal.high={high:g}")
    for name, network in model.networks.items():
        if name not in part.networks:
            raise UserError(f"{folder} has no condition {name!r}: set thermal.conditions=[{', '.join(part.networks)}]")
        load_strictly(network, part.networks[name].state_dict(), folder / f"{name}.safetensors")


def sides(config: Config) -> dict[str, Side]:
    """Return the sources beside the pairs."""
    beside = {}
    if config.data.faces:
        beside["faces"] = Side(config.data.faces, ("visible", "classes"))
    if config.data.thermal_unpaired:
        beside["frames"] = Side(config.data.thermal_unpaired, unit=config.data.unit)
    return beside


def loss(model: nn.Module, batch: Columns, config: Config, step: int) -> tuple[Tensor, dict[str, float]]:
    """Return RGB2Thermal of the rows, each through the network of its condition: weighted terms of `models.thermal.losses`.

    Logged: `mse`, `patches` and `prior` (the terms without their weights), `clipped` (share of the person at an end of the
    network's scale) and `rmse_kelvin` of radiometric pairs.

    The patch term compares the patches of a worker's rows as a whole, so it does depend on the number of workers.
    """
    # Refuse rows that the terms cannot be computed on.
    assert isinstance(model, Thermalizer)
    check_row(batch, config)

    # Pictures and targets move together; light and noise change the picture alone.
    draws = RowDraws(batch["draw"])
    matrices, _ = draw_transforms(config.geometry, draws)
    pictures = relight(warp(to_unit_tensor(batch["visible"]), matrices), config.photometry, draws)
    inputs = (pictures, *_targets(model, batch, matrices, config))
    pictures, target, weight, classes = (values.to(device_of(model)) for values in inputs)

    # First term: squared error of the pairs.
    whole = config.loss.repeats.pairs_whole
    prediction = _predict_scaled(model, pictures, classes, batch["condition"], whole=whole)
    mse = paired_error(prediction, target, weight, config.loss) / weight.sum()
    clipped = clipped_share(prediction.detach(), classes != BACKGROUND)
    metrics = {"mse": mse.item(), "clipped": clipped.mean().item()}
    if config.loss.paired_scale == "radiometric":
        metrics["rmse_kelvin"] = (config.thermal.high - config.thermal.low) * mse.detach().sqrt().item()
    total = config.loss.mse * mse

    # The other two need no pair: they see the faces of another source, where there is one.
    if config.loss.patches or config.loss.prior:
        real, keep = _frames(model, batch, target, (weight > 0) & (classes != BACKGROUND))
        if config.data.faces:
            pictures, classes = (values.to(device_of(model)) for values in _faces(batch, config))
        if config.data.faces or whole:
            prediction = _predict_scaled(model, pictures, classes, batch["condition"])
        patches, prior = _unpaired_terms(batch, config, prediction, classes, real, keep, step)
        total = total + config.loss.patches * patches + config.loss.prior * prior
        metrics |= {"patches": float(patches.detach()), "prior": float(prior.detach())}
    return total, metrics


def check_row(rows: Columns, config: Config) -> None:
    """Raise a UserError for rows that the terms of `config` cannot be computed on."""
    if is_grey(rows) and config.loss.paired_scale == "radiometric":
        raise UserError(
            "the pairs' thermal pictures are 8-bit grey, not degrees: set loss.paired_scale=minmax, or affine"
        )
    _check_rows(config.thermal.conditions, rows)
    if (config.loss.patches or config.loss.prior) and ("faces.classes" in rows or not config.data.faces):
        _check_classes(rows.get("faces.classes", rows["classes"]))


def check_validation_row(rows: Columns, config: Config) -> None:
    """Raise a UserError for rows on which no error in kelvin can be told."""
    if is_grey(rows):
        raise UserError(
            "the validation rows' thermal pictures are 8-bit grey: errors in kelvin need radiometric ones (--validation URI), "
            "or validate on nothing (--validation none)"
        )
    _check_rows(config.thermal.conditions, rows)


def _check_rows(conditions: Sequence[str], rows: Columns) -> None:
    """Raise a UserError for rows of a condition or size that a thermalizer of `conditions` cannot take."""
    if unknown := sorted({str(name) for name in rows["condition"]} - set(conditions)):
        raise UserError(
            f"rows of condition {unknown[0]!r}, which this thermalizer does not have ({', '.join(conditions)}): gather "
            "with --condition (of a published set: --reader NAME --condition warm), or set thermal.conditions"
        )
    side = rows["visible"].shape[1]
    if side % STRIDE:
        raise UserError(
            f"pictures of {side} px: the thermalizer takes multiples of {STRIDE}; make them with another --size"
        )


def _check_classes(classes: np.ndarray) -> None:
    """Raise a UserError for rows without a mask: the patch term and the prior need each pixel's class."""
    if (classes >= len(CLASSES)).any():
        raise UserError(
            "rows without a mask (classes 255), which loss.patches and loss.prior need: gather with --bundle starter, "
            "whose parser makes them (of a published set: --reader NAME --parser starter), or with masks"
        )


def _targets(model: Thermalizer, batch: Columns, matrices: Tensor, config: Config) -> tuple[Tensor, Tensor, Tensor]:
    """Return scaled temperature, pixel weights and classes, each [B, H, W], warped together without interpolation."""
    layers = [torch.from_numpy(np.asarray(batch[name], np.float32)) for name in ("thermal", "valid", "classes")]
    layers.append(torch.ones_like(layers[0]))
    released = config.loss.paired_scale == "minmax" and config.loss.repeats.grey_as_temperature
    if released:
        # Stretched before and after it is moved; what comes in from outside is then the coldest, and counts.
        measured = layers[1] > 0
        layers[0] = torch.where(measured, stretch(layers[0].nan_to_num(), measured), 0.0)
    thermal, valid, classes, inside = warp(torch.stack(layers, dim=1), matrices, nearest=True).unbind(dim=1)
    weight = torch.where(classes == BACKGROUND, config.background, 1.0)
    if released:
        lost = (valid <= 0) & (inside > 0)
        return stretch(thermal, ~lost), torch.where(lost, 0.0, weight), classes.to(torch.uint8)
    weight = (valid > 0).float() * inside * weight
    scaled = thermal / 255 if is_grey(batch) else model.to_scale(thermal.nan_to_num())
    return scaled, weight, classes.to(torch.uint8)


def is_grey(rows: Columns) -> bool:
    """Whether the rows' thermal pictures are grey levels of each picture's own scale: 8 bit, and no temperature."""
    return bool(rows["thermal"].dtype == np.uint8)


def _predict_scaled(
    model: Thermalizer, pictures: Tensor, classes: Tensor, condition: np.ndarray, *, whole: bool = False
) -> Tensor:
    """Return what the networks of the rows' conditions predict on their scale, float32 [B, H, W] in [0, 1].

    whole: of pictures that are neither masked nor blurred.
    """
    out = torch.zeros(classes.shape, device=classes.device)
    for name in model.networks:
        rows = torch.from_numpy(np.flatnonzero(condition == name)).to(classes.device)
        if len(rows):
            out[rows] = model.predict_scaled(pictures[rows], classes[rows], name, whole=whole)
    return out


def _faces(batch: Columns, config: Config) -> tuple[Tensor, Tensor]:
    """Return pictures and classes of `data.faces`, moved and lit by draws of their own."""
    draws = RowDraws(np.array([seed_of(draw, "faces") for draw in batch["draw"]]))
    matrices, _ = draw_transforms(config.geometry, draws)
    pictures = relight(warp(to_unit_tensor(batch["faces.visible"]), matrices), config.photometry, draws)
    classes = torch.from_numpy(np.asarray(batch["faces.classes"], np.float32))[:, None]
    return pictures, warp(classes, matrices, nearest=True)[:, 0].to(torch.uint8)


def _frames(model: Thermalizer, batch: Columns, target: Tensor, person: Tensor) -> tuple[Tensor, Tensor]:
    """Return the thermal pictures that patches are compared with, on the network's scale, and which pixels count."""
    if "frames.thermal" not in batch:
        return target, person
    celsius = torch.from_numpy(batch["frames.thermal"]).to(target.device)
    return model.to_scale(celsius.nan_to_num()), ~celsius.isnan()


def _unpaired_terms(
    batch: Columns, config: Config, prediction: Tensor, classes: Tensor, real: Tensor, keep: Tensor, step: int
) -> tuple[Tensor, Tensor]:
    """Return the patch term and the prior, each the mean over the rows' conditions, weighted by their rows.

    A user's frames have no condition: as in T-FAKE, all conditions are compared with the same ones.
    """
    # Every condition has a network and a prior of its own, so the terms are taken condition by condition.
    patches = prior = prediction.new_zeros(())
    span = config.thermal.high - config.thermal.low
    for condition in config.thermal.conditions:
        chosen = batch["condition"] == condition
        rows, share = torch.from_numpy(np.flatnonzero(chosen)).to(prediction.device), float(chosen.mean())
        if share and config.loss.patches:
            theirs = slice(None) if "frames.thermal" in batch else rows
            draw = generator("patches", condition, step, *batch["draw"])
            distance = patch_distance(prediction[rows], classes[rows], real[theirs], keep[theirs], config.loss, draw)
            patches = patches + share * distance
        if share and config.loss.prior:
            wanted = (prior_celsius(condition, config.loss.reference) - config.thermal.low) / span
            background = config.loss.repeats.background_in_prior
            prior = prior + share * temperature_prior(prediction[rows], classes[rows], wanted, background=background)
    return patches, prior


def validate(model: nn.Module, rows: Iterable[Columns], config: Config) -> dict[str, float]:
    """Return the person's temperature error in kelvin (absolute, after removing the image offset, by condition) and
    `clipped`, the share of the person at an end of the network's scale.
    """
    assert isinstance(model, Thermalizer)
    # Errors need degrees, and rows of conditions that the thermalizer has.
    errors, clipped = Errors(), list[float]()
    low, high = config.thermal.low, config.thermal.high
    for batch in rows:
        check_validation_row(batch, config)
        celsius = predict(model, batch)
        errors.add(batch, celsius)
        person = torch.from_numpy(batch["classes"] != BACKGROUND)
        clipped += clipped_share((torch.from_numpy(celsius) - low) / (high - low), person).tolist()
    metrics = errors.summary()
    return {"score": -metrics["mae"], **metrics, "clipped": float(np.mean(clipped))}


def predict(model: Thermalizer, rows: Columns) -> np.ndarray:
    """Return degrees Celsius float32 [B, H, W] for rows of mixed conditions."""
    inputs = (to_unit_tensor(rows["visible"]), torch.from_numpy(np.ascontiguousarray(rows["classes"])))
    pictures, classes = (values.to(device_of(model)) for values in inputs)
    return model.to_celsius(_predict_scaled(model, pictures, classes, rows["condition"])).cpu().numpy()


def pictures(model: nn.Module, rows: Columns, config: Config) -> np.ndarray:
    """Return a sheet uint8: pictures, what is predicted and what is true, on one colour scale of the person's range."""
    assert isinstance(model, Thermalizer)
    few = {name: values[:8] for name, values in rows.items()}
    # What is predicted and, where it is a temperature, what is true.
    layers, person = [predict(model, few)], few["classes"] != BACKGROUND
    if not is_grey(few):
        layers.append(few["thermal"])
    # One scale for all: the range of the person's temperatures, the network's where there are none.
    values = [layer[person & np.isfinite(layer)] for layer in layers]
    low, high = (
        np.percentile(np.concatenate(values), (1, 99)) if values[-1].size else (config.thermal.low, config.thermal.high)
    )
    lines = [few["visible"]]
    for layer in layers:
        grey = np.nan_to_num((layer - low) / max(high - low, 1e-6) * 255).clip(0, 255).astype(np.uint8)
        lines.append(np.stack([cv2.applyColorMap(picture, cv2.COLORMAP_INFERNO)[..., ::-1] for picture in grey]))
    return np.concatenate([np.concatenate(list(line), axis=1) for line in lines])


def export(model: nn.Module, config: Config, folder: Path, card: Card) -> None:
    """Write the thermalizer's folder and its card."""
    assert isinstance(model, Thermalizer)
    save_thermalizer(model, folder)
    facts = {"title": "Thermalizer", "summary": SUMMARY, "limits": LIMITS}
    card.model_copy(update=facts).write(folder)
