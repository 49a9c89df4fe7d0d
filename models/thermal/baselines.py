"""How a thermalizer is measured: temperature errors of the person's pixels, beside what simpler predictors already reach."""

from collections import defaultdict
from collections.abc import Iterable

import numpy as np

from models.classes import BACKGROUND
from models.columns import Columns


def person(rows: Columns) -> np.ndarray:
    """Return which pixels count, bool [B, H, W]: a valid temperature, on the person."""
    return (np.asarray(rows["valid"]) > 0) & (rows["classes"] != BACKGROUND) & np.isfinite(rows["thermal"])


class Errors:
    """Collect errors in kelvin over pictures; every picture weighs the same.

    `mae` is the mean absolute error, `mae_offset` the same after each picture's mean error is removed.
    """

    def __init__(self) -> None:
        self._sums: dict[str, list[float]] = defaultdict(list)

    def add(self, rows: Columns, celsius: np.ndarray) -> None:
        """Add the predictions `celsius` float [B, H, W] for `rows` (`thermal`, `valid`, `classes`, `condition`)."""
        for keep, truth, prediction, condition in zip(
            person(rows), rows["thermal"], celsius, rows["condition"], strict=True
        ):
            error = (prediction - truth)[keep]
            if error.size:
                self._sums["mae"].append(float(np.abs(error).mean()))
                self._sums["mae_offset"].append(float(np.abs(error - error.mean()).mean()))
                self._sums[f"mae_{condition}"].append(float(np.abs(error).mean()))

    def summary(self) -> dict[str, float]:
        """Return the mean of every measure."""
        return {name: float(np.mean(values)) for name, values in self._sums.items()}


class Baselines:
    """Predictors without a network, fitted to training rows of mixed conditions.

    constant: one temperature. class_table: a mean per class. class_condition: per class and condition.
    regression: per class and condition, linear in the pixel's RGB. oracle: the picture's own true mean per class,
    that is the hidden state of every region known, without what varies inside a region.
    """

    NAMES = ("constant", "class_table", "class_condition", "regression", "oracle")

    def __init__(self, training: Iterable[Columns]) -> None:
        # Normal equations of the regression on (1, R, G, B) by (class, condition); their first entries are the counts and
        # sums of which the other baselines are means.
        features = 4
        self._gram: dict[tuple[int, str], np.ndarray] = defaultdict(lambda: np.zeros((features, features)))
        self._cross: dict[tuple[int, str], np.ndarray] = defaultdict(lambda: np.zeros(features))
        for rows in training:
            self._accumulate(rows)
        if not self._gram:
            raise ValueError("the training rows hold no valid pixel of a person")
        self._weights = {
            key: np.linalg.solve(gram + 1e-3 * np.eye(features), self._cross[key]) for key, gram in self._gram.items()
        }
        self._class_condition = {key: self._cross[key][0] / gram[0, 0] for key, gram in self._gram.items()}
        classes = {k for k, _ in self._gram}
        self._class = {k: self._mean_over([key for key in self._gram if key[0] == k]) for k in classes}
        self._constant = self._mean_over(list(self._gram))

    def _accumulate(self, rows: Columns) -> None:
        """Add rows to the normal equations of their classes and conditions."""
        keep = person(rows)
        colours = rows["visible"].astype(np.float64) / 255
        for condition in np.unique(rows["condition"]):
            of_condition = keep & (rows["condition"] == condition)[:, None, None]
            for k in np.unique(rows["classes"][of_condition]):
                chosen = of_condition & (rows["classes"] == k)
                x = np.concatenate([np.ones((chosen.sum(), 1)), colours[chosen]], axis=1)
                self._gram[int(k), str(condition)] += x.T @ x
                self._cross[int(k), str(condition)] += x.T @ rows["thermal"][chosen].astype(np.float64)

    def _mean_over(self, keys: list[tuple[int, str]]) -> float:
        """Return the mean temperature of all pixels of these (class, condition), degrees Celsius."""
        return float(sum(self._cross[key][0] for key in keys) / sum(self._gram[key][0, 0] for key in keys))

    def predict(self, name: str, rows: Columns) -> np.ndarray:
        """Return the temperatures that baseline `name` gives for `rows`, degrees Celsius float [B, H, W]."""
        celsius = np.full(rows["classes"].shape, self._constant)
        if name == "constant":
            return celsius
        # Class by class in every picture; the oracle alone looks at the true temperature.
        keep = person(rows)
        for index, condition in enumerate(rows["condition"]):
            for k in np.unique(rows["classes"][index]):
                chosen = rows["classes"][index] == k
                key = (int(k), str(condition))
                if name == "oracle":
                    inside = chosen & keep[index]
                    celsius[index][chosen] = rows["thermal"][index][inside].mean() if inside.any() else self._constant
                elif name == "class_table":
                    celsius[index][chosen] = self._class.get(int(k), self._constant)
                elif name == "class_condition":
                    celsius[index][chosen] = self._class_condition.get(key, self._constant)
                elif key in self._weights:
                    colours = rows["visible"][index][chosen] / 255.0
                    celsius[index][chosen] = self._weights[key][0] + colours @ self._weights[key][1:]
        return celsius


