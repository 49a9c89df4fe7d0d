"""The gates as a stage: does a finished sample show one face, of the person asked for, at temperatures a face can have?"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from models.classes import FACE
from models.columns import Columns
from models.gates.duplicates import difference_hash, least_differences
from models.gates.regions import most_deviations, part_differences
from models.gates.settings import Gates, Settings
from models.layers import Layer
from models.stages import NoOptions
from models.temperature import from_centikelvin


def score_rows(rows: Columns, layers: Sequence[Layer], gates: Gates | None = None) -> list[dict[str, float]]:
    """Return each row's measurements: identity (cosine), detection, faces; with classes face_area, and with temperatures
    celsius and clipped of every layer; pose, regions and how far the halves are apart where `gates` have limits for them. A face
    without a pixel or a reading has NaN.
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
                _add_degrees(values, from_centikelvin(rows["thermal"][row]), rows["classes"][row], layers, gates)
    # How far the head is from the angles that were asked for; those that were not are NaN and count for nothing.
    if gates is not None and gates.pose is not None:
        for row, values in enumerate(out):
            wanted = np.isfinite(rows["pose_asked"][row])
            off = np.abs(rows["pose"][row] - rows["pose_asked"][row])[wanted]
            values["pose"] = float(off.max()) if wanted.any() else 0.0
    # How far the landmarks of either half are apart.
    if gates is not None and gates.agreement is not None:
        for row, values in enumerate(out):
            for index, layer in enumerate(layers):
                values[f"apart_{layer.name}"] = float(rows["apart_70"][row, index])
    # How much of the person the thermal scale could not hold.
    if "thermal_clipped" in rows:
        for row, values in enumerate(out):
            for index, layer in enumerate(layers):
                values[f"clipped_{layer.name}"] = float(rows["thermal_clipped"][row, index])
    return [{name: round(value, 4) for name, value in values.items()} for values in out]


def _add_degrees(
    values: dict[str, float], celsius: np.ndarray, classes: np.ndarray, layers: Sequence[Layer], gates: Gates | None
) -> None:
    """Add the face's mean temperature in every layer of celsius float32 [C, H, W], and where there is a limit for it how unlike
    true faces the parts of the face differ from it."""
    face = np.isin(classes, FACE)
    for index, layer in enumerate(layers):
        mean = celsius[index][face].mean() if face.any() else float("nan")
        values[f"celsius_{layer.name}"] = float(mean)
        if gates is not None and gates.regions is not None:
            apart = part_differences(celsius[index], classes)
            values[f"regions_{layer.name}"] = most_deviations(apart, layer.condition)


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
    if gates.pose is not None and not values.get("pose", float("nan")) <= gates.pose:
        return f"pose off: {values.get('pose', float('nan')):.1f} degrees, at most {gates.pose:g} wanted"
    for name, value in values.items():
        kind, _, condition = name.partition("_")
        if kind == "regions" and gates.regions is not None and not value <= gates.regions:
            told = f"{value:.1f} standard deviations, at most {gates.regions:g} wanted"
            return f"parts of the face apart in {condition}: {told}"
        if kind == "apart" and gates.agreement is not None and not value <= gates.agreement:
            return f"halves apart in {condition}: {value:.3f}, at most {gates.agreement:g} wanted"
        if kind == "celsius" and not gates.celsius[0] <= value <= gates.celsius[1]:
            wanted = f"{gates.celsius[0]} to {gates.celsius[1]} wanted"
            return f"face temperature in {condition} out of range: {value:.1f} degC, {wanted}"
        if kind == "clipped" and not value <= gates.clipped:
            return f"person clipped in {condition}: {value:.0%}, at most {gates.clipped:.0%} wanted"
    return ""


class Stage:
    """Write `scores` (JSON), and `reject` for rows that fail; then compare the rows of a person with each other."""

    def __init__(
        self, weights: Mapping[str, Path], options: NoOptions, *, dtype: str = "float32", threads: int = 1
    ) -> None: ...

    def __call__(self, rows: Columns, settings: Settings, batch: int) -> Columns:
        scores = score_rows(rows, settings.layers, settings)
        return {
            "scores": np.array([json.dumps(values) for values in scores], object),
            "reject": np.array([reject_reason(values, settings) for values in scores], object),
        }

    def compare(self, rows: Columns, settings: Settings) -> Columns:
        """Add `difference` to the scores of rows that have one of their person before them, and reject near-duplicates."""
        scores, reject, least = rows["scores"].copy(), rows["reject"].copy(), settings.duplicates
        # Rows may have pictures without pixels (the null bundle's).
        if least is None or not rows["visible"].size:
            return {"scores": scores, "reject": reject}
        shares = least_differences(difference_hash(rows["visible"]), rows["identity_id"], least)
        for row in np.flatnonzero(np.isfinite(shares)):
            share = float(shares[row])
            scores[row] = json.dumps(json.loads(scores[row]) | {"difference": round(share, 4)})
            if share < least:
                reject[row] = f"near-duplicate within the person: {share:.3f}, at least {least:g} wanted"
        return {"scores": scores, "reject": reject}


def _unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
