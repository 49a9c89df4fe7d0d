"""How good K draws of a temperature are: their mean, how far they spread, and both at once by the CRPS."""

from collections import defaultdict

import numpy as np

from models.classes import CLASSES
from models.columns import Columns
from models.evaluation.spectra import spectral_distance
from models.thermal.baselines import person

REGIONS = {
    "skin": ("SKIN",), "nose": ("NOSE",), "eyes": ("RIGHT_EYE", "LEFT_EYE"), "mouth": ("MOUTH_INTERIOR", "TOP_LIP", "BOTTOM_LIP"),
    "ears": ("RIGHT_EAR", "LEFT_EAR"), "hair": ("HAIR", "BEARD", "RIGHT_BROW", "LEFT_BROW"), "neck": ("NECK",),
    "worn": ("CLOTHING", "GLASSES", "HEADWEAR", "FACEWEAR"),
}  # fmt: skip
"""Parts of a picture whose errors are told apart, by FaceSynthetics' classes."""


def crps(draws: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Return the fair continuous ranked probability score [...] of draws [K, ...], in the unit of `truth` [...].

    mean |x_k - y| - sum_{k<l} |x_k - x_l| / (K (K - 1)): unbiased in K (Ferro 2014, QJRMS 140, eq. 6). The absolute error
    of a single draw.
    """
    count = len(draws)
    error = np.abs(draws - truth).mean(axis=0)
    if count == 1:
        return np.asarray(error)
    # The mean difference of all pairs, by ranks: sum over sorted draws of (2 k - K - 1) x_k, k from 1.
    ranks = 2 * np.arange(1, count + 1) - count - 1
    pairs = np.tensordot(ranks, np.sort(draws, axis=0), axes=1)
    return np.asarray(error - pairs / (count * (count - 1)))


class DrawErrors:
    """Collect scores of draws in kelvin over pictures; every picture weighs the same.

    `mae_one`: of one draw. `mae_mean`: of the mean of all. `crps`. `spread_skill`: the root of the draws' mean variance
    (times (K + 1) / K, Fortin et al. 2014, J. Hydrometeor. 15, eq. 15) over the root mean square error of their mean: one is
    calibrated, less is too sure. `mae_REGION`. `spectrum`: distance of a draw's texture from the truth's (decades of power);
    `spectrum_mean` that of the mean.
    """

    def __init__(self) -> None:
        self._sums: dict[str, list[float]] = defaultdict(list)

    def add(self, rows: Columns, draws: np.ndarray) -> None:
        """Add draws float [K, B, H, W] in degrees Celsius for `rows` (`thermal`, `valid`, `classes`)."""
        count = len(draws)
        for index, keep in enumerate(person(rows)):
            if not keep.any():
                continue
            truth, values = rows["thermal"][index][keep].astype(np.float64), draws[:, index][:, keep].astype(np.float64)
            mean = values.mean(axis=0)
            self._sums["mae_one"].append(float(np.abs(values[0] - truth).mean()))
            self._sums["mae_mean"].append(float(np.abs(mean - truth).mean()))
            self._sums["crps"].append(float(crps(values, truth).mean()))
            self._sums["square"].append(float(((mean - truth) ** 2).mean()))
            if count > 1:
                variance = values.var(axis=0, ddof=1).mean() * (count + 1) / count
                self._sums["variance"].append(float(variance))
            # By region.
            classes = rows["classes"][index][keep]
            for name, members in REGIONS.items():
                chosen = np.isin(classes, [CLASSES.index(one) for one in members])
                if chosen.any():
                    self._sums[f"mae_{name}"].append(float(np.abs(mean - truth)[chosen].mean()))
        keep = person(rows)
        truth = np.nan_to_num(rows["thermal"])
        self._sums["spectrum"].append(spectral_distance(draws[0], truth, keep))
        self._sums["spectrum_mean"].append(spectral_distance(draws.mean(axis=0), truth, keep))

    def summary(self) -> dict[str, float]:
        """Return the mean of every score."""
        means = {name: float(np.mean(values)) for name, values in self._sums.items()}
        square, variance = means.pop("square"), means.pop("variance", None)
        if variance is not None:
            means["spread_skill"] = float(np.sqrt(variance / max(square, 1e-12)))
        return means
