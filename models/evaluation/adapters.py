"""Measure a label adapter on people it has not seen, beside simpler conversions, on true and on predicted points."""

import numpy as np

from models.landmarks.adapt import Adapter, adapt_points, leave_subject_out
from models.landmarks.metrics import nme
from models.landmarks.standards import conversion_weights

RIDGE = 1e-3
"""Weight of the squared coefficients beside the mean squared error, in face sizes: dense points are nearly collinear."""


def errors_on_truth(
    model: Adapter, training: tuple[np.ndarray, np.ndarray], test: tuple[np.ndarray, np.ndarray]
) -> dict[str, float]:
    """Return "NME W/H" on true points of test people; both arguments are source [N, L, 2] and target [N, L', 2], pixels.

    adapter; affine: least squares on the coordinates, fitted to `training`; rule: means of points that the standards name,
    where they do.
    """
    source, target = test
    found = {"adapter": adapt_points(model, source), "affine": convert_affinely(*training, source)}
    known = conversion_weights(model.config.source, model.config.target)
    if known is not None:
        found["rule"] = known @ source
    return {name: float(nme(points, target).mean()) for name, points in found.items()}


def errors_on_predictions(
    model: Adapter, source: np.ndarray, target: np.ndarray, labels: np.ndarray, people: np.ndarray
) -> dict[str, float]:
    """Return "NME W/H" to the true `target` [N, L', 2] of converted predictions `source` [N, L, 2] of a landmarker.

    predicted: converted by the adapter; predicted_left_out: by one fitted to the predictions and `labels` [N, L', 2] (what
    annotators marked) of the other `people` [N]; predicted_rule: by the standards' means. labels: the annotators' own error,
    the floor of whatever is compared with them.
    """
    found = {
        "predicted": adapt_points(model, source),
        "predicted_left_out": leave_subject_out(model.config, source, labels, people),
        "labels": labels,
    }
    known = conversion_weights(model.config.source, model.config.target)
    if known is not None:
        found["predicted_rule"] = known @ source
    return {name: float(nme(points, target).mean()) for name, points in found.items()}


def convert_affinely(source: np.ndarray, target: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Return `points` [M, L, 2] through the affine map of coordinates that takes `source` [N, L, 2] nearest to `target`."""
    # Ridge regression on coordinates that are centred and scaled by the source's own face.
    inputs, middle, size = _flat(source)
    wanted = ((target - middle) / size).reshape(len(target), -1)
    gram = inputs.T @ inputs / len(inputs) + RIDGE * np.eye(inputs.shape[1]) / inputs.shape[1]
    weights = np.linalg.solve(gram, inputs.T @ wanted / len(inputs))
    inputs, middle, size = _flat(points)
    return (inputs @ weights).reshape(len(points), -1, 2) * size + middle


def _flat(points: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return centred, scaled coordinates and a 1 [N, 2 L + 1], the middle [N, 1, 2] and the size [N, 1, 1] of points."""
    points = np.asarray(points, np.float64)
    middle = points.mean(axis=1, keepdims=True)
    size = np.sqrt(np.square(points - middle).sum(axis=2, keepdims=True).mean(axis=1, keepdims=True))
    flat = ((points - middle) / size).reshape(len(points), -1)
    return np.concatenate([flat, np.ones((len(points), 1))], axis=1), middle, size
