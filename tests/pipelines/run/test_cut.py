"""Faces cut out of pictures: which, how large, and what their rows say of where they come from."""

import json
import time
from pathlib import Path

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from pydantic import ValidationError

from models.errors import UserError
from models.synthworld.render.render import render
from models.synthworld.sampling.person import sample_person
from models.synthworld.sampling.scene import Scene, View
from models.weights.bundle import Bundle, load_bundle
from pipelines import inspect
from pipelines.config.thermalize import ThermalizeJob
from pipelines.pictures.codecs import decode
from pipelines.plan.thermalize import ThermalizePlan, write_thermalize_plan
from pipelines.run.cut import cut_square
from pipelines.storage.commits import read_commits
from pipelines.storage.uri import Storage
from tests.pipelines import small

SIZE = 64
NULL = ["parser.kind=null", "thermal.kind=null", "thermal.weights={}", "parser.weights={}"]


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two faces side by side, the right one nearer; one person turned by EXIF; the sky; a file that is no picture."""
    folder = tmp_path_factory.mktemp("photos")
    view = View(scale=0.62, hair_style="short")
    far = render([Scene(sample_person(3), view)], 96).rgb[0].numpy()
    near = cv2.resize(far[:, ::-1], (128, 128))
    group = np.full((160, 320, 3), 120, np.uint8)
    group[40:136, 20:116], group[16:144, 170:298] = far, near
    Image.fromarray(group).save(folder / "group.png")
    exif = Image.Exif()
    exif[0x0112] = 6  # stored lying on its side
    Image.fromarray(np.rot90(near)).save(folder / "phone.jpg", exif=exif, quality=95)
    Image.new("RGB", (200, 150), (90, 120, 200)).save(folder / "sky.png")
    (folder / "torn.png").write_bytes(b"\x89PNG\r\n")
    return folder


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    """The starter's face pack; stages after it are instant."""
    return load_bundle("starter", NULL)


def planned(photos: Path, bundle: Bundle, out: Path, **values: object) -> ThermalizePlan:
    job = ThermalizeJob.model_validate({"images": str(photos), "size": SIZE, "faces": 4, **values})
    return write_thermalize_plan(job, bundle, Storage(out))


def rows_of(plan: ThermalizePlan, folder: str) -> list[dict]:
    records = read_commits(plan.out).values()
    names = [name for record in records for name in record.files() if name.startswith(folder)]
    return [row for name in names for row in pq.read_table(plan.out.path(name)).to_pylist()]


