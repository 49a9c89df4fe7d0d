"""Measure a thermalizer of any kind beside its baselines, on rows that it was not trained on."""

from collections.abc import Callable, Iterable

import numpy as np
import torch

from models.columns import Columns
from models.evaluation.ensembles import DrawErrors
from models.thermal.baselines import Baselines, Errors, RoomBaselines, skill

Predict = Callable[[Columns], np.ndarray]
"""Rows -> draws in degrees Celsius, float [K, B, H, W]; K is one for a thermalizer without chance."""


@torch.inference_mode()
def evaluate_thermalizer(
    predict: Predict, training: Callable[[], Iterable[Columns]], test: Callable[[], Iterable[Columns]]
) -> dict[str, float]:
    """Return the thermalizer's errors in kelvin, those of every baseline, and its skill.

    training, test: functions that start an iteration over the rows to fit the baselines to, and to measure on.
    `mae` is of the mean of the draws; `mae_one`, `crps`, `spread_skill`, regions and texture are `DrawErrors`. `skill` places
    `mae` between the table of class and condition (0) and the oracle that knows every region's true mean (1);
    `skill_offset` does so after each picture's mean error is removed; `skill_room` takes the better of two regressions on
    the room's numbers for the table, where the rows know them. Rows that also hold `seen_classes` are predicted once more
    with these as the thermalizer's input: `parsed_*`. `skill_room_parsed` is then beside the same regressions, fitted to and
    read at classes that are seen, too.
    """
    baselines = Baselines(training())
    rooms: RoomBaselines | None = None
    seen_rooms: RoomBaselines | None = None
    names: tuple[str, ...] = Baselines.NAMES
    errors: dict[str, Errors] = {}
    draws = DrawErrors()
    for rows in test():
        known = "ambient_c" in rows and np.isfinite(np.asarray(rows["ambient_c"], float)).all()
        if known and rooms is None:
            rooms, names = RoomBaselines(training()), (*Baselines.NAMES, *RoomBaselines.NAMES)
        predicted = predict(rows)
        draws.add(rows, predicted)
        errors.setdefault("thermalizer", Errors()).add(rows, predicted.mean(axis=0))
        if "seen_classes" in rows:
            again = predict({**rows, "classes": rows["seen_classes"]})
            errors.setdefault("parsed", Errors()).add(rows, again.mean(axis=0))
            if rooms is not None:
                seen_rooms = seen_rooms or RoomBaselines(training(), "seen_classes")
                for name in RoomBaselines.NAMES:
                    errors.setdefault(f"parsed_{name}", Errors()).add(rows, seen_rooms.predict(name, rows))
        for name in names:
            source = rooms if name in RoomBaselines.NAMES and rooms is not None else baselines
            errors.setdefault(name, Errors()).add(rows, source.predict(name, rows))
    # One line of metrics: the thermalizer's own, its skill, and the mean errors of the rest by name.
    found = {name: collected.summary() for name, collected in errors.items()}
    metrics = dict(found["thermalizer"])
    for key, name in (("mae", "skill"), ("mae_offset", "skill_offset")):
        metrics[name] = skill(found["thermalizer"][key], found["class_condition"][key], found["oracle"][key])
    if rooms is not None:
        table = min(found[name]["mae"] for name in RoomBaselines.NAMES)
        metrics["skill_room"] = skill(metrics["mae"], table, found["oracle"]["mae"])
    if seen_rooms is not None:
        table = min(found[f"parsed_{name}"]["mae"] for name in RoomBaselines.NAMES)
        metrics["skill_room_parsed"] = skill(found["parsed"]["mae"], table, found["oracle"]["mae"])
    for name in (*(name for name in found if name.startswith("parsed")), *names):
        metrics |= {f"{name}_mae": found[name]["mae"], f"{name}_mae_offset": found[name]["mae_offset"]}
    return metrics | draws.summary()
