"""Thermalizers of the recipe: trained by the project's loop, measured person by person."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch

from models.classes import BACKGROUND, CLASSES
from models.columns import Columns
from models.evaluation.spectra import spectral_differences
from models.evaluation.tfake.cells import ThermalRow
from models.evaluation.tfake.pools import MemorySource, fit_frame
from models.evaluation.tfake.recipe import Recipe
from models.seeds import generator
from models.tasks import load, thermalizer
from models.thermal.baselines import Baselines, person
from models.thermal.losses import patch_distance
from models.thermal.prior import PRIOR_CELSIUS
from models.thermal.unet.network import ThermalConfig, Thermalizer
from models.training.loop import Hooks, train
from models.unet import UNetConfig

SCALE = ThermalConfig(low=0.0, high=45.0)
SPAN = SCALE.high - SCALE.low
WARMER = 2.0
"""Kelvin by which the wrong prior is off."""

Pools = Callable[[str, float], Columns]
"""(name, gap) -> the rows of a pool."""
Values = dict[str, list[Any]]
Predict = Callable[[Columns], np.ndarray]
"""Rows -> degrees Celsius, float [N, S, S]."""
AT_ONCE = 1 << 18
"""Pixels of the pictures that are predicted at once: 64 pictures of 64 px."""


def train_row(
    row: ThermalRow, weight: float, seed: int, gap: float, recipe: Recipe, pools: Pools, hooks: Hooks
) -> Thermalizer:
    """Train the thermalizer of a row and return it; `weight` is that of the patch term."""
    # The task's own configuration: its terms are the row's.
    config = thermalizer.Config(
        seed=seed,
        steps=recipe.steps,
        batch=recipe.batch,
        lr=recipe.lr,
        unet=UNetConfig(width=recipe.width, blocks=(1, 1, 1, 1)),
        thermal=SCALE.model_copy(update={"conditions": recipe.conditions}),
        loss=recipe.loss(
            patches=weight if row.patches else 0.0,
            prior=recipe.prior if row.prior else 0.0,
            paired_scale=row.pairs,
            defects=row.defects,
            reference=wrong_prior(row.reference),
        ),
        data=thermalizer.Sources(
            faces="pool://faces" if row.patches or row.prior else "",
            thermal_unpaired="pool://target" if row.patches else "",
        ),
    )
    # Rows beside the pairs, where a term needs them.
    sides = {}
    if row.patches or row.prior:
        faces = pools("faces", gap)
        sides["faces"] = MemorySource({name: faces[name] for name in ("visible", "classes")})
    if row.patches:
        sides["frames"] = MemorySource(
            {"thermal": unpaired_frames(pools("target", gap), mirrored=row.target == "mirrored")}
        )
    data = MemorySource(pairs(pools("lab", gap), row))
    model = train(load("thermalizer"), config, data, None, hooks, sides=sides, device=torch.device("cpu")).model
    assert isinstance(model, Thermalizer)
    return model.eval()


def pairs(rows: Columns, row: ThermalRow) -> Columns:
    """Return lab rows with what the lab's camera gives in place of the truth: degrees Celsius, or its grey levels spread over
    the network's scale.
    """
    celsius = rows["twin"] if row.pairs == "radiometric" else SCALE.low + SPAN * rows["grey"]
    inputs = {name: rows[name] for name in ("visible", "classes", "condition")}
    return inputs | {"thermal": celsius, "valid": rows["valid"] & rows["twin_valid"]}


def unpaired_frames(rows: Columns, *, mirrored: bool = False) -> np.ndarray:
    """Return frames of the field camera, float32 [N, S, S] degC, NaN off the person (a pixel inside its outline).

    mirrored: every frame turned over about its mean, hot for cold: the wrong distribution of the controls.
    """
    # The outermost pixel of the person is mixed with what is behind.
    kernel = np.ones((3, 3), np.uint8)
    inside = [cv2.erode((classes != BACKGROUND).astype(np.uint8), kernel) > 0 for classes in rows["classes"]]
    frames = np.where(np.stack(inside) & rows["twin_valid"], rows["twin"], np.nan)
    if mirrored:
        frames = 2 * np.nanmean(frames, axis=(1, 2), keepdims=True) - frames
    return frames.astype(np.float32)


def wrong_prior(name: str) -> dict[str, dict[str, float]]:
    """Return the temperatures of the prior that a row is given, by condition and class; {} stands for T-FAKE's own.

    warmer: every class two kelvin up. permuted: the classes' temperatures in another order, the same in both conditions.
    """
    if name == "paper":
        return {}
    if name == "warmer":
        return {condition: {k: v + WARMER for k, v in table.items()} for condition, table in PRIOR_CELSIUS.items()}
    order = np.random.default_rng(0).permutation(len(CLASSES))
    return {
        condition: {CLASSES[k]: table[CLASSES[int(other)]] for k, other in enumerate(order)}
        for condition, table in PRIOR_CELSIUS.items()
    }


@torch.inference_mode()
def predict(model: Thermalizer, rows: Columns) -> np.ndarray:
    """Return degrees Celsius float32 [N, S, S], some rows at a time."""
    count = len(rows["visible"])
    step = max(1, AT_ONCE // rows["classes"][0].size)
    batches = [{k: rows[k][n : n + step] for k in ("visible", "classes", "condition")} for n in range(0, count, step)]
    return np.concatenate([thermalizer.predict(model, batch) for batch in batches])


def predict_calibrated(model: Thermalizer, lab: Columns, rows: Columns) -> np.ndarray:
    """Return degrees Celsius float32 [N, S, S] of a thermalizer that has learnt grey levels.

    A gain and an offset per condition are fitted on the lab's people, whose temperature its camera knows.
    """
    of_lab, prediction = predict(model, lab), predict(model, rows)
    keep = person(lab) & lab["twin_valid"]
    for condition in np.unique(rows["condition"]):
        chosen = keep & (lab["condition"] == condition)[:, None, None]
        gain, offset = np.polyfit(of_lab[chosen].astype(np.float64), lab["twin"][chosen].astype(np.float64), 1)
        of_condition = rows["condition"] == condition
        prediction[of_condition] = gain * prediction[of_condition] + offset
    return prediction


def measure(celsius: np.ndarray, rows: Columns, recipe: Recipe, trained: int | None = None) -> Values:
    """Return each person's figures, lists in the order of `identity`.

    mae: mean absolute error of the person's pixels in kelvin; mae_offset: after each picture's mean error is removed;
    spectra: mean absolute difference of log10 radial power; patches: Wasserstein-2 distance of patches to those of the
    true pictures at sizes that were never trained, kelvin per pixel.

    trained: a side in pixels, smaller than the pictures'. `spectra` is then of the frequencies that pictures of that
    side have too, by cycles a picture, and compares with theirs; `spectra_fine` is of the finer ones. `patches` are cut
    at the same sizes whatever the pictures' side, though drawn anew: those of the truth tell what the draw makes.
    """
    keep = person(rows)
    truth = rows["thermal"]
    # A person's pictures, but those without a pixel to compare.
    people = np.unique(rows["identity_id"])
    values: Values = {name: [] for name in ("identity", "mae", "mae_offset", "spectra", "patches")}
    shared = trained // 2 - 1 if trained else None
    if trained:
        values["spectra_fine"] = []
    for who in people:
        mine = np.flatnonzero((rows["identity_id"] == who) & keep.any(axis=(1, 2)))
        errors = [(celsius[k] - truth[k])[keep[k]] for k in mine]
        values["identity"].append(str(who))
        values["mae"].append(float(np.mean([np.abs(e).mean() for e in errors])))
        values["mae_offset"].append(float(np.mean([np.abs(e - e.mean()).mean() for e in errors])))
        apart = spectral_differences(celsius[mine], truth[mine], keep[mine])
        values["spectra"].append(float(apart[:shared].mean()))
        if trained:
            values["spectra_fine"].append(float(apart[shared:].mean()))
        values["patches"].append(_patch_distance(celsius[mine], truth[mine], keep[mine], recipe, str(who)))
    return values


def _patch_distance(prediction: np.ndarray, truth: np.ndarray, keep: np.ndarray, recipe: Recipe, who: str) -> float:
    """Return the Wasserstein-2 distance of patches of pictures [B, S, S] degC, in kelvin per pixel."""
    ours, theirs = (
        torch.from_numpy(np.nan_to_num((v - SCALE.low) / SPAN).astype(np.float32)) for v in (prediction, truth)
    )
    # The loss's own distance, on its scale and at sizes that were never trained.
    loss = recipe.loss().model_copy(update={"sizes": recipe.unseen})
    mask = torch.from_numpy(keep)
    squared = patch_distance(ours, mask.to(torch.uint8), theirs, mask, loss, generator("unseen patches", who))
    return float(squared.clamp(min=0).sqrt()) * SPAN


def measure_larger(predict: Predict, small: Columns, large: Columns, recipe: Recipe) -> dict[str, Values]:
    """Return the figures of what is made at the side that was `trained`, of what is `generated` at a larger one, and of
    the former `enlarged` to that, bilinearly between pixel centres: does generating gain anything over enlarging?

    small, large: the same pictures at two sides, row for row. The truth is that of `large` for both that have its side.
    """
    side, trained = large["thermal"].shape[-1], small["thermal"].shape[-1]
    # One network makes all three: a thermalizer that is trained again, on another machine, is not the one it was.
    plain = predict(small)
    made = {"generated": predict(large), "enlarged": np.stack([fit_frame(k, side) for k in plain])}
    larger = {way: measure(celsius, large, recipe, trained) for way, celsius in made.items()}
    return {"trained": measure(plain, small, recipe), **larger}


def fit_baselines(lab: Columns) -> Baselines:
    """Return the baselines, fitted to the radiometric pairs of `lab`."""
    return Baselines([lab | pairs(lab, ThermalRow())])


def baselines(lab: Columns, rows: Columns, recipe: Recipe) -> dict[str, Values]:
    """Return the figures of every baseline, fitted to the radiometric pairs of `lab`."""
    fitted = fit_baselines(lab)
    return {name: measure(fitted.predict(name, rows).astype(np.float32), rows, recipe) for name in Baselines.NAMES}


def parameters_apart(one: Path, two: Path) -> float:
    """Return the largest difference of the learnt parameters in two thermalizers' folders; batch statistics are left out."""
    from safetensors.torch import load_file

    apart = 0.0
    for file in sorted(one.glob("*.safetensors")):
        ours, theirs = load_file(file), load_file(two / file.name)
        names = [name for name in ours if "running_" not in name and "num_batches" not in name]
        apart = max(apart, *(float((ours[name].float() - theirs[name].float()).abs().max()) for name in names))
    return apart
