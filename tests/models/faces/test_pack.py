"""Batches through onnxruntime give what insightface gives picture by picture."""

from pathlib import Path

import cv2
import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from insightface.app import FaceAnalysis
from insightface.model_zoo.scrfd import SCRFD as InsightFaceDetector
from onnx import TensorProto, helper, numpy_helper

from models.errors import EnvironmentFault, UserError
from models.faces.align import align
from models.faces.decode import suppress_overlaps
from models.faces.onnx_file import SCRFD_OUTPUTS
from models.faces.pack import Pack, embed, open_session
from models.faces.scrfd import SCRFD, anchors
from models.faces.settings import Options
from models.faces.stage import Stage
from models.stages import NoOptions, parse_settings
from models.weights.store import ROOT

STARTER = ROOT / "models" / "starter" / "faces"


def faces(pack: Path) -> Stage:
    """The stage on a pack, with default options."""
    return Stage({"model": pack}, Options(), dtype="float32", threads=1)


def pictures(count: int, height: int, width: int) -> list[np.ndarray]:
    """Smooth noise, uint8 [height, width, 3]."""
    rng = np.random.default_rng(3)
    return [cv2.GaussianBlur(rng.integers(0, 256, (height, width, 3), dtype=np.uint8), (0, 0), 2) for _ in range(count)]


@pytest.mark.parametrize(("height", "width"), [(128, 128), (200, 131), (90, 300)])
@pytest.mark.parametrize("sizes", [[(128, 128)], [(128, 128), (224, 160)]])
def test_detection_equals_insightface(random_pack: Path, height: int, width: int, sizes: list[tuple[int, int]]) -> None:
    theirs = InsightFaceDetector(str(random_pack / "det.onnx"), ort.InferenceSession(str(random_pack / "det.onnx")))
    theirs.prepare(-1, input_size=sizes, det_thresh=0.5)
    rgb = pictures(3, height, width)
    found = Pack(random_pack).find(rgb, sizes, 2)
    assert any(len(f.scores) for f in found), "nothing found: the comparison would say nothing"
    for picture, mine in zip(rgb, found, strict=True):
        boxes, points = theirs.detect(picture[..., ::-1])
        assert len(boxes) == len(mine.boxes)
        np.testing.assert_allclose(mine.boxes, boxes[:, :4], atol=2e-3)
        np.testing.assert_allclose(mine.scores, boxes[:, 4], atol=1e-5)
        np.testing.assert_allclose(mine.points, points, atol=2e-3)
        if len(boxes):
            best, _ = theirs.detect(picture[..., ::-1], max_num=1)
            np.testing.assert_allclose(mine.boxes[mine.main(height, width)], best[0, :4], atol=2e-3)


def test_stage_equals_face_analysis(random_pack: Path) -> None:
    app = FaceAnalysis(name="random", root=str(random_pack.parents[1]), providers=["CPUExecutionProvider"])
    app.prepare(-1, det_size=(128, 128))
    rgb = np.stack(pictures(5, 128, 128))
    rows = faces(random_pack)({"visible": rgb}, NoOptions(), 4)
    for row, picture in enumerate(rgb):
        theirs = app.get(picture[..., ::-1], max_num=1)
        assert bool(theirs) == bool(rows["faces"][row])
        if theirs:
            np.testing.assert_allclose(rows["keypoints"][row], theirs[0].kps, atol=2e-3)
            cosine = float(rows["found_embedding"][row] @ theirs[0].normed_embedding)
            assert cosine > 0.999


def test_rows_without_a_face_are_nan_and_keep_their_place(random_pack: Path) -> None:
    stage = faces(random_pack)
    stage.pack.least = 1.1
    rows = stage({"visible": np.zeros((3, 128, 128, 3), np.uint8)}, NoOptions(), 4)
    assert rows["faces"].tolist() == [0, 0, 0]
    assert np.isnan(rows["found_embedding"]).all()
    assert np.isnan(rows["bbox"]).all()


def test_a_row_does_not_depend_on_its_neighbours(random_pack: Path) -> None:
    rgb = np.stack(pictures(6, 128, 128))
    stage = faces(random_pack)
    whole, part = (stage({"visible": pictures}, NoOptions(), 4) for pictures in (rgb, rgb[4:]))
    for name in ("bbox", "keypoints", "detection_score", "found_embedding", "faces"):
        assert whole[name][4:].tobytes() == part[name].tobytes(), name


def test_anchors_are_in_output_order(random_pack: Path) -> None:
    session = ort.InferenceSession(str(random_pack / "det.onnx"))
    outputs = session.run(None, {"input": np.zeros((2, 3, 96, 160), np.float32)})
    assert [o.name for o in session.get_outputs()] == SCRFD_OUTPUTS
    centres, strides, _ = anchors(96, 160)
    assert [o.shape[1] for o in outputs[:3]] == [int((strides == stride).sum()) for stride in (8, 16, 32)]
    assert centres[2].tolist() == [8.0, 0.0]


