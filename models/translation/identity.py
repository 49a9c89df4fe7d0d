"""Whom a thermal picture shows, as far as a recogniser that was adapted to thermal faces can say."""

import numpy as np

from models.augment.canvas import FLIPPED
from models.augment.geometry import mirror_points
from models.faces.metrics import unit_vectors
from models.faces.recogniser import EMBEDDING
from models.landmarks.intensity import show_thermal
from models.landmarks.thermal_faces import ThermalFaces


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
