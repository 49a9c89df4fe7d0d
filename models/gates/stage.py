"""The gates as a stage: does a finished sample show one face, of the person asked for, at temperatures a face can have?"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from models.classes import FACE
from models.columns import Columns
from models.gates.settings import Gates, Settings
from models.layers import Layer
from models.stages import NoOptions
from models.temperature import from_centikelvin


def score_rows(rows: Columns, layers: Sequence[Layer]) -> list[dict[str, float]]:
    """Return each row's measurements: identity (cosine), detection, faces; with classes face_area, and with temperatures
    celsius and clipped of every layer. A face without a pixel or a reading has NaN.
    """
    # The face: is it one, and whose?
    asked, found = (_unit(rows[name]) for name in ("embedding", "found_embedding"))
    out: list[dict[str, float]] = []
    for row in range(len(asked)):
        out.append(
            {
                "identity": float(asked[row] @ found[row]),
                "detection": float(rows["detection_score"][row]),
                "faces": float(rows["faces"][row]),
            }
        )
    # Its size, and its temperature in every layer. Rows may have pictures without pixels (the null bundle's).
    if "classes" in rows and rows["classes"].size:
        face = np.isin(rows["classes"], FACE)
        for row, values in enumerate(out):
            values["face_area"] = float(face[row].mean())
            if "thermal" in rows:
                _add_degrees(values, from_centikelvin(rows["thermal"][row]), face[row], layers)
    # How much of the person the thermal scale could not hold.
    if "thermal_clipped" in rows:
        for row, values in enumerate(out):
            for index, layer in enumerate(layers):
                values[f"clipped_{layer.name}"] = float(rows["thermal_clipped"][row, index])
    return [{name: round(value, 4) for name, value in values.items()} for values in out]


def _add_degrees(values: dict[str, float], celsius: np.ndarray, face: np.ndarray, layers: Sequence[Layer]) -> None:
    """Add the mean temperature of the face (bool [H, W]) in every layer of celsius float32 [C, H, W]."""
    for index, layer in enumerate(layers):
        pixels = celsius[index][face]
        values[f"celsius_{layer.name}"] = float(pixels.mean()) if pixels.size else float("nan")


def reject_reason(values: dict[str, float], gates: Gates) -> str:
    """Return why a row with these scores is rejected, or "". A missing number (NaN) never passes.

    The kind comes first, then a colon and the numbers: reports count by kind.
    """
    if not values["faces"]:
        return "no face found"
    if values["faces"] > gates.faces:
        return f"several faces: {values['faces']:.0f} found, at most {gates.faces} wanted"
    if not values["detection"] >= gates.detection:
        return f"detection too low: {values['detection']:.2f}, at least {gates.detection} wanted"
    if not values["identity"] >= gates.identity:
        return f"identity too low: {values['identity']:.2f}, at least {gates.identity} wanted"
    # A row that was not measured for it (no classes) passes.
    low, high = gates.face_area
    if not low <= values.get("face_area", low) <= high:
        return f"face area out of range: {values['face_area']:.2f}, {low} to {high} wanted"
    for name, value in values.items():
        kind, _, condition = name.partition("_")
        if kind == "celsius" and not gates.celsius[0] <= value <= gates.celsius[1]:
            wanted = f"{gates.celsius[0]} to {gates.celsius[1]} wanted"
            return f"face temperature in {condition} out of range: {value:.1f} degC, {wanted}"
        if kind == "clipped" and not value <= gates.clipped:
            return f"person clipped in {condition}: {value:.0%}, at most {gates.clipped:.0%} wanted"
    return ""


class Stage:
    """Write `scores` (JSON), and `reject` for rows that fail."""

    def __init__(
        self, weights: Mapping[str, Path], options: NoOptions, *, dtype: str = "float32", threads: int = 1
    ) -> None: ...

    def __call__(self, rows: Columns, settings: Settings, batch: int) -> Columns:
        scores = score_rows(rows, settings.layers)
        return {
            "scores": np.array([json.dumps(values) for values in scores], object),
            "reject": np.array([reject_reason(values, settings) for values in scores], object),
        }


def _unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
