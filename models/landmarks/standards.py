"""Landmark standards, named by their number of points, and how the others follow from the true 70 and 478.

`70`: iBUG-68 and the two pupils (FaceSynthetics). `68`: iBUG-68. `5`: eyes, nose tip, mouth corners (insightface, TFW).
`72`: UNCC-ThermalFace's contour points. `478`: the world's dense topology, `world478`, which is not MediaPipe's: nothing here
reads or writes `mediapipe478`.
"""

import numpy as np

from models.faces.align import five_points
from models.landmarks.settings import Standard
from models.synthworld.shape.landmarks import MIRROR_70


def contour72(points: np.ndarray) -> np.ndarray:
    """Return 72 contour points [..., 72, 2] of 70 landmarks [..., 70, 2].

    UNCC-ThermalFace publishes no index of its 72 points. This stands for it in the world: a denser jaw (17 points and the
    16 half-way between them) and 39 of the inner points, in the order of the 70. It tests the conversion, no more.
    """
    jaw = points[..., :17, :]
    middle = (jaw[..., 1:, :] + jaw[..., :-1, :]) / 2
    inner = points[..., 17:56, :]
    return np.concatenate([jaw, middle, inner], axis=-2)


PROFILE = (*range(11), *range(17, 26), *range(33, 38), *range(43, 50), *range(52, 58), *range(64, 69))
"""Of the 72 that stand for UNCC's: the 43 of a face seen from its right side. Jaw to beyond the chin, brow, nose, eye, lip."""


def profile43(points: np.ndarray, right: bool) -> np.ndarray:
    """Return 43 contour points [..., 43, 2] of 70 landmarks [..., 70, 2]: what is seen of a profile from its right or left.

    As `contour72`, it stands for points that nobody published.
    """
    return contour72(points if right else points[..., MIRROR_70, :])[..., PROFILE, :]


def to_standard(seventy: np.ndarray, dense: np.ndarray, standard: Standard) -> np.ndarray:
    """Return the points [N, standard, 2] of a standard from the true 70 [N, 70, 2] and 478 [N, 478, 2]."""
    if standard == 5:
        return five_points(seventy)
    if standard == 72:
        return contour72(seventy)
    return dense if standard == 478 else seventy[..., :standard, :]


def conversion_weights(source: Standard, target: Standard) -> np.ndarray | None:
    """Return the weights [target, source] by which points of `target` are means of points of `source`, None if they are not."""
    if source == 478 or target == 478:
        return np.eye(478) if source == target else None
    each = np.repeat(np.eye(70)[..., None], 2, axis=-1)  # one of the 70 at a time is 1
    given, wanted = (to_standard(each, np.zeros((70, 478, 2)), name)[..., 0].T for name in (source, target))
    # Least squares: exact where every target point is a mean of source points.
    weights = wanted @ np.linalg.pinv(given)
    return weights if np.allclose(weights @ given, wanted, atol=1e-6) else None
