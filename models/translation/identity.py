"""Whom a thermal picture shows, as far as a recogniser that was adapted to thermal faces can say, and how like them a
translation is."""

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from models.augment.canvas import FLIPPED
from models.augment.geometry import mirror_points
from models.diffusion.steering import Goal
from models.errors import EnvironmentFault
from models.faces.align import CROP, TEMPLATE, fit_similarities
from models.faces.gradient.differentiable import DifferentiableRecogniser, align_pictures
from models.faces.metrics import unit_vectors
from models.faces.pack import recogniser_file
from models.faces.recogniser import EMBEDDING
from models.landmarks.found import can_align
from models.landmarks.intensity import show_thermal
from models.landmarks.thermal_faces import ThermalFaces
from models.visible.autoencoder import Vae, decode_range

MIDDLE = np.array([CROP / 2, CROP / 2])
CROPS = (
    (0.0, 1.0, (0.0, 0.0), False),
    (0.0, 1.0, (0.0, 0.0), True),
    (4.5, 0.94, (3.0, -2.0), False),
    (-4.5, 1.06, (-3.0, 2.0), True),
)
"""Degrees, scale, shift in px, mirrored: how a face is cropped for its likeness. What all crops say is rather in the face than a
pattern that misleads the recogniser in one of them."""


def embed_thermal(people: ThermalFaces, celsius: np.ndarray, batch: int) -> tuple[np.ndarray, np.ndarray]:
    """Return of the surest face in each of `celsius` float32 [B, S, S] the embedding of length one, float32 [B, 512], and its
    points float32 [B, 5, 2] px; zeros and NaN for pictures without a face.

    The embedding is the mean of the face's and its mirror image's, which say more together than either.
    """
    pictures = [show_thermal(one) for one in celsius]
    found = people.find(pictures, batch)
    seen = [row for row, faces in enumerate(found) if len(faces.points)]
    embeddings = np.zeros((len(pictures), EMBEDDING), np.float32)
    points = np.full((len(pictures), 5, 2), np.nan, np.float32)
    if seen:
        points[seen] = [found[row].points[0] for row in seen]
        shown = [pictures[row] for row in seen]
        mirrored = [np.ascontiguousarray(picture[:, ::-1]) for picture in shown]
        turned = mirror_points(points[seen], celsius.shape[2], FLIPPED).astype(np.float32)
        embeddings[seen] = unit_vectors(
            people.embed(shown, points[seen], batch) + people.embed(mirrored, turned, batch)
        )
    return embeddings, points


def open_visible(folder: Path) -> DifferentiableRecogniser:
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
    usual = np.where(can_align(points)[:, None, None], points, TEMPLATE)
    matrices = torch.from_numpy(turn(fit_similarities(usual)).astype(np.float32)).to(who.device)

    def goal(latents: Tensor) -> Tensor:
        pictures = (decode_range(vae, latents) + 1) * 127.5
        crops = [align_pictures(pictures, one) for one in matrices]
        crops = [crop.flip(-1) if mirrored else crop for crop, (*_, mirrored) in zip(crops, CROPS, strict=True)]
        found = F.normalize(recogniser(torch.cat(crops)), dim=1).unflatten(0, (len(CROPS), -1))
        return (found * who).sum(dim=2).mean(dim=0)

    return goal


def turn(matrices: np.ndarray) -> np.ndarray:
    """Return similarities [B, 2, 3] to aligned crops as those to each of `CROPS`, turned and scaled about its middle, float64
    [crops, B, 2, 3]."""
    found = []
    for degrees, scale, shift, _ in CROPS:
        cosine, sine = scale * np.cos(np.radians(degrees)), scale * np.sin(np.radians(degrees))
        linear = np.array([[cosine, -sine], [sine, cosine]])
        moved = linear @ matrices
        moved[..., 2] += MIDDLE - linear @ MIDDLE + shift
        found.append(moved)
    return np.stack(found)
