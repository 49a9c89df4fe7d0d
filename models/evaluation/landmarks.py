"""Measure a landmarker on people it was not trained on: errors by modality and by yaw, and how honest its variances are.

Faces in crowded frames are in `crowds`.
"""

import math
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from models.columns import Columns
from models.errors import UserError
from models.landmarks.calibration import coverage, read_calibration, scale_factor, summary, write_calibration
from models.landmarks.detect import Detector, Search, load_detector, write_detection
from models.landmarks.metrics import nme
from models.synthworld.render.capture import capture
from models.synthworld.sampling.ranges import Domain
from models.tasks.landmarker import is_annotated, modalities

FACELESS_IN_THERMAL = (*range(17, 27), 68, 69)
"""Of the 70: brows and pupils, which have little thermal contrast."""
MARGINS = (1.25, 1.5, 1.75, 2.0)
THERMAL = ("thermal", "valid")
"""Columns that rows without thermal pictures lack."""
YAWS = {"to30": (0, 30), "30to60": (30, 60), "over60": (60, 181)}
"""Bins of |yaw| in degrees."""


class Look(NamedTuple):
    """A picture and what is true of it: points float [L, 2] and box float [4] in its pixels."""

    picture: np.ndarray
    points: np.ndarray
    box: np.ndarray


def columns(domain: Domain | None) -> tuple[str, ...]:
    """Return the columns to read of shards of `domain`, of gathered ones without: these may lack those of `THERMAL`."""
    named = (f"seen_{number}_{modality}" for number in (70, 478) for modality in ("visible", "thermal"))
    whole = ("visible", "classes", "landmarks_70", "landmarks_478", "bbox", "pose", "identity_id", "view", "condition")
    return (*whole, *named, *(() if domain and domain.capture.thermal == "none" else THERMAL))


def looks(
    rows: Columns, standard: int, thermalizer: str, domain: Domain | None = None
) -> Iterator[tuple[str, list[Look]]]:
    """Yield (modality, a look at each row): rgb, thermal, true, and what the camera of `domain` delivers, by its kind."""
    points, boxes = np.asarray(rows[f"landmarks_{standard}"]), np.asarray(rows["bbox"])
    for name, pictures in modalities(rows, thermalizer).items():
        yield name, [Look(*one) for one in zip(pictures, points, boxes, strict=True)]
    if domain is not None and domain.capture.thermal not in ("none", "apparent"):
        yield domain.capture.thermal, [photograph(rows, k, standard, domain) for k in range(len(points))]


def photograph(rows: Columns, row: int, standard: int, domain: Domain) -> Look:
    """Return what the thermal camera of `domain` delivers of a row at its own resolution, and where the points lie in it."""
    apparent, valid = (torch.from_numpy(np.asarray(rows[name][row])) for name in ("thermal", "valid"))
    box = np.asarray(rows["bbox"][row], np.float64)
    name = tuple(str(rows[key][row]) for key in ("identity_id", "view", "condition"))
    captured = capture(apparent.float(), valid, float(box[3] - box[1]), domain, *name)
    # The camera's pixels are larger than the world's, and its view is shifted.
    scale, shift = captured.picture.shape[0] / apparent.shape[0], np.array(captured.shift)
    points = np.asarray(rows[f"landmarks_{standard}"][row]) * scale + shift
    return Look(captured.picture.numpy(), points, box * scale + np.tile(shift, 2))


