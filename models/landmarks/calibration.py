"""How well a landmarker's variances fit its errors: coverage, sharpness, risk against coverage, and a factor that corrects them.

A landmark's error is two numbers of the same normal distribution, so its squared distance over the variance is chi-square
with two degrees of freedom: a share q of all points must lie within the circle of radius sqrt(-2 ln(1 - q)) deviations.
"""

import json
from pathlib import Path

import numpy as np

from models.config import parse_json
from models.errors import EnvironmentFault

LEVELS = (0.5, 0.8, 0.9, 0.95)
FILE = "calibration.json"


def radius(level: float) -> float:
    """Return the radius, in standard deviations, of the circle that holds a share `level` of a 2-D normal distribution."""
    return float(np.sqrt(-2 * np.log1p(-level)))


def coverage(errors: np.ndarray, variance: np.ndarray, level: float) -> float:
    """Return the share of points whose distance `errors` [...] lies within the circle that should hold `level` of them."""
    return float((errors <= radius(level) * np.sqrt(variance)).mean())


def sharpness(variance: np.ndarray) -> float:
    """Return the mean standard deviation: of two calibrated landmarkers the sharper is the better."""
    return float(np.sqrt(variance).mean())


def scale_factor(errors: np.ndarray, variance: np.ndarray) -> float:
    """Return the factor on the variances that is most likely given the distances: mean of d^2 / (2 v).

    One number for all points, fitted on validation people: it leaves the order of the points as it is. Errors that are not
    known (NaN) do not count.
    """
    return float(np.nanmean(errors.astype(np.float64) ** 2 / (2 * variance)))


def nll(errors: np.ndarray, variance: np.ndarray) -> float:
    """Return the mean negative log-likelihood of a point, per axis: 0.5 (log v + d^2 / (2 v)), without constants."""
    return float(0.5 * (np.log(variance) + errors**2 / (2 * variance)).mean())


def risk_coverage_area(errors: np.ndarray, uncertainty: np.ndarray) -> float:
    """Return the mean, over all shares kept, of the mean error of the surest so many (one number per face or point)."""
    ordered = np.asarray(errors, np.float64).ravel()[np.argsort(np.ravel(uncertainty), kind="stable")]
    return float((np.cumsum(ordered) / np.arange(1, len(ordered) + 1)).mean())


def excess_area(errors: np.ndarray, uncertainty: np.ndarray) -> float:
    """Return how much of the gain that perfect ordering would bring is missed: 0 orders perfectly, 1 says nothing."""
    best, none = risk_coverage_area(errors, errors), float(np.mean(errors))
    return (risk_coverage_area(errors, uncertainty) - best) / max(none - best, 1e-12)


def summary(errors: np.ndarray, variance: np.ndarray) -> dict[str, float]:
    """Return every figure of points with distances `errors` and `variance` of the same unit squared, [N, L] each.

    `excess_points` orders points, `excess_faces` faces by their mean variance (what detection uses). NaN: not known.
    """
    # Points without a truth do not count.
    known = np.isfinite(errors)
    each, spread = errors[known], variance[known]
    found = {f"coverage_{level:g}": coverage(each, spread, level) for level in LEVELS}
    return {
        **found,
        "sharpness": sharpness(spread),
        "nll": nll(each, spread),
        "factor": scale_factor(each, spread),
        "excess_points": excess_area(each, spread),
        "excess_faces": excess_area(np.nanmean(errors, axis=1), variance.mean(axis=1)),
    }


def write_calibration(folder: Path, factors: dict[str, float]) -> None:
    """Write the factors on the variances of each modality (`visible`, `thermal`) beside the weights."""
    (folder / FILE).write_text(json.dumps({name: round(value, 5) for name, value in factors.items()}) + "\n")


def read_calibration(folder: Path) -> dict[str, float]:
    """Return the factors beside the weights in `folder`, none if it was never calibrated."""
    path = folder / FILE
    if not path.is_file():
        return {}
    try:
        return {str(name): float(value) for name, value in parse_json(path.read_text()).items()}
    except (ValueError, TypeError, AttributeError) as error:
        raise EnvironmentFault(f"{path}: not a list of factors ({error}). Calibrate again.") from error
