"""The angles that a head can be asked for in degrees: which there are, how far they go, and what training has shown.

yaw > 0: the face turns to the image right, the subject's left; pitch > 0: it looks up; roll > 0: it tilts clockwise in the
image (`models.synthworld.sampling.scene.View`).
"""

import numpy as np

FILE = "head.safetensors"
"""Beside the weights of a U-Net that is shown the head (`models.visible.head`), which has the angles, as ControlNets have."""
ANGLES = ("yaw", "pitch", "roll")
DRAWN = {"yaw": 90.0, "pitch": 35.0, "roll": 20.0}
"""Largest absolute angle that the bare head is drawn at: as far as the world turns any head."""
DIGITS = 2
"""Of an angle behind the point: finer ones are rounded, so that its word is the same wherever it is computed."""
TRAINED = {"yaw": 60.0, "pitch": 15.0, "roll": 8.0}
"""Largest absolute angle in the world's portraits, which the visible model was trained on."""


def beyond_training(pose: np.ndarray) -> list[str]:
    """Return which of the angles float [3] are larger than training has shown; one that is not asked for (NaN) is not."""
    return [name for name, angle in zip(ANGLES, pose, strict=True) if abs(angle) > TRAINED[name]]
