"""The small FaceCLIP that comes with the repository: what it draws follows the face that it is shown, and what is said."""

import numpy as np
import pytest

from models.evaluation.judges import load_judges
from models.evaluation.lapig.people import space_of
from models.evaluation.lapig.read import Readers, look_at
from models.synthworld.render.render import render
from models.synthworld.sampling.domain import load_domain, sample_scene
from models.visible.faceclip.settings import Options, Settings
from models.visible.faceclip.stage import Stage
from models.weights.bundle import load_bundle
from models.weights.store import ROOT
from pipelines.config.chain import faces_link

PEOPLE = range(200000, 200008)
"""Of the split `test`."""
FACE, SHIRT = np.s_[:, 44:76, 48:80], np.s_[:, 118:, 48:80]


def render_known() -> np.ndarray:
    """A picture of each person, uint8 [8, 128, 128, 3]."""
    return render([sample_scene(load_domain("portrait"), person, 0, "warm") for person in PEOPLE], 128).rgb.numpy()


@pytest.mark.slow
def test_skin_is_that_of_the_person_and_clothes_are_as_said() -> None:
    known = render_known()
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


@pytest.mark.slow
def test_guidance_makes_pictures_more_like_the_person_by_a_judge_that_has_no_part_in_it() -> None:
    known, bundle = render_known(), load_bundle("faceclip")
    stage = Stage(bundle.fetch("visible"), Options())
    readers = Readers(
        load_judges(ROOT / "models" / "starter-judge"), space_of("models/starter-judge"), faces_link(bundle).load(1)
    )
    columns = {"caption": ["a frontal portrait of a person"] * len(known), "noise_id": ["one noise"] * len(known)}
    rows = {name: np.array(values, object) for name, values in columns.items()} | {"reference": known}

    def seen(guidance: float, chosen: slice = np.s_[:]) -> tuple[np.ndarray, np.ndarray]:
        settings = Settings(
            steps=8, guidance=2.0, identity_guidance=guidance, identity_moves=1, identity_interval=(0.5, 1)
        )
        pictures = stage({name: values[chosen] for name, values in rows.items()}, settings, 8)["visible"]
        return pictures, look_at(readers, pictures).judge

    target = look_at(readers, known).judge
    (plain, of_plain), (_, of_guided) = seen(0.0), seen(0.02)
    assert ((of_guided - of_plain) * target).sum(axis=1).mean() > 0.05
    # Nobody who is shown nobody is moved.
    rows["reference"] = np.concatenate([known[:4], np.zeros_like(known[4:])])
    moved, still = seen(0.02)[0], seen(0.0)[0]
    assert [np.array_equal(*pair) for pair in zip(moved, still, strict=True)] == [False] * 4 + [True] * 4
    assert np.array_equal(still[:4], plain[:4])
