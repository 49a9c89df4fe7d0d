"""T-FAKE's subsets of faces, what a missed face counts, and means in which every person weighs the same."""

import numpy as np

from models.evaluation.judges_reach import by_person

SUBSETS = ("High", "Low", "Side", "Front", "Full")
FAILURE = 1.0
"""NME of a face that is missed, and the most that a found one counts: it is off by the whole box."""


def split_faces(height: np.ndarray, yaw: np.ndarray, high_px: float, side_deg: float) -> dict[str, np.ndarray]:
    """Return the faces of each of `SUBSETS`, bool [N]. height: px [N]; yaw: degrees of either sign [N].

    A face whose height is not known (NaN) is neither High nor Low, one whose yaw is not neither Side nor Front.
    """
    turned = np.abs(yaw)
    return {
        "High": height >= high_px,
        "Low": height < high_px,
        "Side": turned >= side_deg,
        "Front": turned < side_deg,
        "Full": np.ones(len(height), bool),
    }


def count_missed(values: np.ndarray, found: np.ndarray, missed: float) -> np.ndarray:
    """Return values [N] where each face that is not `found` (bool [N]) counts `missed`; one without truth (NaN) stays so."""
    return np.where(found | np.isnan(values), values, missed)


def means_by_person(values: np.ndarray, chosen: np.ndarray, person: np.ndarray) -> np.ndarray:
    """Return each person's mean of values [N] over the `chosen` faces (bool [N]), float [people], NaN for those without any."""
    return by_person(np.where(chosen, values, np.nan), person)
