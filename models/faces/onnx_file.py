"""Networks as ONNX files of the shapes that insightface recognises, with weights stored in half precision."""

import warnings
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from models.faces.align import CROP
from models.faces.decode import STRIDES

SCRFD_OUTPUTS = [f"{kind}_{stride}" for kind in ("score", "bbox", "kps") for stride in STRIDES]
"""Order of a five-point SCRFD's nine outputs: scores, boxes, points, each for strides 8, 16, 32."""


def export_recogniser(network: nn.Module, path: Path, *, half: bool = True) -> None:
    """Write `network` ([B, 3, 112, 112] -> [B, 512]) with a free batch to `path`; half: weights stored in half precision."""
    axes = {"input": {0: "batch"}, "embedding": {0: "batch"}}
    _export(network, path, torch.zeros(2, 3, CROP, CROP), axes, half)


def export_detector(network: nn.Module, path: Path) -> None:
    """Write an SCRFD network ([B, 3, H, W] -> nine outputs) with free batch, height and width to `path`.

    Heights and widths are multiples of 32.
    """
    axes = {name: {0: "batch", 1: f"anchors_{name.split('_')[1]}"} for name in SCRFD_OUTPUTS}
    axes["input"] = {0: "batch", 2: "height", 3: "width"}
    _export(network, path, torch.zeros(2, 3, 128, 160), axes)


def _export(
    network: nn.Module, path: Path, example: torch.Tensor, axes: dict[str, dict[int, str]], half: bool = True
) -> None:
    """Trace `network` (convolutions and no control flow: a trace says all); exporting by dynamo takes 40 times as long."""
    path.parent.mkdir(parents=True, exist_ok=True)
    outputs = [name for name in axes if name != "input"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            network.float().eval(),
            (example.contiguous(),),
            str(path),
            input_names=["input"],
            output_names=outputs,
            dynamic_axes=axes,
            opset_version=17,
            dynamo=False,
        )
    # Halve the weights, check, write again.
    model = onnx.load_model(str(path))
    if half:
        store_half_precision(model)
    onnx.checker.check_model(model)
    onnx.save_model(model, str(path))


def store_half_precision(model: onnx.ModelProto, smallest: int = 256) -> None:
    """Store float32 initializers of at least `smallest` numbers as float16 with a cast back, in place.

    The runtime folds the casts when it loads the file, so it computes in float32; the file is half as large.
    """
    graph = model.graph
    casts = []
    # Replace each large tensor by its float16 copy and a cast back to its name.
    for tensor in list(graph.initializer):
        if tensor.data_type != TensorProto.FLOAT or int(np.prod(tensor.dims)) < smallest:
            continue
        name = tensor.name
        halved = numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float16), f"{name}.half")
        graph.initializer.remove(tensor)
        graph.initializer.append(halved)
        casts.append(helper.make_node("Cast", [halved.name], [name], name=f"Cast.{name}", to=TensorProto.FLOAT))
    # Casts come first in the graph, in their order.
    for cast in reversed(casts):
        graph.node.insert(0, cast)
