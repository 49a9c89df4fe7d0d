"""The translator that comes with the repository: what it makes of a thermal face follows the face."""

import numpy as np
import pytest

from models.landmarks.stage import Stage as Landmarks
from models.stages import NoOptions
from models.synthworld.render.render import render
from models.synthworld.sampling.domain import load_domain, sample_scene
from models.temperature import fill, to_centikelvin
from models.translation.settings import Options, Settings
from models.translation.stage import Stage
from models.weights.bundle import load_bundle
from models.weights.store import ROOT

PEOPLE = range(200000, 200004)
"""Of the split `test`."""


@pytest.mark.slow
def test_the_face_is_where_the_thermal_one_is_and_who_it_is_told_changes_it() -> None:
    scenes = [sample_scene(load_domain("portrait"), person, 1, "warm") for person in PEOPLE]
    rendered = render(scenes, 128)
    thermal = np.stack([fill(one) for one in rendered.apparent.numpy()])
    stage = Stage(load_bundle("translator").fetch("translate"), Options())
    given = {"thermal": to_centikelvin(thermal)[:, None], "noise_id": np.array([f"row {k}" for k in range(4)], object)}
    made = stage(given, Settings(steps=4), 4)["translated"]
    # Landmarks of what was made, against the true ones: the pixels of a pair are the same.
    looker = Landmarks({"model": ROOT / "models" / "starter" / "landmarks"}, NoOptions())
    boxes = rendered.bbox.numpy()
    found = np.stack([faces[0].points for faces in looker.at_boxes(list(made), list(boxes[:, None]), 70, 4)])
    sides = np.sqrt((boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1]))
    off = np.linalg.norm(found - rendered.landmarks_70.numpy(), axis=2).mean(axis=1) / sides
    assert off.mean() < 0.1
    # Whom the thermal picture shows is told, and told another it is another picture.
    assert stage.parts.people is not None
    stage.parts = type(stage.parts)(**{**vars(stage.parts), "people": None})
    nobody = stage(given, Settings(steps=4), 4)["translated"]
    assert all((one != other).mean() > 0.2 for one, other in zip(made, nobody, strict=True))
