"""A recogniser adapted to thermal probes: the loss by its equation, the graph that comes back, what it learns."""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import QuantType, quantize_dynamic

from models.card import Card
from models.errors import UserError
from models.faces.gradient.trainable import TrainableRecogniser
from models.faces.space import check_space
from models.landmarks.intensity import show_thermal
from models.tasks.hfr import task
from models.tasks.hfr.contrast import multi_positive_loss, numbers_of, symmetric_loss
from models.weights.store import ROOT

STARTER = ROOT / "models/starter/faces/arcface_starter.onnx"
CALM = dict.fromkeys(task.CropAugmentation.model_fields, 0.0)


@pytest.fixture(scope="module")
def recogniser(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small one: two convolutions, a batch norm, a PReLU and a Gemm; one weight is stored in half precision."""
    rng = np.random.default_rng(0)
    shapes = {"w1": (4, 3, 3, 3), "w2": (6, 4, 3, 3), "scale": (4,), "shift": (4,), "slope": (4, 1, 1), "w3": (512, 6)}
    tensors = {name: rng.normal(0, 0.3, shape).astype(np.float32) for name, shape in shapes.items()}
    tensors |= {"mean": np.zeros(4, np.float32), "variance": np.ones(4, np.float32)}
    tensors["w3.half"] = tensors.pop("w3").astype(np.float16)
    nodes = [
        helper.make_node("Cast", ["w3.half"], ["w3"], to=TensorProto.FLOAT),
        helper.make_node("Conv", ["input", "w1"], ["a"], strides=[8, 8], pads=[1, 1, 1, 1]),
        helper.make_node("BatchNormalization", ["a", "scale", "shift", "mean", "variance"], ["b"]),
        helper.make_node("PRelu", ["b", "slope"], ["c"]),
        helper.make_node("Conv", ["c", "w2"], ["d"], strides=[14, 14]),
        helper.make_node("Flatten", ["d"], ["e"]),
        helper.make_node("Gemm", ["e", "w3"], ["embedding"], transB=1),
    ]
    graph = helper.make_graph(
        nodes,
        "recogniser",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["batch", 3, 112, 112])],
        [helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["batch", 512])],
        [numpy_helper.from_array(values, name) for name, values in tensors.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    path = tmp_path_factory.mktemp("recogniser") / "small.onnx"
    onnx.save_model(model, str(path))
    return path


def rows(count: int = 8, people: int = 4) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(1)
    celsius = rng.normal(33, 1.5, (count, 64, 64)).astype(np.float32)
    celsius[:, :6] = np.nan
    marks = np.full((70, 2), 32.0)
    marks[36:42], marks[42:48], marks[30], marks[48], marks[54] = (24, 28), (40, 28), (32, 38), (26, 46), (38, 46)
    return {
        "identity_id": np.array([f"p{k % people}" for k in range(count)], object),
        "view": np.arange(count) // people,
        "visible": rng.integers(0, 255, (count, 64, 64, 3), np.uint8),
        "thermal": celsius,
        "thermal_kind": np.array(["apparent"] * count, object),
        "landmarks_70": np.repeat(marks[None].astype(np.float32), count, axis=0),
        "draw": np.arange(count),
    }


def test_the_contrast_is_the_papers_equation() -> None:
    rng = np.random.default_rng(0)
    one, other = (v / np.linalg.norm(v, axis=1, keepdims=True) for v in rng.normal(size=(2, 6, 5)))
    names = ["a", "b", "a", "c", "b", "a"]

    def by_hand(anchors: np.ndarray, others: np.ndarray) -> float:
        total = []
        for i, name in enumerate(names):
            scores = np.exp(anchors[i] @ others.T / 0.07)
            positives = [k for k, who in enumerate(names) if who == name]
            total.append(np.mean([-np.log(scores[k] / scores.sum()) for k in positives]))
        return float(np.mean(total))

    visible, thermal = (torch.from_numpy(values) for values in (one, other))
    assert symmetric_loss(visible, thermal, numbers_of(names), 0.07).item() == pytest.approx(
        (by_hand(one, other) + by_hand(other, one)) / 2, rel=1e-5
    )
    # An anchor without anybody of its own counts for nothing.
    same = torch.tensor([[True, False], [False, False]])
    both = multi_positive_loss(visible[:2], thermal[:2], same, 0.07)
    assert both.item() == pytest.approx(multi_positive_loss(visible[:1], thermal[:2], same[:1], 0.07).item())


@pytest.mark.parametrize("which", ["small", "starter"])
def test_the_graph_is_onnxruntimes_and_comes_back_as_it_was_stored(
    which: str, recogniser: Path, tmp_path: Path
) -> None:
    path = recogniser if which == "small" else STARTER
    network = TrainableRecogniser(path)
    crops = torch.rand(2, 3, 112, 112, generator=torch.Generator().manual_seed(0)) * 255
    blob = ((crops - 127.5) / 127.5).numpy()

    def run(file: Path) -> np.ndarray:
        session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
        return np.asarray(session.run(None, {session.get_inputs()[0].name: blob})[0])

    network.save(tmp_path / "same.onnx")
    assert np.allclose(network(crops).detach().numpy(), run(path), atol=2e-4)
    assert np.array_equal(run(tmp_path / "same.onnx"), run(path))
    with torch.no_grad():
        for weight in network.weights:
            weight.add_(0.01 * torch.randn(weight.shape, generator=torch.Generator().manual_seed(1)))
    network.save(tmp_path / "changed.onnx")
    changed = run(tmp_path / "changed.onnx")
    assert np.allclose(network(crops).detach().numpy(), changed, atol=0.02 * np.abs(changed).max())
    assert not np.allclose(changed, run(path), atol=1e-3)


def test_a_file_without_gradient_is_refused_with_the_way_out(recogniser: Path, tmp_path: Path) -> None:
    quantize_dynamic(recogniser, tmp_path / "int8.onnx", weight_type=QuantType.QUInt8)
    with pytest.raises(UserError, match=r"cannot be differentiated through .*No gradient.*quantised.*recogniser_class"):
        task.build(task.Config(recogniser=str(tmp_path / "int8.onnx")))


def test_weights_are_what_weighs_and_not_the_statistics(recogniser: Path) -> None:
    assert TrainableRecogniser(recogniser).names == ["w1", "scale", "shift", "slope", "w2", "w3.half"]


def test_it_brings_the_cameras_together_and_its_part_is_an_onnx_file(recogniser: Path, tmp_path: Path) -> None:
    config = task.Config(recogniser=str(recogniser), augmentation=task.CropAugmentation(**CALM), lr=1e-3)
    model = task.build(config)
    batch = task.prepare(rows(), config) | {"draw": np.arange(8)}
    with torch.inference_mode():
        before = task.validate(model, [rows()], config)
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    values = list[dict[str, float]]()
    for step in range(25):
        value, metrics = task.loss(model, batch, config, step)
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        values.append(metrics)
    assert values[-1]["together"] < values[0]["together"] - 0.3
    assert values[0]["drift"] == pytest.approx(0, abs=1e-5) and 0 < values[-1]["drift"] < 0.5
    with torch.inference_mode():
        after = task.validate(model, [rows()], config)
    # The original is the original still; what was adapted is another.
    raw = {name for name in before if name.startswith("raw_")}
    assert raw and all(after[name] == before[name] for name in raw)
    assert {name: before[name] for name in ("auc", "eer")} == {name: before[f"raw_{name}"] for name in ("auc", "eer")}
    task.export(model, config, tmp_path / "part", Card(title="", task="hfr"))
    again = TrainableRecogniser(tmp_path / "part" / "thermal.onnx")
    crops = torch.full((1, 3, 112, 112), 90.0)
    assert torch.allclose(again(crops), model.network(crops), atol=5e-2)
    assert (tmp_path / "part" / "README.md").exists()
    # It says whose space it embeds into: another recogniser's gallery is refused.
    check_space(recogniser.parent, tmp_path / "part")
    with pytest.raises(UserError, match="probes and gallery would lie in two spaces"):
        check_space(STARTER.parent, tmp_path / "part")
    check_space(STARTER.parent, STARTER.parent)  # nothing is said there


def test_with_the_original_as_gallery_it_learns_thermal_crops_alone(recogniser: Path, tmp_path: Path) -> None:
    config = task.Config(
        recogniser=str(recogniser), augmentation=task.CropAugmentation(**CALM), gallery="original", keep=0.5
    )
    model = task.build(config)
    batch = task.prepare(rows(), config) | {"draw": np.arange(8)}
    # By hand: the contrast to what the frozen original gives of visible crops, and how far each pair's halves are apart.
    crops = {
        name: task._tensor(np.stack([task.augment_crop(*given, ranges=config.augmentation) for given in zip(
            batch[name], batch[task.POINTS[name]], [task.seed_of(name, k) for k in range(8)], strict=True)]))
        for name in ("visible", "thermal")
    }  # fmt: skip
    crops["thermal"] = crops["thermal"].mean(dim=1, keepdim=True).repeat(1, 3, 1, 1)
    with torch.no_grad():
        for weight in model.network.weights:
            weight.mul_(1.1)
        seen, warm = model.original(crops["visible"]), model.network(crops["thermal"])
        person = numbers_of([str(name) for name in batch["person"]])
        cosine = torch.nn.functional.cosine_similarity(seen, warm).mean()
        expected = symmetric_loss(task.unit(seen), task.unit(warm), person, config.temperature) + 0.5 * (1 - cosine)
    value, metrics = task.loss(model, batch, config, 0)
    assert value.item() == pytest.approx(expected.item(), rel=1e-4)
    assert metrics["drift"] == pytest.approx(1 - metrics["cosine"], abs=1e-5)
    # Visible faces are the original's in its validation, as they are in a bundle.
    with torch.inference_mode():
        found = task.validate(model, [rows()], config)
        adapted = task.validate(model, [rows()], config.model_copy(update={"gallery": "adapted"}))
    assert found["visible_tar"] == found["raw_visible_tar"] and found["auc"] != adapted["auc"]
    task.export(model, config, tmp_path, Card(title="", task="hfr"))
    assert "thermal crops alone" in (tmp_path / "README.md").read_text()


def test_validation_needs_strangers_and_another_view(recogniser: Path) -> None:
    config = task.Config(recogniser=str(recogniser))
    model = task.build(config)
    for few in (rows(4, people=1), rows(4, people=4)):
        with torch.inference_mode(), pytest.raises(UserError, match="two people at least, one of them in two views"):
            task.validate(model, [few], config)


def test_visible_pictures_that_stand_beside_several_thermal_ones_count_once(recogniser: Path) -> None:
    config = task.Config(recogniser=str(recogniser))
    model, once = task.build(config), rows(8, people=2)
    twice = {name: np.concatenate([values, values]) for name, values in once.items()}
    twice["thermal"] = twice["thermal"] + np.linspace(0, 1, 16, dtype=np.float32)[:, None, None]
    with torch.inference_mode():
        found = [task.validate(model, [one], config)["visible_tar"] for one in (once, twice)]
    assert found[0] == found[1] < 1


def test_how_a_thermal_picture_is_shown() -> None:
    celsius = np.full((64, 64), 22.0, np.float32)
    celsius[16:48, 16:48] = np.linspace(31, 36, 32)
    celsius[0, 0] = np.nan
    shown = show_thermal(celsius)
    assert shown.shape == (64, 64, 3) and (shown[..., 0] == shown[..., 2]).all()
    assert int(shown[20, 46, 0]) - int(shown[20, 17, 0]) > 60
    grey = np.arange(64 * 64, dtype=np.uint8).reshape(64, 64)
    assert np.array_equal(show_thermal(grey)[..., 1], grey)


def test_rows_in_which_no_face_is_known_count_for_nothing(recogniser: Path) -> None:
    config = task.Config(recogniser=str(recogniser), augmentation=task.CropAugmentation(**CALM))
    model = task.build(config)
    batch = task.prepare(rows(), config) | {"draw": np.arange(8)}
    faceless = {**batch, "points": np.where(np.arange(8)[:, None, None] < 5, batch["points"], np.nan)}
    first = {name: values[:5] for name, values in batch.items()}
    assert task.loss(model, faceless, config, 0)[1] == task.loss(model, first, config, 0)[1]
    # One half without a face is enough to leave a row out.
    warm = {**batch, "thermal_points": faceless["points"]}
    assert task.loss(model, warm, config, 0)[1] == task.loss(model, first, config, 0)[1]
    nobody = {**batch, "points": np.full_like(batch["points"], np.nan)}
    with pytest.raises(UserError, match="no two rows with a face"):
        task.loss(model, nobody, config, 0)