def predict(
    finder: Detector, test: Iterable[Columns], thermalizer: str, domain: Domain | None = None
) -> dict[str, dict[str, np.ndarray]]:
    """Return modality -> truth, found [N, L, 2] px, variance [N, L] px^2, seen bool [N, L], yaw [N] degrees, size [N] px.

    One look into the true box, as the landmark stage looks into the detector's. Rows without points are left out; where a
    row lacks some, truth is NaN.
    """
    standard = finder.config.standard
    # Rows that do not give their points have nothing to compare with.
    collected: dict[str, dict[str, list[np.ndarray]]] = {}
    for whole in test:
        known = is_annotated(np.asarray(whole[f"landmarks_{standard}"]))
        if not known.any():
            continue
        rows = {name: values[known] for name, values in whole.items()}
        for name, row_looks in looks(rows, standard, thermalizer, domain):
            # The size of a face is the side of a square as large as its box.
            faces = [finder.at_boxes(look.picture, look.box[None])[0] for look in row_looks]
            batch = {
                "truth": np.stack([look.points for look in row_looks]),
                "found": np.stack([face.points for face in faces]),
                "variance": np.stack([face.variance for face in faces]),
                "seen": rows[f"seen_{standard}_{'visible' if name == 'rgb' else 'thermal'}"],
                "yaw": np.asarray(rows["pose"])[:, 0] if "pose" in rows else np.zeros(len(row_looks)),
                "size": np.array([np.sqrt((look.box[2:] - look.box[:2]).prod()) for look in row_looks]),
            }
            for key, values in batch.items():
                collected.setdefault(name, {}).setdefault(key, []).append(values)
    if not collected:
        raise UserError(f"no row has its {standard} landmarks to compare with")
    return {name: {k: np.concatenate(v) for k, v in columns.items()} for name, columns in collected.items()}


def fit_margin(folder: Path, rows: Columns, thermalizer: str) -> float:
    """Choose how wide a box is looked at: the margin of `MARGINS` with the least error on validation people.

    Visible pictures and the thermalizer's count alike. It is written beside the weights and returned.
    """
    finder, errors = load_detector(folder), dict[float, float]()
    for margin in MARGINS:
        finder.margin = margin
        found = predict(finder, [{name: values for name, values in rows.items() if name != "thermal"}], thermalizer)
        errors[margin] = float(np.mean([nme(each["found"], each["truth"]).mean() for each in found.values()]))
    best = min(errors, key=lambda margin: errors[margin])
    write_detection(folder, margin=best)
    return best


def calibrate(folder: Path, validation: Iterable[Columns], thermalizer: str) -> dict[str, float]:
    """Fit the factors on the variances on validation people, write them beside the weights and return them.

    `thermal` is fitted on the thermalizer's pictures: a data set that is generated holds such pictures. Without a thermalizer
    it is fitted on the rows' own thermal pictures, and stays as it is where there are none.
    """
    found = predict(load_detector(folder), validation, thermalizer)
    # The modality that each stored factor is fitted on.
    fitted_on = {"visible": "rgb", "thermal": "thermal" if thermalizer else "true"}
    factors = {
        stored: scale_factor(_distance(found[name]), found[name]["variance"])
        for stored, name in fitted_on.items()
        if name in found
    }
    write_calibration(folder, read_calibration(folder) | factors)
    return factors


