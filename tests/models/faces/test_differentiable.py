"""The recogniser in torch operations, against onnxruntime and OpenCV."""

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper
from scipy.ndimage import gaussian_filter

from models.errors import UserError
from models.faces.align import align, fit_similarities
from models.faces.gradient.differentiable import DifferentiableRecogniser, align_pictures
from models.faces.pack import embed, open_session
from models.weights.store import ROOT

FILE = ROOT / "models" / "starter" / "faces" / "arcface_starter.onnx"


def crops(count: int = 3) -> np.ndarray:
    noise = np.random.default_rng(0).normal(0, 1, (count, 112, 112, 3))
    smooth = gaussian_filter(noise, (0, 5, 5, 0))
    return (127 + 400 * smooth).clip(0, 255).astype(np.uint8)


def test_embeddings_are_onnxruntimes() -> None:
    given = torch.from_numpy(crops()).permute(0, 3, 1, 2).float()
    ours = DifferentiableRecogniser(FILE)(given).numpy()
    theirs = embed(open_session(FILE, 1), crops(), 3)
    assert np.abs(ours - theirs).max() < 1e-3 * np.abs(theirs).max()


def test_its_gradient_is_that_of_finite_differences() -> None:
    network = DifferentiableRecogniser(FILE)
    given = torch.from_numpy(crops(1)).permute(0, 3, 1, 2).float().requires_grad_()
    direction = torch.zeros_like(given)
    direction[:, :, 30:60, 30:60] = 1

    def value(step: float) -> torch.Tensor:
        return network(given + step * direction)[0, :8].sum()

    value(0.0).backward()
    assert given.grad is not None
    slope = ((value(0.5) - value(-0.5)) / 1.0).item()
    assert (given.grad * direction).sum().item() == pytest.approx(slope, rel=0.05, abs=1e-4)


def test_crops_are_opencvs() -> None:
    picture = crops(2)
    points = np.array([[40, 44], [70, 42], [56, 60], [44, 78], [68, 77]], np.float32) + np.arange(2)[:, None, None] * 3
    theirs = align(picture, points).astype(float)
    matrices = torch.from_numpy(fit_similarities(points)).float()
    ours = align_pictures(torch.from_numpy(picture).permute(0, 3, 1, 2).float(), matrices).permute(0, 2, 3, 1).numpy()
    # In a training's bfloat16 they are cut from the same places.
    with torch.autocast("cpu", torch.bfloat16):
        assert np.array_equal(
            align_pictures(torch.from_numpy(picture).permute(0, 3, 1, 2).float(), matrices).permute(0, 2, 3, 1).numpy(),
            ours,
        )
    # OpenCV interpolates in steps of 1/32 pixel.
    assert np.abs(ours - theirs).mean() < 0.7
    assert np.abs(ours - theirs)[:, 20:90, 20:90].max() < 5


@pytest.mark.parametrize("transposed", [0, 1])
def test_other_operations_are_onnxruntimes(tmp_path: Path, transposed: int) -> None:
    rng = np.random.default_rng(1)

    def tensor(name: str, *shape: int) -> onnx.TensorProto:
        return helper.make_tensor(name, TensorProto.FLOAT, shape, rng.normal(size=shape).astype(np.float32).ravel())

    inside = 2 * 57 * 56
    nodes = [
        helper.make_node("Sub", ["input", "centre"], ["a"]),
        helper.make_node("Mul", ["a", "small"], ["b"]),
        helper.make_node("Conv", ["b", "kernel"], ["c"], strides=[2, 2], pads=[1, 0, 2, 1]),
        helper.make_node("PRelu", ["c", "slope"], ["d"]),
        helper.make_node("Dropout", ["d"], ["e"]),
        helper.make_node("Flatten", ["e"], ["f"]),
        helper.make_node("Gemm", ["f", "matrix", "shift"], ["out"], alpha=0.5, beta=2.0, transB=transposed),
    ]
    stored = [
        helper.make_tensor("centre", TensorProto.FLOAT, [1], [127.5]),
        helper.make_tensor("small", TensorProto.FLOAT, [1], [1 / 127.5]),
        tensor("kernel", 2, 3, 3, 3), tensor("slope", 2, 1, 1),
        tensor("matrix", *((4, inside) if transposed else (inside, 4))), tensor("shift", 4),
    ]  # fmt: skip
    graph = helper.make_graph(
        nodes, "g", [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["n", 3, 112, 112])],
        [helper.make_tensor_value_info("out", TensorProto.FLOAT, ["n", 4])], stored,
    )  # fmt: skip
    path = tmp_path / "net.onnx"
    onnx.save_model(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), str(path))
    ours = DifferentiableRecogniser(path)(torch.from_numpy(crops()).permute(0, 3, 1, 2).float()).numpy()
    blob = crops().transpose(0, 3, 1, 2).astype(np.float32)
    theirs = open_session(path, 1).run(None, {"input": blob})[0]
    assert np.allclose(ours, theirs, rtol=1e-3, atol=1e-2)


def test_an_operation_that_is_not_known_is_named(tmp_path: Path) -> None:
    graph = helper.make_graph(
        [helper.make_node("Softplus", ["input"], ["out"])], "g",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["n", 3, 112, 112])],
        [helper.make_tensor_value_info("out", TensorProto.FLOAT, ["n", 3, 112, 112])],
    )  # fmt: skip
    path = tmp_path / "net.onnx"
    onnx.save_model(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), str(path))
    with pytest.raises(UserError, match="through Softplus; known: Add, BatchNormalization"):
        DifferentiableRecogniser(path)
