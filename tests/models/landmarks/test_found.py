"""Rows that give no points get those that the landmarker finds; those that give some keep them."""

import numpy as np
import pytest

from models.faces.align import five_points
from models.landmarks.found import can_align, fill_points
from models.synthworld.render.render import render
from models.synthworld.sampling.domain import load_domain, sample_scene
from models.synthworld.sampling.splits import identities
from models.weights.store import ROOT


@pytest.mark.slow
def test_a_face_is_found_where_a_row_says_nothing() -> None:
    made = render([sample_scene(load_domain("portrait"), person, 0, "warm") for person in identities("test")[:2]], 128)
    pictures, truth = made.rgb.numpy(), made.landmarks_70.numpy()
    wall = np.full_like(pictures[:1], 90)
    rows = {
        "visible": np.concatenate([pictures, wall]),
        "landmarks_70": np.concatenate([truth[:1] + 1, np.full((2, 70, 2), np.nan)]).astype(np.float32),
    }
    found = fill_points(rows, ROOT / "models" / "starter" / "landmarks")
    assert np.array_equal(found[0], rows["landmarks_70"][0]), "what is given stays"
    assert np.linalg.norm(found[1] - truth[1], axis=1).mean() < 6
    assert can_align(five_points(found)).tolist() == [True, True, False]
