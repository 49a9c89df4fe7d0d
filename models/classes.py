"""The 19 pixel classes of FaceSynthetics, as T-FAKE uses them."""

import numpy as np
from matplotlib import colormaps

CLASSES: tuple[str, ...] = (
    "BACKGROUND", "SKIN", "NOSE", "RIGHT_EYE", "LEFT_EYE", "RIGHT_BROW", "LEFT_BROW", "RIGHT_EAR", "LEFT_EAR",
    "MOUTH_INTERIOR", "TOP_LIP", "BOTTOM_LIP", "NECK", "HAIR", "BEARD", "CLOTHING", "GLASSES", "HEADWEAR", "FACEWEAR",
)  # fmt: skip
"""Names by id. Left and right are the subject's. Opaque lenses are GLASSES; clear lenses take the class behind them."""

BACKGROUND, SKIN, NOSE = 0, 1, 2
FACE: tuple[int, ...] = tuple(range(1, 12))
"""Classes of the bare face: skin, nose, eyes, brows, ears and mouth."""

MIRRORED: tuple[int, ...] = (0, 1, 2, 4, 3, 6, 5, 8, 7, *range(9, 19))
"""Class id after the picture is flipped left to right."""

_COLOURS = np.zeros((len(CLASSES), 3), np.uint8)
_COLOURS[1:] = (np.asarray(colormaps["tab20"].colors)[: len(CLASSES) - 1] * 255).astype(np.uint8)  # type: ignore[attr-defined]


def painted(classes: np.ndarray) -> np.ndarray:
    """Return class ids uint8 [..., H, W] in distinct colours, uint8 [..., H, W, 3]; background is black."""
    return _COLOURS[classes]
