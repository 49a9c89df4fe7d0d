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
from models.faces.align import TEMPLATE, fit_similarities
from models.faces.gradient.differentiable import DifferentiableRecogniser, align_pictures
from models.faces.metrics import unit_vectors
from models.faces.pack import recogniser_file
from models.faces.recogniser import EMBEDDING
from models.landmarks.found import can_align
from models.landmarks.intensity import show_thermal
from models.landmarks.thermal_faces import ThermalFaces
from models.visible.autoencoder import Vae, decode_range


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
    """Return how like the people `who` [B, 512] the pictures of latents are: the cosine by a recogniser, 0 where `who` is zero.

    points: where their faces are, [B, 5, 2] px; a face that has none is looked for where a crop's template is.
    """
    usual = np.where(can_align(points)[:, None, None], points, TEMPLATE)
    matrices = torch.from_numpy(fit_similarities(usual).astype(np.float32)).to(who.device)

    def goal(latents: Tensor) -> Tensor:
        pictures = (decode_range(vae, latents) + 1) * 127.5
        return (F.normalize(recogniser(align_pictures(pictures, matrices)), dim=1) * who).sum(dim=1)

    return goal
