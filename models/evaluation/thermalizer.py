"""Measure a thermalizer beside its baselines on rows that it was not trained on."""

from collections.abc import Callable, Iterable
from pathlib import Path

import torch

from models.columns import Columns
from models.tasks.thermalizer import predict
from models.thermal.baselines import Baselines, Errors, skill
from models.thermal.unet.network import load_thermalizer


@torch.inference_mode()
def evaluate_thermalizer(
    weights: Path, training: Iterable[Columns], test: Callable[[], Iterable[Columns]]
) -> dict[str, float]:
    """Return the thermalizer's errors in kelvin, those of every baseline, and its skill.

    training: rows to fit the baselines to. test: a function that starts an iteration over the rows to measure on.
    `skill` places the error between the table of class and condition (0) and the oracle that knows every region's true
    mean (1); `skill_offset` does so after each picture's mean error is removed. Rows that also hold `seen_classes` are
    predicted once more with these as the thermalizer's input: `parsed_*`.
    """
    model = load_thermalizer(weights)
    baselines = Baselines(training)
    errors = {name: Errors() for name in ("thermalizer", "parsed", *Baselines.NAMES)}
    for rows in test():
        errors["thermalizer"].add(rows, predict(model, rows))
        if "seen_classes" in rows:
            errors["parsed"].add(rows, predict(model, {**rows, "classes": rows["seen_classes"]}))
        for name in Baselines.NAMES:
            errors[name].add(rows, baselines.predict(name, rows))
    # One line of metrics: the thermalizer's own, its skill, and the mean errors of the rest by name.
    found = {name: collected.summary() for name, collected in errors.items()}
    metrics = dict(found["thermalizer"])
    for key, name in (("mae", "skill"), ("mae_offset", "skill_offset")):
        metrics[name] = skill(found["thermalizer"][key], found["class_condition"][key], found["oracle"][key])
    for name in (*(["parsed"] if found["parsed"] else []), *Baselines.NAMES):
        metrics |= {f"{name}_mae": found[name]["mae"], f"{name}_mae_offset": found[name]["mae_offset"]}
    return metrics