class RoomBaselines:
    """Per class, or class and condition, linear in what is known of the room, fitted to training rows that know it.

    Features: 1, air, its square, sun, and the root of wind. A row whose numbers are not known has none of these predictions.
    classes: the column that says what a pixel is; whatever it says, pixels that count are those of `person`.
    """

    NAMES = ("class_room", "class_condition_room")

    def __init__(self, training: Iterable[Columns], classes: str = "classes") -> None:
        self._classes = classes
        gram: dict[tuple[int, str], np.ndarray] = defaultdict(lambda: np.zeros((5, 5)))
        cross: dict[tuple[int, str], np.ndarray] = defaultdict(lambda: np.zeros(5))
        # A picture's pixels of one class share their features: their count and their sum are all that is needed.
        for rows in training:
            features, keep = room_features(rows), person(rows)
            for k in np.flatnonzero(np.isfinite(features).all(axis=1)):
                x = features[k]
                known, values = rows[classes][k][keep[k]], rows["thermal"][k][keep[k]].astype(np.float64)
                counts, sums = np.bincount(known, minlength=256), np.bincount(known, values, minlength=256)
                for number in np.flatnonzero(counts):
                    for condition in ("", str(rows["condition"][k])):
                        gram[int(number), condition] += counts[number] * np.outer(x, x)
                        cross[int(number), condition] += sums[number] * x
        # A small ridge in proportion to the pixels, so that a feature that never varies has no weight.
        self._weights = {
            key: np.linalg.solve(value + 1e-6 * value[0, 0] * np.eye(5), cross[key]) for key, value in gram.items()
        }

    def predict(self, name: str, rows: Columns) -> np.ndarray:
        """Return the temperatures that baseline `name` gives for `rows`, degrees Celsius float [B, H, W], NaN for none."""
        classes = rows[self._classes]
        celsius = np.full(classes.shape, np.nan)
        features = room_features(rows)
        for index, condition in enumerate(rows["condition"]):
            for k in np.unique(classes[index]):
                key = (int(k), str(condition) if name == "class_condition_room" else "")
                if key in self._weights:
                    celsius[index][classes[index] == k] = features[index] @ self._weights[key]
        return celsius


def room_features(rows: Columns) -> np.ndarray:
    """Return what is regressed on, float64 [B, 5], NaN where the row does not know air, sun and wind."""
    air = (np.asarray(rows["ambient_c"], np.float64) - 20) / 15
    sun, wind = np.asarray(rows["sun_wm2"], np.float64) / 400, np.asarray(rows["wind_ms"], np.float64)
    return np.stack([np.ones_like(air), air, air**2, sun, np.sqrt(np.maximum(wind, 0))], axis=1)


def skill(mae: float, table: float, oracle: float) -> float:
    """Return (MAE_table - MAE) / (MAE_table - MAE_oracle): 0 is the class and condition table, 1 the oracle."""
    return (table - mae) / (table - oracle)
