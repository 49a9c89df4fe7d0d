"""Pictures as insightface feeds them to its networks: RGB, channels first, (x - 127.5) / scale."""

import numpy as np
from torch import Tensor

DETECTOR_SCALE, RECOGNISER_SCALE = 128.0, 127.5


def to_tensor(pictures: Tensor, scale: float) -> Tensor:
    """Return RGB pictures uint8 [B, H, W, 3] as a network's input float32 [B, 3, H, W], in about [-1, 1]."""
    return (pictures.permute(0, 3, 1, 2).float() - 127.5) / scale


def to_blob(pictures: np.ndarray, scale: float) -> np.ndarray:
    """Return RGB pictures uint8 [B, H, W, 3] as float32 [B, 3, H, W] with the rounding of `cv2.dnn.blobFromImages`."""
    values = (pictures.astype(np.float32) - np.float32(127.5)) * np.float32(1.0 / scale)
    return np.ascontiguousarray(values.transpose(0, 3, 1, 2))
