"""The gates: does a finished sample show one face, of the person asked for, at temperatures a face can have?"""

import json

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from models.classes import FACE
from models.temperature import from_centikelvin


class Gates(BaseModel):
    """Limits a sample must keep. A sample that fails is drawn again, up to `attempts` times in all."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    attempts: int = Field(3, ge=1, description="draws per sample before it is given up as a reject")
    identity: float = Field(0.35, ge=-1, le=1, description="least cosine between the embedding asked for and found")
    detection: float = Field(0.5, ge=0, le=1, description="least score of the face detector")
    faces: int = Field(1, ge=1, description="most faces found in one picture")
    face_area: tuple[float, float] = Field((0.08, 0.75), description="share of the picture that the face classes cover")
    celsius: tuple[float, float] = Field((15.0, 40.0), description="range of the mean temperature of the face")
    clipped: float = Field(0.05, ge=0, le=1, description="largest share of the person at an end of the thermal scale")


def scores(batch: dict[str, np.ndarray], conditions: tuple[str, ...]) -> list[dict[str, float]]:
    """Return each row's measurements: identity (cosine), detection, faces, face_area, celsius and clipped per condition."""
    asked, found = (_unit(batch[name]) for name in ("embedding", "found_embedding"))
    face = np.isin(batch["classes"], FACE)
    celsius = from_centikelvin(batch["thermal"])
    out = []
    for row in range(len(face)):
        values = {
            "identity": float(asked[row] @ found[row]),
            "detection": float(batch["detection_score"][row]),
            "faces": float(batch["faces"][row]),
            "face_area": float(face[row].mean()),
        }
        for index, condition in enumerate(conditions):
            pixels = celsius[row, index][face[row]]
            values[f"celsius_{condition}"] = float(pixels.mean()) if pixels.size else float("nan")
            values[f"clipped_{condition}"] = float(batch["thermal_clipped"][row, index])
        out.append({name: round(value, 4) for name, value in values.items()})
    return out


def reason(values: dict[str, float], gates: Gates) -> str:
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
    low, high = gates.face_area
    if not low <= values["face_area"] <= high:
        return f"face area out of range: {values['face_area']:.2f}, {low} to {high} wanted"
    for name, value in values.items():
        kind, _, condition = name.partition("_")
        if kind == "celsius" and not gates.celsius[0] <= value <= gates.celsius[1]:
            wanted = f"{gates.celsius[0]} to {gates.celsius[1]} wanted"
            return f"face temperature in {condition} out of range: {value:.1f} degC, {wanted}"
        if kind == "clipped" and not value <= gates.clipped:
            return f"person clipped in {condition}: {value:.0%}, at most {gates.clipped:.0%} wanted"
    return ""


class GateStage:
    """Add `scores` (JSON) and fill `reject` for rows that fail; rows rejected earlier keep their first reason."""

    def __init__(self, *, gates: Gates, conditions: tuple[str, ...]) -> None:
        self.gates, self.conditions = gates, tuple(conditions)

    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        measured = scores(batch, self.conditions)
        earlier = batch.get("reject", np.full(len(measured), "", dtype=object))
        rejects = [str(old) or reason(values, self.gates) for old, values in zip(earlier, measured, strict=True)]
        texts = np.array([json.dumps(values) for values in measured], dtype=object)
        return {**batch, "scores": texts, "reject": np.array(rejects, dtype=object)}


def _unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
