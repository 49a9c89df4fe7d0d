"""How like a person a picture is: of which crops, and where they lie."""

import cv2
import numpy as np
import pytest
import torch

from models.faces.align import CROP, TEMPLATE, align, fit_similarities
from models.faces.metrics import unit_vectors
from models.faces.pack import embed, open_sessions
from models.visible.autoencoder import decode, new_vae
from models.visible.likeness import CROPS, likeness, likeness_where_found, open_recogniser, turn
from models.weights.store import ROOT

FACES = ROOT / "models" / "starter" / "faces"


def test_crops_are_turned_about_their_middle() -> None:
    """As OpenCV turns about a point, which counts clockwise as negative."""
    matrices = fit_similarities(TEMPLATE[None] * 1.5 + 7)
    for found, (degrees, scale, shift, _) in zip(turn(matrices), CROPS, strict=True):
        about = np.vstack([cv2.getRotationMatrix2D((CROP / 2, CROP / 2), -degrees, scale), [0, 0, 1]])
        wanted = (about @ np.vstack([matrices[0], [0, 0, 1]]))[:2]
        wanted[:, 2] += shift
        assert found[0] == pytest.approx(wanted, abs=1e-9)


def test_likeness_is_the_mean_of_the_crops_by_onnxruntime() -> None:
    torch.manual_seed(0)
    vae, latents = new_vae(8, (1, 1, 1, 1)), torch.randn(2, 12, 16, 16)
    points = np.stack([TEMPLATE, TEMPLATE * 0.9 + 5])
    points[1, 0, 0] = np.nan  # nobody knows where that face is
    who = torch.nn.functional.normalize(torch.randn(2, 512), dim=1)
    who[1] = 0
    with torch.no_grad():
        found = likeness(vae, open_recogniser(FACES), who, points)(latents)
        pictures = decode(vae, latents).numpy()
    # The first two crops are as insightface aligns them.
    session = open_sessions(FACES, threads=1)[1]
    crop = align(pictures[:1], points[:1])
    sides = [
        unit_vectors(embed(session, np.ascontiguousarray(one), 1)) @ who[0].numpy() for one in (crop, crop[:, :, ::-1])
    ]
    moved = [cv2.warpAffine(pictures[0], matrix[0], (CROP, CROP)) for matrix in turn(fit_similarities(points[:1]))[2:]]
    moved[1] = np.ascontiguousarray(moved[1][:, ::-1])
    sides += [unit_vectors(embed(session, one[None], 1)) @ who[0].numpy() for one in moved]
    assert found[0].item() == pytest.approx(float(np.mean(sides)), abs=0.01)
    assert found[1] == 0


def test_faces_are_looked_for_until_they_are_found() -> None:
    torch.manual_seed(0)
    vae, latents = new_vae(8, (1, 1, 1, 1)), torch.randn(3, 12, 16, 16)
    who = torch.nn.functional.normalize(torch.randn(3, 512), dim=1)
    who[2] = 0  # of nobody nothing is looked for
    there, asked = np.stack([TEMPLATE] * 3).astype(np.float32), []

    def find(pictures: np.ndarray) -> np.ndarray:
        """The second face is seen at the second look alone, the first somewhere else by then."""
        asked.append(pictures)
        points = there.copy()
        points[len(asked) % 2] += np.nan if len(asked) == 1 else 20
        return points

    recogniser = open_recogniser(FACES)
    goal = likeness_where_found(vae, recogniser, who, find)
    with torch.no_grad():
        wanted = likeness(vae, recogniser, who, there)(latents)
        first, second, third = (goal(latents) for _ in range(3))
    assert len(asked) == 2 and np.array_equal(asked[0], decode(vae, latents).numpy())
    assert first.tolist() == [wanted[0].item(), 0, 0]
    assert torch.equal(second, wanted) and torch.equal(third, wanted)
    # Its gradient moves those alone who were found.
    for seen in (False, True):
        asked.clear()
        goal = likeness_where_found(vae, recogniser, who, (lambda _: there) if seen else find)
        (slope,) = torch.autograd.grad(goal(latents.requires_grad_(True)).sum(), latents)
        assert slope.flatten(1).any(dim=1).tolist() == [True, seen, False]
