"""Weights that are damaged or hostile: one message that names the file, before anything is computed."""

import contextlib
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from onnx import TensorProto, helper, numpy_helper
from safetensors.numpy import save_file
from safetensors.torch import save_file as save_torch

from models.card import Card
from models.config import parse_json, parse_yaml, read_config
from models.errors import EnvironmentFault, UserError
from models.faces.onnx_limits import check_sizes
from models.faces.settings import Options, reference
from models.landmarks.calibration import FILE, read_calibration
from models.landmarks.network import load_landmarker
from models.thermal.unet.network import thermal_config
from models.visible.head import HeadReader
from models.weights.store import SmallFiles
from pipelines.config.profile import Profile
from tests.damaged import damaged

FEW = settings(max_examples=25, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
NESTED = 500
DEEP = '{"a":' * 100_000


def save_graph(path: Path, nodes: list[onnx.NodeProto], **constants: np.ndarray) -> None:
    """Write a graph of a recogniser's input and output."""
    kept = [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()]
    crop = helper.make_tensor_value_info("input", TensorProto.FLOAT, ["batch", 3, 112, 112])
    out = helper.make_tensor_value_info("out", TensorProto.FLOAT, None)
    model = helper.make_model(helper.make_graph(nodes, "g", [crop], [out], kept), ir_version=8)
    onnx.save_model(model, str(path))


def test_a_small_file_that_expands_to_terabytes_is_not_opened(tmp_path: Path) -> None:
    path, add = tmp_path / "a.onnx", helper.make_node("Add", ["input", "big"], ["out"])
    for name, node, constants in (
        ("constant", helper.make_node("ConstantOfShape", ["shape"], ["big"]), {"shape": np.array([2**20, 2**20])}),
        ("tiles", helper.make_node("Tile", ["one", "shape"], ["big"]),
         {"shape": np.array([2**20, 2**20]), "one": np.ones((1, 1), np.float32)}),
        ("expanded", helper.make_node("Expand", ["one", "shape"], ["big"]),
         {"shape": np.array([2**20, 2**20]), "one": np.ones((1, 1), np.float32)}),
    ):  # fmt: skip
        save_graph(path, [node, add], **constants)
        assert path.stat().st_size < 1000, name
        with pytest.raises(EnvironmentFault, match="'big' would hold 1099511627776 numbers"):
            check_sizes(path)
    # What a network holds is far less, and stays.
    save_graph(path, [helper.make_node("ConstantOfShape", ["shape"], ["big"]), add], shape=np.array([512, 512]))
    check_sizes(path)


@FEW
@given(content=damaged((Path("models/starter/faces/scrfd_starter.onnx")).read_bytes()[:4000]))
def test_damaged_onnx_is_one_message(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "a.onnx"
    path.write_bytes(content)
    with contextlib.suppress(EnvironmentFault):
        check_sizes(path)


def test_deep_documents_are_one_message(tmp_path: Path) -> None:
    """Python counts nesting, and says RecursionError."""
    with pytest.raises(ValueError, match="nested too deep"):
        parse_json(DEEP)
    with pytest.raises(Exception, match="nested too deep"):
        parse_yaml("[" * NESTED)
    (tmp_path / "profile.yaml").write_text("a: " + "[" * NESTED)
    with pytest.raises(UserError, match=r"profile\.yaml is not YAML: it is nested too deep"):
        read_config(Profile, tmp_path / "profile.yaml")
    (tmp_path / "README.md").write_text("---\na: " + "[" * NESTED + "\n---\n")
    with pytest.raises(UserError, match="front matter"):
        Card.read(tmp_path)
    for name, read in {
        FILE: lambda: read_calibration(tmp_path),
        "thermal.json": lambda: thermal_config(tmp_path),
        "config.json": lambda: SmallFiles(tmp_path).json("config.json"),
    }.items():
        (tmp_path / name).write_text(DEEP)
        with pytest.raises(EnvironmentFault, match=f"{name}.*nested too deep"):
            read()
    save_torch({"w": torch.zeros(1)}, str(tmp_path / "landmarker.safetensors"), metadata={"config": DEEP})
    with pytest.raises(EnvironmentFault, match=r"landmarker\.safetensors: .*nested too deep"):
        load_landmarker(tmp_path / "landmarker.safetensors")


@FEW
@given(content=damaged((Path("models/starter/faces/reference.safetensors")).read_bytes()[:1500]))
def test_a_damaged_reference_is_one_message(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "reference.safetensors").write_bytes(content)
    with contextlib.suppress(EnvironmentFault):
        reference(Options(), {"model": tmp_path})


def test_a_head_reader_of_other_shapes_is_named(tmp_path: Path) -> None:
    path = tmp_path / "head.safetensors"
    HeadReader(np.zeros((58, 512)), np.zeros(58)).save(path)
    HeadReader.load(path)
    for weight, bias in (((58, 511), (58,)), ((58, 512), (57,)), ((58,), (58,))):
        save_file({"measures.weight": np.zeros(weight), "measures.bias": np.zeros(bias)}, path)
        with pytest.raises(EnvironmentFault, match="has shape"):
            HeadReader.load(path)
