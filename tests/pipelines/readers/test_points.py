"""Files of landmarks as tools and people write them: the same points come out of each."""

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from models.landmarks.exports import coco, pts_text, yolo_face
from pipelines.pictures.open import BadPicture
from pipelines.readers.points import IN_54, read_points
from tests.pipelines.readers.layouts import SIZE, plain, read_rows

POINTS = (np.random.default_rng(3).random((70, 2)) * 50 + 5).round(3).astype(np.float32)


def lines(points: np.ndarray, between: str = " ", end: str = "\n") -> str:
    return "".join(f"{x:.3f}{between}{y:.3f}{end}" for x, y in points)


SPELLINGS = {
    "plain": lines(POINTS).encode(),
    "byte-order mark": b"\xef\xbb\xbf" + lines(POINTS).encode(),
    "UTF-16": lines(POINTS).encode("utf-16"),
    "commas": lines(POINTS, ",").encode(),
    "semicolons": lines(POINTS, ";").encode(),
    "decimal commas": lines(POINTS, ";").replace(".", ",").encode(),
    "tabs and CRLF": lines(POINTS, "\t", "\r\n").encode(),
    "header": ("x y\n" + lines(POINTS)).encode(),
    "comments": ("# x y\n" + lines(POINTS)).encode(),
    ".pts by another name": pts_text(POINTS).encode(),
}


def labelme(points: np.ndarray, named: bool = True, **shape: Any) -> bytes:
    """Return a document of labelme, the points in another order than that of their labels where these are numbers."""
    order = np.random.default_rng(0).permutation(len(points)) if named else range(len(points))
    shapes = [
        {"label": str(k) if named else "face", "points": [points[k].tolist()], "shape_type": "point", **shape}
        for k in order
    ]
    box = {"label": "face", "points": [[0, 0], [60, 60]], "shape_type": "rectangle", **shape}
    return json.dumps({"version": "5.4.1", "shapes": [box, *shapes], "imagePath": "a.png", "imageData": None}).encode()


def test_labelmes_points_are_read_in_the_order_of_their_labels() -> None:
    for content in (labelme(POINTS), labelme(POINTS, named=False), labelme(POINTS, group_id=1)):
        np.testing.assert_allclose(read_points(content, "a.json", 70), POINTS, atol=1e-3)
    whole = {"shapes": [{"label": "face", "points": POINTS.tolist(), "shape_type": "linestrip"}]}
    np.testing.assert_allclose(read_points(json.dumps(whole).encode(), "a.json", 70), POINTS, atol=1e-3)
    two = json.loads(labelme(POINTS))
    two["shapes"] += json.loads(labelme(POINTS, group_id=2))["shapes"]
    double = json.loads(labelme(POINTS))
    double["shapes"].append({**double["shapes"][-1]})
    for content, message in (
        (json.dumps(two).encode(), "holds 2 faces"),
        (json.dumps(double).encode(), "two points have one label"),
        (labelme(POINTS[:9]), "9 points where 70"),
        (b'{"shapes": []}', "no face"),
        (b'{"shapes": [{"points": 3}]}', "cannot be read"),
    ):
        with pytest.raises(BadPicture, match=message):
            read_points(content, "a.json", 70)


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_points_are_the_same_however_they_are_spelt(spelling: str) -> None:
    np.testing.assert_allclose(read_points(SPELLINGS[spelling], "a.txt", 70), POINTS, atol=1e-3)


def test_yolo_lines_are_shares_of_the_picture() -> None:
    text = yolo_face(POINTS, 64, 128).encode()
    np.testing.assert_allclose(read_points(text, "a.txt", 70, size=(64, 128)), POINTS, atol=1e-3)
    bare = " ".join(text.decode().split()[:5] + [word for k, word in enumerate(text.decode().split()[5:]) if k % 3 < 2])
    np.testing.assert_allclose(read_points(bare.encode(), "a.txt", 70, size=(64, 128)), POINTS, atol=1e-3)
    hidden = yolo_face(POINTS, 64, 128).split()
    hidden[5 + 3 * 4 + 2] = "0"
    found = read_points(" ".join(hidden).encode(), "a.txt", 70, size=(64, 128))
    assert np.isnan(found[4]).all() and np.isfinite(np.delete(found, 4, axis=0)).all()
    for content, words in ((text + b"\n" + text, "2 faces"), (b"", "no face"), (b"0 .5 .5 .1 .1\n", "holds no points")):
        with pytest.raises(BadPicture, match=words):
            read_points(content, "a.txt", 70, size=(64, 128))


