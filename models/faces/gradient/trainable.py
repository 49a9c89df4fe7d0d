"""A recogniser's ONNX file as a network that can be trained on, and written back as the same graph."""

from pathlib import Path

import onnx
import torch
from onnx import NodeProto, numpy_helper
from torch import Tensor, nn

from models.errors import UserError
from models.faces.gradient.differentiable import DifferentiableRecogniser

WEIGHTS = {"Conv": (1, 2), "Gemm": (1, 2), "MatMul": (0, 1), "PRelu": (1,), "BatchNormalization": (1, 2)}
"""Inputs of an operation that training may change. The statistics of batch norms stay: those of two cameras differ."""
PASSING = ("Cast", "Identity")


class TrainableRecogniser(nn.Module):
    """Aligned crops float32 [B, 3, 112, 112] in [0, 255] -> embeddings float32 [B, 512], not of length one.

    Its parameters are the constants of the graph that weigh, shift or bend; all of them in single precision, whatever the
    file stores.
    """

    def __init__(self, path: Path) -> None:
        """Read an ONNX file. Raises UserError for one with an operation that is not known, or without weights."""
        super().__init__()
        self.path, self.graph = path, DifferentiableRecogniser(path)
        self.names = weights_of(self.graph.nodes, self.graph.constants)
        if not self.names:
            raise UserError(f"{path} has no weights that could be trained: its operations read none of its constants")
        self.weights = nn.ParameterList(nn.Parameter(self.graph.constants[name].float()) for name in self.names)

    def forward(self, crops: Tensor) -> Tensor:
        return self.graph(crops, dict(zip(self.names, self.weights, strict=True)))

    def original_file(self, folder: Path) -> Path:
        """Return the file that was read; `folder` needs no copy of it."""
        return self.path

    def save(self, path: Path) -> None:
        """Write the graph with the weights as they are now, each in the precision that the file stored it in."""
        # The file as it was, with other values under the same names: graph, opset and precision stay.
        model = onnx.load_model(str(self.path), load_external_data=False)
        stored = {one.name: one for one in model.graph.initializer}
        for name, weight in zip(self.names, self.weights, strict=True):
            old = stored[name]
            values = weight.detach().cpu().numpy().astype(numpy_helper.to_array(old).dtype)
            old.CopyFrom(numpy_helper.from_array(values, name))
        onnx.checker.check_model(model)
        path.parent.mkdir(parents=True, exist_ok=True)
        onnx.save_model(model, str(path))


def weights_of(nodes: list[NodeProto], constants: dict[str, Tensor]) -> list[str]:
    """Return the names of floating constants that `WEIGHTS` reads, directly or through a cast, in the order of the graph."""
    source = {node.output[0]: node.input[0] for node in nodes if node.op_type in PASSING}

    def origin(name: str) -> str:
        while name in source:
            name = source[name]
        return name

    # What may be trained of each operation's inputs, back to the constant that a cast reads.
    read = [
        origin(node.input[place])
        for node in nodes
        for place in WEIGHTS.get(node.op_type, ())
        if place < len(node.input) and node.input[place]
    ]
    return [name for name in dict.fromkeys(read) if name in constants and torch.is_floating_point(constants[name])]
