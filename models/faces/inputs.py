"""Pictures as insightface feeds them to its networks: RGB, channels first, (x - 127.5) / scale."""

from pathlib import Path

import numpy as np
import onnx
from torch import Tensor

DETECTOR_SCALE, RECOGNISER_SCALE = 128.0, 127.5


def to_tensor(pictures: Tensor, scale: float) -> Tensor:
    """Return RGB pictures uint8 [B, H, W, 3] as a network's input float32 [B, 3, H, W], in about [-1, 1]."""
    return (pictures.permute(0, 3, 1, 2).float() - 127.5) / scale


def to_blob(pictures: np.ndarray, scale: float) -> np.ndarray:
    """Return RGB pictures uint8 [B, H, W, 3] as float32 [B, 3, H, W] with the rounding of `cv2.dnn.blobFromImages`."""
    values = (pictures.astype(np.float32) - np.float32(127.5)) * np.float32(1.0 / scale)
    return np.ascontiguousarray(values.transpose(0, 3, 1, 2))


def scales_itself(path: Path) -> bool:
    """Whether the graph of an ONNX file shifts and scales pictures itself, and so wants values from 0 to 255.

    insightface looks for a Sub and a Mul among the first nodes; here they must be what the input goes through first.
    """
    graph = onnx.load_model(str(path), load_external_data=False).graph
    value, steps = graph.input[0].name, set[str]()
    for _ in range(8):
        node = next((node for node in graph.node if value in node.input), None)
        if node is None or node.op_type not in ("Cast", "Identity", "Transpose", "Sub", "Add", "Mul", "Div"):
            break
        value = node.output[0]
        steps.add(node.op_type)
    return bool(steps & {"Sub", "Add"} and steps & {"Mul", "Div"})
