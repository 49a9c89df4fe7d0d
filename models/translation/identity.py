"""Whom a thermal picture shows, as far as a recogniser that was adapted to thermal faces can say."""

import numpy as np

from models.faces.recogniser import EMBEDDING
from models.landmarks.intensity import show_thermal
from models.landmarks.thermal_faces import ThermalFaces


def embed_thermal(people: ThermalFaces, celsius: np.ndarray, batch: int) -> np.ndarray:
    """Return embeddings of length one, float32 [B, 512], of the surest face in each of `celsius` float32 [B, S, S]; zeros for
    pictures without a face."""
    pictures = [show_thermal(one) for one in celsius]
    found = people.find(pictures, batch)
    seen = [row for row, faces in enumerate(found) if len(faces.points)]
    embeddings = np.zeros((len(pictures), EMBEDDING), np.float32)
    if seen:
        points = np.stack([found[row].points[0] for row in seen])
        embeddings[seen] = people.embed([pictures[row] for row in seen], points, batch)
    return embeddings
