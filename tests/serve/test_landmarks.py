"""Landmarks of several faces: the group's own methods without Ray, on an untrained landmarker."""

import asyncio

import numpy as np
import pytest
import torch
import yaml

from models.errors import UserError
from models.landmarks.network import LandmarkerConfig, new_landmarker
from models.synthworld.render.render import render
from models.synthworld.sampling.domain import load_domain, sample_scene
from models.synthworld.sampling.splits import identities
from models.weights.bundle import Bundle, load_bundle
from models.weights.networks import save_network
from models.weights.store import ROOT, seal
from pipelines.config.generate import chain_for
from pipelines.config.job import load_job
from pipelines.pictures.codecs import encode_png_rgb
from pipelines.pictures.open import BadPicture
from serve.stage_deployment import StageDeployment


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """The starter with a landmarks part of 70 points."""
    folder, starter = tmp_path_factory.mktemp("bundle"), ROOT / "models" / "starter"
    torch.manual_seed(0)
    config = LandmarkerConfig(size=48, width=0.25, head=32, outputs="softplus")
    save_network(new_landmarker(config), folder / "landmarks" / "70" / "landmarker.safetensors")
    seal(folder / "landmarks")
    content = yaml.safe_load((starter / "bundle.yaml").read_text())
    for part in content["parts"].values():
        part["weights"] = str(starter / part["weights"])
    content["parts"]["landmarks"] = {"kind": "mobilenet", "weights": "landmarks", "licence": "apache-2.0", "batch": 4}
    (folder / "bundle.yaml").write_text(yaml.safe_dump(content))
    return load_bundle(str(folder / "bundle.yaml"))


def test_every_face_of_a_picture_gets_what_the_stage_of_a_job_says(bundle: Bundle) -> None:
    people = identities("test")[:2]
    scenes = [sample_scene(load_domain("portrait"), person, 0, "warm") for person in people]
    picture = np.concatenate(list(render(scenes, 128).rgb.numpy()), axis=1)
    chain = chain_for(load_job("demo"), bundle).part_of(["faces", "landmarks"])
    group = StageDeployment(chain, threads=1, most=4, wait=0.01, max_pixels=10**6)

    async def asked(points: int) -> list[dict]:
        photo = encode_png_rgb(picture)
        (found,) = await group.find([photo])
        (once,) = await group.landmarks([(photo, None)], points)
        (twice,) = await group.landmarks([(photo, found.value)], points)
        assert len(once.value) == len(twice.value) == len(found.value.scores)
        for one, other in zip(once.value, twice.value):
            np.testing.assert_array_equal(one[f"landmarks_{points}"], other[f"landmarks_{points}"])
        return once.value

    faces = asyncio.run(asked(70))
    assert len(faces) == 2
    for face in faces:
        batch = {
            "visible": picture[None],
            "thermal": np.full((1, 1, *picture.shape[:2]), 30_000, np.uint16),
            "classes": np.ones((1, *picture.shape[:2]), np.uint8),
            "bbox": face["bbox"][None],
        }
        expected = group.stages["landmarks"](batch, chain.link("landmarks").settings, 4)
        np.testing.assert_allclose(face["landmarks_70"], expected["landmarks_70"][0].ravel(), rtol=1e-5)
        np.testing.assert_allclose(face["variance_70_visible"], expected["variance_70_visible"][0], rtol=1e-5)
    with pytest.raises(UserError, match="no landmarker of 478 points; it has 70"):
        asyncio.run(asked(478))
    good, bad = asyncio.run(group.find([encode_png_rgb(picture), b"x"]))
    assert len(good.value.scores) == 2
    assert isinstance(bad, BadPicture) and "not a picture" in str(bad)
