"""Networks as ONNX files of the shapes that insightface recognises, with weights stored in half precision."""

import logging
import warnings
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from models.faces.align import CROP

SCRFD_OUTPUTS = [f"{kind}_{stride}" for kind in ("score", "bbox", "kps") for stride in (8, 16, 32)]
"""Order of a five-point SCRFD's nine outputs: scores, boxes, points, each for strides 8, 16, 32."""


def export_recogniser(network: nn.Module, path: Path) -> None:
    """Write `network` ([B, 3, 112, 112] -> [B, 512]) with a free batch to `path`."""
    batch = {0: torch.export.Dim("batch", min=1, max=4096)}
    _export(network, path, torch.zeros(2, 3, CROP, CROP), ["embedding"], (batch,))


def export_detector(network: nn.Module, path: Path) -> None:
    """Write an SCRFD network ([B, 3, H, W] -> nine outputs) with free batch, height and width to `path`.

    Heights and widths are multiples of 32.
    """
    height, width = (32 * torch.export.Dim(name, min=1, max=64) for name in ("h32", "w32"))
    free = {0: torch.export.Dim("batch", min=1, max=4096), 2: height, 3: width}
    _export(network, path, torch.zeros(2, 3, 128, 160), SCRFD_OUTPUTS, (free,))


def _export(network: nn.Module, path: Path, example: torch.Tensor, outputs: list[str], shapes: tuple) -> None:
    network = network.float().eval()
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            network,
            (example.contiguous(),),
            input_names=["input"],
            output_names=outputs,
            dynamic_shapes=shapes,
            dynamo=True,
            verbose=False,
        )
    assert program is not None
    model = program.model_proto
    _name_dimensions(model)
    store_halved(model)
    onnx.checker.check_model(model)
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save_model(model, str(path))


def _name_dimensions(model: onnx.ModelProto) -> None:
    """Name the free dimensions for a reader: what the exporter derived (`32*h32*s25`) says nothing."""
    names = ("batch", "channels", "height", "width")
    for value in [*model.graph.input, *model.graph.output]:
        for place, dimension in enumerate(value.type.tensor_type.shape.dim):
            if dimension.dim_param:
                output = value.name in SCRFD_OUTPUTS and place == 1
                dimension.dim_param = f"anchors_{value.name.split('_')[1]}" if output else names[place]


def store_halved(model: onnx.ModelProto, smallest: int = 256) -> None:
    """Store float32 initializers of at least `smallest` numbers as float16 with a cast back, in place.

    The runtime folds the casts when it loads the file, so it computes in float32; the file is half as large.
    """
    graph = model.graph
    casts = []
    for tensor in list(graph.initializer):
        if tensor.data_type != TensorProto.FLOAT or int(np.prod(tensor.dims)) < smallest:
            continue
        name = tensor.name
        halved = numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float16), f"{name}.half")
        graph.initializer.remove(tensor)
        graph.initializer.append(halved)
        casts.append(helper.make_node("Cast", [halved.name], [name], name=f"Cast.{name}", to=TensorProto.FLOAT))
    for cast in reversed(casts):
        graph.node.insert(0, cast)