def document(**faces: list[np.ndarray]) -> dict[str, Any]:
    pictures = [
        {"file": name.replace("__", "/") + ".png", "width": SIZE, "height": SIZE, "faces": [{"points": p} for p in own]}
        for name, own in faces.items()
    ]
    return coco(pictures)


def test_coco_entries_are_found_by_their_picture() -> None:
    both = json.dumps(document(s1__a=[POINTS], s2__a=[POINTS + 1], b=[])).encode()
    np.testing.assert_allclose(read_points(both, "landmarks.json", 70, picture="s2/a.png"), POINTS + 1, atol=1e-3)
    np.testing.assert_allclose(read_points(both, "landmarks.json", 70, picture="x/s1/a.png"), POINTS, atol=1e-3)
    for picture in ("b.png", "c.png"):
        with pytest.raises(BadPicture, match="no face"):
            read_points(both, "landmarks.json", 70, picture=picture)
    unlabelled = document(a=[POINTS])
    unlabelled["annotations"][0]["keypoints"][2] = 0
    found = read_points(json.dumps(unlabelled).encode(), "a.json", 70, picture="any.png")
    assert np.isnan(found[0]).all() and np.isfinite(found[1:]).all()
    for broken in ("[]", '{"images": 3}', '{"images": [{"id": 1}], "annotations": []}', '{"a":' * 5000):
        with pytest.raises(BadPicture, match="cannot be read|no face"):
            read_points(broken.encode(), "a.json", 70)


def test_54_points_lie_where_the_70_have_them() -> None:
    """SF-TL54's figure of its points, and the first of the 70 where a file ends early."""
    face = np.full((70, 2), 30.0, np.float32)
    face[:48] = POINTS[:48]
    # A mouth: the upper lip from corner to corner, the lower one back, then the inner ones.
    angle = np.pi + np.arange(12) * np.pi / 6
    face[48:60] = np.stack([40 + 10 * np.cos(angle), 50 + 4 * np.sin(angle)], 1)
    face[62], face[66] = (40, 49), (40, 51)
    found = read_points(lines(face[list(IN_54)]).encode(), "a.txt", 68, 70)
    np.testing.assert_allclose(found[list(IN_54)], face[list(IN_54)], atol=1e-3)
    assert np.isnan(np.delete(found, IN_54, axis=0)).all()
    found = read_points(lines(face[:54]).encode(), "a.txt", 68, 70)
    np.testing.assert_allclose(found[:54], face[:54], atol=1e-3)
    assert np.isnan(found[54:]).all()
    with pytest.raises(BadPicture, match="54 points where 5 are needed"):
        read_points(lines(face[:54]).encode(), "a.txt", 5)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "holds no face"),
        (lines(POINTS[:67]).encode(), "67 points where 70 are needed"),
        (lines(POINTS).replace(f"{POINTS[3, 0]:.3f}", "nan", 1).encode(), "point 3 is not a number"),
        (b"1 2 3\n" * 70, "must hold two numbers a line"),
        (b"\xff\xfe\xff", "cannot be read"),
    ],
)
def test_what_is_wrong_with_a_file_of_points_is_said(content: bytes, words: str) -> None:
    with pytest.raises(BadPicture, match=words):
        read_points(content, "a.txt", 70, size=(64, 64))


def test_rows_take_what_landmarks_find_wrote(tmp_path: Path) -> None:
    """Files beside the pictures, one a picture or one of all; an extension may be in capitals."""
    for name in ("a", "b"):
        cv2.imwrite(str(tmp_path / f"{name}.png"), np.zeros((SIZE, 2 * SIZE, 3), np.uint8))
    (tmp_path / "b.png").rename(tmp_path / "b.PNG")
    for name, off in (("a", 0), ("b", 2)):
        (tmp_path / f"{name}.txt").write_text(yolo_face(POINTS + off, 2 * SIZE, SIZE))
    written = document(a=[POINTS], b=[POINTS + 2])
    written["images"][1]["file_name"] = "b.PNG"
    (tmp_path / "landmarks.json").write_text(json.dumps(written))
    for landmarks in ("NAME.txt", "landmarks.json"):
        found, reasons = read_rows(plain(tmp_path, visible="NAME.png", landmarks=landmarks))
        assert not reasons and [row["name"] for row in found] == ["a", "b"]
        for row, off in zip(found, (0, 2), strict=True):
            np.testing.assert_allclose(row["landmarks_70"], (POINTS + off) / 2 + (0, SIZE / 4), atol=0.01)