def evaluate_landmarker(
    folder: Path, test: Iterable[Columns], thermalizer: str, domain: Domain | None = None
) -> dict[str, float]:
    """Return the figures of every modality (rgb, thermal, true and the kind of picture that `domain`'s camera delivers).

    `nme` is "NME W/H" of all points, `nme_seen` of those that the modality shows; both again by |yaw| (`YAWS`); then
    `calibration.summary`, recalibrated as stored (`coverage_0.9_raw`: as the network says). Pictures may differ in size, so
    variances and distances are in hundredths of the face's size there. `hidden_variance`: how many times the variance of a
    face's hidden points is that of its seen ones, the median over faces.
    `thermal_contrast`: how many times the variance grows from visible to thermal on brows and pupils, over how many times it
    grows on the other points; above 1 the landmarker knows what thermal does not show (70 landmarks alone).
    """
    factors = read_calibration(folder)
    found, metrics = predict(load_detector(folder), test, thermalizer, domain), dict[str, float]()
    for name, values in found.items():
        # Errors, and the variances of hidden and seen points.
        unit = 100 / values["size"][:, None]
        variance = values["variance"] * factors.get("visible" if name == "rgb" else "thermal", 1.0)
        metrics |= {f"{name}_{key}": value for key, value in errors_by_yaw(values).items()}
        given = np.where(np.isfinite(values["truth"]).all(axis=2), variance, np.nan)
        metrics[f"{name}_hidden_variance"] = hidden_variance(given, values["seen"])
        # How honest the variances are, in hundredths of the face's size.
        distance = _distance(values)
        metrics |= {f"{name}_{key}": value for key, value in summary(distance * unit, variance * unit**2).items()}
        known = np.isfinite(distance)
        metrics[f"{name}_coverage_0.9_raw"] = coverage(distance[known], values["variance"][known], 0.9)
    # How much less sure the landmarker is of what thermal does not show.
    if "thermal" in found and found["rgb"]["variance"].shape[1] == 70:
        ratio = np.median(found["thermal"]["variance"] / found["rgb"]["variance"], axis=0)
        weak = np.isin(np.arange(70), FACELESS_IN_THERMAL)
        metrics["thermal_contrast"] = float(np.median(ratio[weak]) / np.median(ratio[~weak]))
    return metrics


def errors_by_yaw(values: dict[str, np.ndarray]) -> dict[str, float]:
    """Return "NME W/H" of all and of seen points, over all faces and in each bin of `YAWS` that has one."""
    every = {
        "nme": nme(values["found"], values["truth"]),
        "nme_seen": nme(values["found"], values["truth"], values["seen"]),
    }
    metrics = {key: float(each.mean()) for key, each in every.items()}
    turned = np.abs(values["yaw"])
    for bin_name, (low, high) in YAWS.items():
        inside = (turned >= low) & (turned < high)
        if inside.any():
            metrics |= {f"{key}_{bin_name}": float(each[inside].mean()) for key, each in every.items()}
    return metrics


def hidden_variance(variance: np.ndarray, seen: np.ndarray) -> float:
    """Return the median over faces of mean variance [N, L] of hidden over that of seen points, NaN without such faces."""
    both = seen.any(axis=1) & ~seen.all(axis=1)
    ratios = [v[~s].mean() / v[s].mean() for v, s in zip(variance[both], seen[both], strict=True)]
    known = [float(ratio) for ratio in ratios if np.isfinite(ratio)]
    return float(np.median(known)) if known else math.nan


def measure_search(folder: Path, test: Iterable[Columns], domain: Domain) -> dict[str, float]:
    """Return the figures of the sliding window on the frames of `domain`'s camera, without boxes.

    `frame_nme` is "NME W/H" of the surest window of every frame, `frame_nme_sure` of those below the trained threshold,
    `frame_missed` the share that is not. Frames smaller than half as much again as the window are enlarged to it.
    """
    finder, errors, sure = load_detector(folder), list[float](), list[bool]()
    side = finder.config.size
    for rows in test:
        for row in range(len(rows["bbox"])):
            # The camera's frame, enlarged by finer levels of the pyramid where the window would not fit.
            look = photograph(rows, row, finder.config.standard, domain)
            short = 1.5 * side / min(look.picture.shape)
            finder.search = Search(finest=min(0, -math.ceil(math.log(short) / -math.log(Search.eta))))
            face = finder.best(look.picture)
            errors.append(float(nme(face.points[None], look.points[None])[0]))
            sure.append(face.uncertainty < finder.threshold)
    kept = np.array(sure)
    return {
        "frame_nme": float(np.mean(errors)),
        "frame_nme_sure": float(np.array(errors)[kept].mean()) if kept.any() else math.nan,
        "frame_missed": float(1 - kept.mean()),
    }


def _distance(values: dict[str, np.ndarray]) -> np.ndarray:
    return np.linalg.norm(values["found"] - values["truth"], axis=-1)
