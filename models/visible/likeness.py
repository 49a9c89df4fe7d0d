"""How like a person the picture of latents is, by a recogniser and with its gradient: what identity guidance climbs."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from models.diffusion.steering import Goal
from models.errors import EnvironmentFault
from models.faces.align import CROP, TEMPLATE, fit_similarities
from models.faces.gradient.differentiable import DifferentiableRecogniser, align_pictures
from models.faces.pack import Pack, recogniser_file
from models.faces.settings import Options as FacesOptions
from models.landmarks.found import can_align
from models.visible.autoencoder import Vae, decode, decode_range

Find = Callable[[np.ndarray], np.ndarray]
"""Pictures uint8 [B, S, S, 3] -> the points of the face in each, float32 [B, 5, 2] px, NaN where there is none."""
MIDDLE = np.array([CROP / 2, CROP / 2])
CROPS = (
    (0.0, 1.0, (0.0, 0.0), False),
    (0.0, 1.0, (0.0, 0.0), True),
    (4.5, 0.94, (3.0, -2.0), False),
    (-4.5, 1.06, (-3.0, 2.0), True),
)
"""Degrees, scale, shift in px, mirrored: how a face is cropped for its likeness. What all crops say is rather in the face than a
pattern that misleads the recogniser in one of them."""


def open_recogniser(folder: Path) -> DifferentiableRecogniser:
    """Return the recogniser of visible faces in `folder`, an insightface pack. Raises EnvironmentFault where there is none."""
    path = recogniser_file(folder)
    if path is None:
        raise EnvironmentFault(f"{folder} holds no recogniser: an ONNX file that takes aligned crops of visible faces.")
    return DifferentiableRecogniser(path)


def likeness(vae: Vae, recogniser: DifferentiableRecogniser, who: Tensor, points: np.ndarray) -> Goal:
    """Return how like the people `who` [B, 512] the pictures of latents are: the mean cosine, by a recogniser, of several aligned
    crops and of mirrored ones (`CROPS`); 0 where `who` is zero.

    points: where their faces are, [B, 5, 2] px; a face that has none is looked for where a crop's template is.
    """
    # Where each crop is cut does not change from step to step.
    usual = np.where(can_align(points)[:, None, None], points, TEMPLATE)
    matrices = torch.from_numpy(turn(fit_similarities(usual)).astype(np.float32)).to(who.device)

    def goal(latents: Tensor) -> Tensor:
        # All crops in one pass of the recogniser, half of them as in a mirror.
        pictures = (decode_range(vae, latents) + 1) * 127.5
        crops = [align_pictures(pictures, one) for one in matrices]
        crops = [crop.flip(-1) if mirrored else crop for crop, (*_, mirrored) in zip(crops, CROPS, strict=True)]
        found = F.normalize(recogniser(torch.cat(crops)), dim=1).unflatten(0, (len(CROPS), -1))
        return (found * who).sum(dim=2).mean(dim=0)

    return goal


def likeness_where_found(vae: Vae, recogniser: DifferentiableRecogniser, who: Tensor, find: Find) -> Goal:
    """Return the `likeness` of pictures of which nobody knows where their faces are.

    They are looked for in what the latents show, until one was found; a row is 0 before, as where `who` is zero.
    """
    points = np.full((len(who), 5, 2), np.nan, np.float32)
    someone = who.cpu().numpy().any(axis=1)

    def goal(latents: Tensor) -> Tensor:
        # The whole batch is decoded, so that a row's neighbours never change where its face is seen.
        if (missing := someone & ~can_align(points)).any():
            pictures = decode(vae, latents.detach()).cpu().numpy()
            points[missing] = find(pictures)[missing]
        there = torch.from_numpy(can_align(points)).to(who)
        return likeness(vae, recogniser, who * there[:, None], points)(latents)

    return goal


def finder(pack: Pack) -> Find:
    """Return what finds the surest face of each picture, by the detector of a pack."""

    def find(pictures: np.ndarray) -> np.ndarray:
        points = np.full((len(pictures), 5, 2), np.nan, np.float32)
        for row, faces in enumerate(pack.find(list(pictures), FacesOptions().sizes, len(pictures))):
            if len(faces.scores):
                points[row] = faces.points[int(np.argmax(faces.scores))]
        return points

    return find


def turn(matrices: np.ndarray) -> np.ndarray:
    """Return similarities [B, 2, 3] to aligned crops as those to each of `CROPS`, turned and scaled about its middle, float64
    [crops, B, 2, 3]."""
    found = []
    for degrees, scale, shift, _ in CROPS:
        cosine, sine = scale * np.cos(np.radians(degrees)), scale * np.sin(np.radians(degrees))
        linear = np.array([[cosine, -sine], [sine, cosine]])
        # The crop's middle stays where it is, but for the shift.
        moved = linear @ matrices
        moved[..., 2] += MIDDLE - linear @ MIDDLE + shift
        found.append(moved)
    return np.stack(found)
