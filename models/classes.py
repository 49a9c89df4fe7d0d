"""The 19 pixel classes of FaceSynthetics, as T-FAKE uses them."""

import numpy as np

CLASSES: tuple[str, ...] = (
    "BACKGROUND", "SKIN", "NOSE", "RIGHT_EYE", "LEFT_EYE", "RIGHT_BROW", "LEFT_BROW", "RIGHT_EAR", "LEFT_EAR",
    "MOUTH_INTERIOR", "TOP_LIP", "BOTTOM_LIP", "NECK", "HAIR", "BEARD", "CLOTHING", "GLASSES", "HEADWEAR", "FACEWEAR",
)  # fmt: skip
"""Names by id. Left and right are the subject's. Opaque lenses are GLASSES; clear lenses take the class behind them."""

BACKGROUND, SKIN, NOSE, GLASSES = 0, 1, 2, 16
IGNORE = 255
"""FaceSynthetics' class of pixels without a label. In its masks they count as background; a whole picture of them has
no mask, and counts as a person."""
FACE: tuple[int, ...] = tuple(range(1, 12))
"""Classes of the bare face: skin, nose, eyes, brows, ears and mouth."""

MIRRORED: tuple[int, ...] = (0, 1, 2, 4, 3, 6, 5, 8, 7, *range(9, 19))
"""Class id after the picture is flipped left to right."""
MIRRORED_BYTES: tuple[int, ...] = (*MIRRORED, *range(len(MIRRORED), 256))
"""The same of any byte: what is no class stays what it is."""

_COLOURS = np.array(
    [(24, 26, 31), (236, 188, 158), (205, 133, 99), (70, 130, 180), (100, 170, 220), (110, 75, 45), (140, 98, 60),
     (224, 130, 130), (240, 160, 150), (110, 20, 40), (214, 80, 100), (190, 50, 75), (212, 160, 130), (90, 70, 120),
     (150, 120, 90), (60, 140, 110), (40, 200, 210), (240, 200, 70), (235, 235, 235)],
    np.uint8,
)  # fmt: skip


def paint_classes(classes: np.ndarray) -> np.ndarray:
    """Return class ids uint8 [..., H, W] in distinct colours, uint8 [..., H, W, 3]; ids beyond the last class take its colour."""
    return _COLOURS[np.minimum(classes, len(_COLOURS) - 1)]
