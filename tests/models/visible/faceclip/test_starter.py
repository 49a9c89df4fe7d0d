"""The small FaceCLIP that comes with the repository: what it draws follows the face that it is shown, and what is said."""

import numpy as np
import pytest

from models.synthworld.render.render import render
from models.synthworld.sampling.domain import load_domain, sample_scene
from models.visible.faceclip.settings import Options, Settings
from models.visible.faceclip.stage import Stage
from models.weights.bundle import load_bundle

PEOPLE = range(200000, 200008)
"""Of the split `test`."""
FACE, SHIRT = np.s_[:, 44:76, 48:80], np.s_[:, 118:, 48:80]


@pytest.mark.slow
def test_skin_is_that_of_the_person_and_clothes_are_as_said() -> None:
    rendered = render([sample_scene(load_domain("portrait"), person, 0, "warm") for person in PEOPLE], 128)
    known = rendered.rgb.numpy()
    stage = Stage(load_bundle("faceclip").fetch("visible"), Options())

    def draw(colour: str) -> np.ndarray:
        text = f"a frontal portrait of a person in {colour} clothes"
        columns = {"caption": [text] * len(known), "noise_id": ["one noise"] * len(known)}
        rows = {name: np.array(values, object) for name, values in columns.items()} | {"reference": known}
        return stage(rows, Settings(steps=10, guidance=2.0), 8)["visible"].astype(float)

    red, blue = draw("red"), draw("blue")
    # Words and noise are the same for all: what differs is the face that is shown.
    tones = [pictures[FACE].mean(axis=(1, 2, 3)) for pictures in (known.astype(float), red, blue)]
    assert (np.corrcoef(tones)[0, 1:] > 0.4).all()
    reddest = [(pictures[SHIRT][..., 0] - pictures[SHIRT][..., 2]).mean() for pictures in (red, blue)]
    assert reddest[0] > reddest[1] + 80