def test_export_keeps_the_outputs(tmp_path: Path) -> None:
    from models.faces.onnx_file import export_detector

    torch.manual_seed(1)
    network = SCRFD().eval()
    export_detector(network, tmp_path / "d.onnx")
    x = torch.randn(3, 3, 64, 96)
    with torch.inference_mode():
        mine = network(x)
    theirs = ort.InferenceSession(str(tmp_path / "d.onnx")).run(None, {"input": x.numpy()})
    for a, b in zip(mine, theirs, strict=True):
        np.testing.assert_allclose(a.numpy(), b, atol=2e-3)


def test_suppression_keeps_the_best_of_overlapping_boxes() -> None:
    boxes = np.array([[0, 0, 100, 100], [5, 5, 100, 100], [200, 0, 260, 60]], np.float32)
    assert suppress_overlaps(boxes, 0.4) == [0, 2]


def test_a_folder_that_is_no_pack_is_named(tmp_path: Path) -> None:
    with pytest.raises(EnvironmentFault, match="no face pack"):
        Pack(tmp_path)
    (tmp_path / "broken.onnx").write_bytes(b"not a graph")
    with pytest.raises(EnvironmentFault, match="broken.onnx"):
        Pack(tmp_path)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sizes": [(100, 128)]}, r"faces\.options\.sizes: \[\[100, 128\]\] given; each is .* multiples of 32"),
        ({"closer": [(0, 32)]}, r"faces\.options\.closer: \[\[0, 32\]\] given"),
        ({"sizes": []}, r"faces\.options\.sizes: .*at least 1 item"),
        ({"size": [128, 128]}, r"faces\.options\.size: unknown key; known here: sizes, closer, reference"),
    ],
)
def test_impossible_options_are_refused(options: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        parse_settings(Options, options, "faces.options")


def test_packs_compute_as_they_were_exported(random_pack: Path) -> None:
    with pytest.raises(UserError, match=r"faces\.dtype is 'float16'"):
        Stage({"model": random_pack}, Options(), dtype="float16")


@pytest.mark.skipif(not (STARTER / "files.json").is_file(), reason="the starter pack is not there yet")
def test_starter_pack_loads_in_insightface() -> None:
    app = FaceAnalysis(name="starter/faces", root=str(ROOT), providers=["CPUExecutionProvider"])
    app.prepare(-1, det_size=(128, 128))
    assert set(app.models) == {"detection", "recognition"}
    assert sum(path.stat().st_size for path in STARTER.iterdir()) < 5 * 2**20
    crops = np.stack(pictures(2, 112, 112))
    mine = Pack(STARTER).embed(crops)
    theirs = app.models["recognition"].get_feat([crop[..., ::-1] for crop in crops])
    np.testing.assert_allclose(mine, theirs, atol=1e-3)


def test_alignment_equals_insightface() -> None:
    from insightface.utils.face_align import norm_crop

    rng = np.random.default_rng(0)
    template = np.array([[48, 60], [76, 60], [62, 75], [50, 90], [75, 90]], np.float32)
    rgb = np.stack(pictures(8, 128, 128))
    points = (template + rng.normal(0, 4, (8, 5, 2))).astype(np.float32)
    for mine, picture, five in zip(align(rgb, points), rgb, points, strict=True):
        difference = np.abs(mine.astype(int) - norm_crop(picture, five).astype(int))
        assert difference.max() <= 1
        assert (difference > 0).mean() < 0.01


@pytest.mark.parametrize(("first", "second"), [("Sub", "Mul"), ("Add", "Div")])
def test_a_recogniser_that_scales_pictures_itself_is_not_given_scaled_ones(tmp_path, first, second):
    """As insightface has it: such graphs want values from 0 to 255."""
    shift, factor = (127.5, 1 / 127.5) if first == "Sub" else (-127.5, 127.5)
    constants = [numpy_helper.from_array(np.float32(value), name) for name, value in (("a", shift), ("b", factor))]
    scaling = [helper.make_node(first, ["input", "a"], ["x"]), helper.make_node(second, ["x", "b"], ["scaled"])]
    crops = np.random.default_rng(0).integers(0, 256, (3, 112, 112, 3), dtype=np.uint8)
    found = []
    for inside in (False, True):
        head = [helper.make_node("Flatten", ["scaled" if inside else "input"], ["flat"]),
                helper.make_node("Slice", ["flat", "low", "high", "axis"], ["out"])]  # fmt: skip
        ends = [
            numpy_helper.from_array(np.array([value]), name) for name, value in (("low", 0), ("high", 512), ("axis", 1))
        ]
        pictures = helper.make_tensor_value_info("input", TensorProto.FLOAT, ["batch", 3, 112, 112])
        out = helper.make_tensor_value_info("out", TensorProto.FLOAT, ["batch", 512])
        graph = helper.make_graph([*(scaling if inside else []), *head], "g", [pictures], [out], [*constants, *ends])
        model = helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 17)])
        onnx.save_model(model, str(tmp_path / f"{inside}.onnx"))
        found.append(embed(open_session(tmp_path / f"{inside}.onnx", 1), crops, 2))
    np.testing.assert_allclose(found[0], found[1], atol=1e-5)
    assert np.abs(found[0]).max() > 0.9
