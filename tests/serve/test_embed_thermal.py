"""`/v1/embed` of thermal pictures: what the command says of the same files, and what a bundle without a recogniser says."""

import base64
from pathlib import Path

import numpy as np
import pytest
from fastapi.testclient import TestClient

from models.landmarks.intensity import show_thermal
from models.temperature import from_centikelvin
from models.weights.bundle import load_bundle
from models.weights.store import ROOT
from pipelines import embed
from pipelines.config.world import WorldJob
from pipelines.pictures.codecs import decode, encode_png
from pipelines.plan.embed import EmbedJob, write_embed_plan
from pipelines.storage.uri import Storage
from pipelines.world import Renderer
from serve.http.requests import EmbedRequest
from tests.serve.conftest import NULL
from tests.serve.local import ask_here, local_service, problem

STARTER = ROOT / "models" / "starter"
FACES = f"{{kind: insightface, weights: {{model: {STARTER}/faces, thermal: {STARTER}/faces}}, licence: apache-2.0}}"
LANDMARKS = f"{{kind: mobilenet, weights: {STARTER}/landmarks, licence: apache-2.0}}"
PARTS = [f"bundle.parts.faces={FACES}", f"bundle.parts.landmarks={LANDMARKS}"]


def encode(content: bytes) -> str:
    return base64.b64encode(content).decode()


def test_a_bundle_without_a_recogniser_for_thermal_faces_says_so() -> None:
    client = ask_here(local_service(NULL))
    picture = encode(encode_png(np.full((40, 30), 30_500, np.uint16)))
    answer = client.post("/v1/embed", json={"pictures": [picture], "modality": "thermal"})
    assert "has no recogniser for thermal faces" in problem(answer, 501, "not-in-bundle").detail
    answer = client.post("/v1/embed", json={"pictures": [picture], "unit": "kelvin"})
    assert "unit: is of thermal pictures" in problem(answer, 422, "invalid").detail
    schema = client.get("/openapi.json").json()["components"]["schemas"]["EmbedRequest"]
    assert schema["properties"]["modality"]["enum"] == ["visible"]


@pytest.fixture(scope="module")
def client() -> TestClient:
    """The null service with the starter's faces and landmarks."""
    return ask_here(local_service(NULL.model_copy(update={"overrides": [*NULL.overrides, *PARTS]})))


@pytest.mark.slow
def test_thermal_faces_are_embedded_as_the_command_embeds_them(client: TestClient, tmp_path: Path) -> None:
    job = WorldJob(domain="portrait", split="test", count=1, size=128, views=1)
    row = Renderer(job, [0], threads=1)({"id": np.array([0])})
    warm, photo = (row.column(name)[0].as_py()["bytes"] for name in ("thermal", "visible"))
    wall = encode_png(np.full((128, 128), 29_500, np.uint16))
    files = {
        "grey.png": encode_png(show_thermal(from_centikelvin(decode(warm)))[..., 0]),
        "wall.png": wall,
        "warm.png": warm,
    }
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    # The command on the same files.
    bundle = load_bundle("starter", [f"faces.weights.thermal={STARTER}/faces"])
    given = EmbedJob(images=str(tmp_path), modality="thermal", unit="centikelvin")
    plan = write_embed_plan(given, bundle, Storage(tmp_path / "out.run"))
    told = embed.PhotoEmbedder(plan, [0], threads=1).table(list(files)).to_pylist()
    # The service.
    body = {"pictures": [encode(content) for content in files.values()], "modality": "thermal", "unit": "centikelvin"}
    found = client.post("/v1/embed", json=body).json()["embeddings"]
    assert [row["reason"] for row in found] == [row["reason"] for row in told]
    for one, other in zip(found, told, strict=True):
        if not one["reason"]:
            assert np.allclose(one["embedding"], other["embedding"], atol=1e-5)
            assert np.allclose(one["keypoints"], other["keypoints"], atol=1e-3)
    assert [bool(row["reason"]) for row in found] == [False, True, False]
    # As a form, as NPY; and a visible picture is embedded by the other recogniser, found by the other detector.
    form = {"picture": ("warm.png", warm), "request": (None, '{"modality": "thermal", "unit": "centikelvin"}')}
    npy = client.post("/v1/embed", files=form, headers={"accept": "application/x-npy"})
    assert npy.status_code == 200 and len(npy.content) > 2048
    assert client.post("/v1/embed", json={"pictures": [encode(photo)]}).json()["embeddings"][0]["reason"] == ""
    # Colours are no thermal picture, and a page too many is none.
    answer = client.post("/v1/embed", json={"pictures": [encode(photo)], "modality": "thermal"})
    assert "a palette cannot be undone" in problem(answer, 422, "bad-picture").detail


def test_a_unit_is_of_thermal_pictures() -> None:
    assert EmbedRequest(pictures=["a"], modality="thermal", unit="kelvin").unit == "kelvin"
    with pytest.raises(ValueError, match='add "modality": "thermal"'):
        EmbedRequest(pictures=["a"], unit="kelvin")
