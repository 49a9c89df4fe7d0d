"""`/v1/pairs` of a bundle that draws by FaceCLIP: after a crop or a picture, and what a bad one is told."""

import base64

import numpy as np
import pytest
import yaml
from fastapi.testclient import TestClient

from models.weights.store import ROOT, seal
from pipelines.pictures.codecs import encode_png_rgb
from pipelines.plan.people.identities import unit
from serve.app import Settings
from tests.models.visible.faceclip.test_stage import write_part
from tests.serve.conftest import FAST, SHARED, TWO_GROUPS
from tests.serve.local import ask_here, local_service, problem

CROP = np.random.default_rng(0).integers(0, 255, (448, 448, 3), np.uint8)
ASKED = {**FAST, "embedding": unit(np.random.default_rng(1).standard_normal(512)).tolist()}


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> TestClient:
    """The null service with a FaceCLIP of random weights and the starter's pack to find faces."""
    folder = tmp_path_factory.mktemp("bundle")
    write_part(folder / "drawn")
    seal(folder / "drawn")
    weights = {"model": str(folder / "drawn"), "faces": str(ROOT / "models/starter/faces")}
    visible = {"kind": "faceclip-sdxl", "weights": weights, "licence": "none", "settings": {"steps": 1}}
    parts = {"captions": {"kind": "template"}, "visible": visible}
    parts |= {name: {"kind": "null"} for name in ("parser", "thermal", "faces", "landmarks")}
    (folder / "bundle.yaml").write_text(yaml.safe_dump({"name": "tiny", "size": 32, "parts": parts}))
    return ask_here(local_service(Settings(bundle=str(folder / "bundle.yaml"), overrides=[*SHARED, TWO_GROUPS])))


def encode(picture: np.ndarray) -> str:
    return base64.b64encode(encode_png_rgb(picture)).decode()


@pytest.mark.slow
def test_a_crop_is_drawn_after_and_a_bad_picture_is_told_from_a_bad_draw(client: TestClient) -> None:
    png = {"Accept": "image/png"}
    first, again, other, nobody = (
        client.post("/v1/pairs", json={**ASKED, **shown}, headers=png)
        for shown in ({"crop": encode(CROP)}, {"crop": encode(CROP)}, {"crop": encode(255 - CROP)}, {})
    )
    assert first.status_code == 200 and first.content == again.content
    assert len({first.content, other.content, nobody.content}) == 3
    # Pictures that no draw would help.
    grey = np.repeat(CROP[..., :1], 3, axis=-1)
    for name, picture, words in (
        ("crop", grey, "crop: a picture in grey, sepia or a palette"),
        ("crop", CROP[:112, :112], "crop: 112 x 112 pixels, and an aligned crop has 448 x 448"),
        ("reference", CROP, "reference: no face was found"),
    ):
        asked = {**ASKED, name: encode(picture)}
        found = problem(client.post("/v1/pairs", json=asked, headers=png), 422, "bad-picture")
        assert found.detail.startswith(words)
        assert found.way_out == f"Send another picture as {name}, or none; another seed changes nothing."
        (row,) = client.post("/v1/pairs", json=asked).json()["rejects"]
        assert row["reject"].startswith(words)
    # Draws that no picture is to blame for.
    strict = {**ASKED, "crop": encode(CROP), "gates": {"celsius": [80, 81]}}
    assert "another seed, more" in problem(client.post("/v1/pairs", json=strict, headers=png), 422, "rejected").way_out
