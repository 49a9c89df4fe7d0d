"""A recogniser's ONNX file as torch operations, so that a loss can look at whom a picture shows.

Any chain of the operations that insightface's recognisers are made of; the values are those of onnxruntime.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import onnx
import torch
import torch.nn.functional as F
from onnx import NodeProto, numpy_helper
from torch import Tensor

from models.errors import UserError
from models.faces.align import CROP
from models.faces.inputs import RECOGNISER_SCALE, scales_itself
from models.faces.onnx_limits import check_sizes


class DifferentiableRecogniser:
    """Aligned crops float32 [B, 3, 112, 112] in [0, 255] -> embeddings [B, 512], not of length one, with gradient."""

    def __init__(self, path: Path) -> None:
        """Read an ONNX file. Raises UserError for one with an operation that is not known here."""
        check_sizes(path)
        graph = onnx.load_model(str(path), load_external_data=False).graph
        self.constants = {one.name: torch.from_numpy(numpy_helper.to_array(one).copy()) for one in graph.initializer}
        self.nodes = list(graph.node)
        if unknown := sorted({node.op_type for node in self.nodes} - KNOWN):
            raise UserError(
                f"{path}: cannot be differentiated through {', '.join(unknown)}; known: {', '.join(sorted(KNOWN))}"
            )
        self.input = next(one.name for one in graph.input if one.name not in self.constants)
        self.output = graph.output[0].name
        self.scales_itself = scales_itself(path)

    def __call__(self, crops: Tensor, weights: Mapping[str, Tensor] | None = None) -> Tensor:
        """weights: what takes the place of constants, by their names."""
        values = {**self.constants, **(weights or {})}
        values[self.input] = crops if self.scales_itself else (crops - 127.5) / RECOGNISER_SCALE
        for node in self.nodes:
            given = [values[name].to(crops.device) if name else None for name in node.input]
            values[node.output[0]] = _apply(node, given)
        return values[self.output]


def _attributes(node: NodeProto) -> dict[str, Any]:
    return {one.name: onnx.helper.get_attribute_value(one) for one in node.attribute}


def _apply(node: NodeProto, given: list[Any]) -> Tensor:
    """Return the first output of a node; what it was trained with and inference leaves out (dropout) passes its input on."""
    how, kind = _attributes(node), node.op_type
    if kind == "Constant":
        return torch.from_numpy(numpy_helper.to_array(how["value"]).copy())
    if kind in _PLAIN:
        return _PLAIN[kind](*given)
    if kind == "Cast":
        return given[0].to({1: torch.float32, 10: torch.float16, 7: torch.int64, 6: torch.int32}[how["to"]])
    if kind == "Conv":
        return _convolve(how, *given)
    if kind == "BatchNormalization":
        scale, shift, mean, variance = (one.float() for one in given[1:5])
        return F.batch_norm(given[0], mean, variance, scale, shift, eps=how.get("epsilon", 1e-5))
    if kind == "Flatten":
        return torch.flatten(given[0], how.get("axis", 1))
    # Gemm: alpha A B + beta C, with A or B transposed.
    left = given[0].T if how.get("transA") else given[0]
    right = given[1].T if how.get("transB") else given[1]
    product = how.get("alpha", 1.0) * (left @ right)
    return product if len(given) < 3 else product + how.get("beta", 1.0) * given[2]


def _convolve(how: dict[str, Any], x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Return a two-dimensional convolution; the borders that ONNX states are before and after each side."""
    top, left, bottom, right = how.get("pads", (0, 0, 0, 0))
    x = F.pad(x, (left, right, top, bottom))
    return F.conv2d(x, weight, bias, how.get("strides", 1), 0, how.get("dilations", 1), how.get("group", 1))


_PLAIN: dict[str, Callable[..., Tensor]] = {
    "Add": torch.add,
    "Sub": torch.sub,
    "Mul": torch.mul,
    "Div": torch.div,
    "MatMul": torch.matmul,
    "Relu": F.relu,
    "PRelu": lambda x, slope: torch.where(x > 0, x, slope * x),
    "Identity": lambda x: x,
    "Dropout": lambda x, *_: x,
}
KNOWN = {*_PLAIN, "Constant", "Cast", "Conv", "BatchNormalization", "Flatten", "Gemm"}


def align_pictures(pictures: Tensor, matrices: Tensor) -> Tensor:
    """Return aligned crops float32 [B, 3, 112, 112] of pictures [B, 3, S, S] by similarities [B, 2, 3], with gradient.

    matrices: of `models.faces.align.fit_similarities`, from the picture to the crop in OpenCV's pixels. Black outside. Computed
    in float32 within autocast, too: in bfloat16 a place in the picture is a pixel or more off.
    """
    with torch.autocast(pictures.device.type, enabled=False):
        pictures, matrices = pictures.float(), matrices.float()
        side, count = pictures.shape[-1], len(matrices)
        whole = torch.eye(3).repeat(count, 1, 1).to(matrices)
        whole[:, :2] = matrices
        back = torch.linalg.inv(whole)[:, :2]
        # Where each pixel of the crop comes from, in pixels whose centres are whole numbers.
        axis = torch.arange(CROP, dtype=matrices.dtype, device=matrices.device)
        y, x = torch.meshgrid(axis, axis, indexing="ij")
        places = torch.stack([x, y, torch.ones_like(x)], dim=-1) @ back.transpose(1, 2)[:, None]
        grid = (2 * places + 1) / side - 1
        return F.grid_sample(pictures, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
