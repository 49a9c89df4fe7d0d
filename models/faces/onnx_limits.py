"""What an ONNX file would take up: a small file can ask for terabytes (a constant of any shape, tiled and tiled again)."""

import math
from pathlib import Path

import onnx

from models.errors import EnvironmentFault

MOST = 2**28
"""Numbers of one tensor for one picture: a gigabyte in float32, and a hundred times what face networks hold."""
SHAPE_BYTES = 4096
"""Larger constants are no shapes: their values do not matter here, and are not carried about."""


def check_sizes(path: Path) -> None:
    """Raise an EnvironmentFault where `path` is no ONNX file, or a tensor of it would hold more than `MOST` numbers.

    Sizes are those that shape inference finds; what depends on the input counts as 1.
    """
    # The graph without its weights, and the shapes that follow from it.
    try:
        model = onnx.load_model(str(path), load_external_data=False)
        for tensor in model.graph.initializer:
            if len(tensor.raw_data) > SHAPE_BYTES:
                tensor.ClearField("raw_data")
        graph = onnx.shape_inference.infer_shapes(model, data_prop=True).graph
    except Exception as error:  # protobuf's and onnx's share no base class
        reason = (str(error).splitlines() or [type(error).__name__])[0][:200]
        raise EnvironmentFault(f"{path}: no readable ONNX file ({reason}). Fetch or train it again.") from None
    # No tensor of it is too large.
    sizes = {tensor.name: math.prod(tensor.dims) for tensor in graph.initializer}
    for value in (*graph.value_info, *graph.output, *graph.input):
        sizes[value.name] = math.prod(max(one.dim_value, 1) for one in value.type.tensor_type.shape.dim)
    largest = max(sizes, key=lambda name: sizes[name], default="")
    if largest and sizes[largest] > MOST:
        raise EnvironmentFault(
            f"{path}: its tensor {largest!r} would hold {sizes[largest]} numbers: no face network is so large, and the file "
            "is not opened. Fetch or train it again."
        )