def test_every_face_of_a_picture_is_a_row_that_says_where_it_was(
    photos: Path, bundle: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plan = planned(photos, bundle, tmp_path / "out", conditions=["warm"])
    small.write_missing(plan, small.chain_of(plan))
    rows = {row["name"]: row for row in rows_of(plan, "data")}
    assert sorted(rows) == ["group-face0", "group-face1", "phone-face0"]
    near, far = rows["group-face0"], rows["group-face1"]
    assert [row["identity_id"] for row in (near, far)] == ["group.png#face0", "group.png#face1"]
    # The largest comes first, and its box in the group is about its face.
    places = [json.loads(row["provenance"]) for row in (near, far)]
    assert {place["parent_id"] for place in places} == {near["sample_id"].partition("-")[0]}
    for place, (x, y) in zip(places, ((234, 80), (68, 88)), strict=True):
        x0, y0, x1, y1 = place["source_box"]
        assert x1 - x0 == y1 - y0 and abs((x0 + x1) / 2 - x) < 15 and abs((y0 + y1) / 2 - y) < 15
    # The pixels are those of the picture, black beyond it, and the box is the face's in them.
    x0, y0, x1, y1 = (int(edge) + 200 for edge in places[1]["source_box"])
    group = np.pad(np.asarray(Image.open(photos / "group.png")), ((200, 200), (200, 200), (0, 0)))
    wanted = cv2.resize(group[y0:y1, x0:x1], (SIZE, SIZE), interpolation=cv2.INTER_AREA)
    assert np.abs(decode(far["visible"]["bytes"]).astype(int) - wanted).mean() < 3
    assert np.allclose(np.array(far["bbox"])[:2] + far["bbox"][2:], SIZE, atol=2)
    assert np.isclose(max(far["bbox"][2] - far["bbox"][0], far["bbox"][3] - far["bbox"][1]), SIZE / 2, atol=1)
    # To cut is of the first stage's time.
    chain = small.chain_of(plan)
    cutter = chain.cutter
    chain.cutter = lambda block: (time.sleep(0.1), cutter(block))[1]  # type: ignore[assignment, misc, func-returns-value]
    assert chain(plan.partition(0))["seconds"].sum(axis=0)[0] > 0.1
    refused = {row["identity_id"]: row["reject"] for row in rows_of(plan, "rejects")}
    assert refused["sky.png"].startswith("no face") and refused["torn.png"].startswith("not a picture")
    assert read_commits(plan.out)[0].facts["items"] == 4
    # Any row can be made again by its id alone.
    again = inspect.run(str(tmp_path / "out"), far["pair_id"])
    assert again is not None and again.thermal == again.visible == 0
    capsys.readouterr()


def test_fewer_faces_are_the_largest(photos: Path, bundle: Bundle, tmp_path: Path) -> None:
    plan = planned(photos, bundle, tmp_path / "out", faces=1, person="pattern:(.)", margin=0.25)
    columns = small.chain_of(plan).cut(plan.partition(0))
    assert [name for name in columns["name"] if name.startswith("group")] == ["group-face0"]
    assert columns["identity_id"][0] == "g"
    sides = (columns["bbox"][0].reshape(2, 2)[1] - columns["bbox"][0].reshape(2, 2)[0]).max()
    assert np.isclose(sides, SIZE / 1.5, atol=1)


def test_what_lies_beyond_the_picture_is_black_and_no_content() -> None:
    picture = np.full((60, 80, 3), 200, np.uint8)
    square, box, source = cut_square(picture, np.array([60.0, 10.0, 80.0, 30.0]), 0.5, 40)
    assert source.tolist() == [50, 0, 90, 40] and box == (0, 0, 30, 40)
    assert (square[:, :30] == 200).all() and (square[:, 30:] == 0).all()
    square, box, source = cut_square(picture, np.array([-4.0, -4.0, 6.0, 6.0]), 0.0, 20)
    assert source.tolist() == [-4, -4, 6, 6] and box == (8, 8, 20, 20)
    assert (square[9:, 9:] == 200).all() and not square[:7].any() and not square[:, :7].any()


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"masks": "masks"}, "without masks"),
        ({"layout": "tfake"}, "--layout record"),
        ({"person": "folder:1"}, "--faces 1 alone"),
    ],
)
def test_what_does_not_go_with_faces_is_refused(values: dict[str, str], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        ThermalizeJob(images="x", size=SIZE, faces=2, **values)


def test_several_faces_of_a_person_are_refused(bundle: Bundle, tmp_path: Path) -> None:
    """A Parquet says who is shown by its own column."""
    (tmp_path / "in").mkdir()
    table = pa.table({"visible": [b"x"], "identity_id": ["someone"]})
    pq.write_table(table, tmp_path / "in" / "faces.parquet")
    with pytest.raises(UserError, match="use --faces 1"):
        planned(tmp_path / "in", bundle, tmp_path / "out")


def test_pictures_of_nobody_are_rejected_where_people_are_said(photos: Path, bundle: Bundle, tmp_path: Path) -> None:
    plan = planned(photos, bundle, tmp_path / "out", faces=1, person="pattern:(group)")
    columns = small.chain_of(plan).cut(plan.partition(0))
    reasons = dict(zip(columns["name"], columns["reject"], strict=True))
    assert reasons["group-face0"] == "" and reasons["phone"].startswith("no person")
