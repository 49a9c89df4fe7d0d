"""The thermal latent diffusion that comes with the repository, on people whom nobody was trained on."""

import numpy as np
import pytest

from models.classes import BACKGROUND
from models.layers import Layer
from models.synthworld.render.render import render
from models.synthworld.sampling.domain import load_domain, sample_scene
from models.temperature import from_centikelvin
from models.thermal.latent.settings import Options, Settings
from models.thermal.latent.stage import Stage
from models.weights.store import ROOT, verify

PEOPLE = range(200000, 200006)
"""Of the split `test`."""
FOLDER = ROOT / "models" / "starter-thermal-ldm"


@pytest.mark.slow
def test_a_mean_of_draws_is_nearer_than_a_draw_and_rooms_are_what_they_are_told() -> None:
    verify(FOLDER)
    made = render([sample_scene(load_domain("portrait"), person, 0, "warm") for person in PEOPLE], 128)
    classes = made.classes.numpy().astype(np.uint8)
    rows = {
        "visible": made.rgb.numpy(),
        "classes": classes,
        "noise_id": np.array([f"row {person}" for person in PEOPLE], object),
    }
    draws = [Layer("warm", draw) for draw in range(4)]
    layers = (*draws, Layer("-5"), Layer("35"))
    found = from_centikelvin(Stage({"model": FOLDER}, Options())(rows, Settings(layers=layers), 6)["thermal"])
    truth, shown = made.apparent.numpy(), classes != BACKGROUND

    def error(celsius: np.ndarray) -> float:
        return float(np.abs(celsius - truth)[shown].mean())

    # Draws differ, and err more than their mean; a constant of all skin and cloth errs by some 4 K.
    single, mean = [error(found[:, k]) for k in range(4)], error(found[:, :4].mean(axis=1))
    assert found[:, :4].std(axis=1)[shown].mean() > 0.3
    assert mean < min(single) and mean < 1.6
    cold, warm, hot = (found[:, k][shown].mean() for k in (4, 0, 5))
    assert cold + 3 < warm < hot - 1
