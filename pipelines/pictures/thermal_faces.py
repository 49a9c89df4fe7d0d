"""Thermal pictures as recognisers see them, and what finds and embeds the faces in them."""

from collections.abc import Sequence

import numpy as np

from models.faces.settings import THERMAL
from models.faces.space import check_space
from models.landmarks.intensity import show_thermal
from models.landmarks.thermal_faces import ThermalFaces
from models.temperature import Numbers, UnitName
from models.weights.bundle import MAIN, fetch
from pipelines.config.chain import Link
from pipelines.pictures.open import MAX_PAGES, MAX_PIXELS, BadPicture
from pipelines.pictures.thermal import open_scenes


def load_thermal_faces(links: Sequence[Link], threads: int = 1) -> ThermalFaces:
    """Return what finds and embeds thermal faces, of the parts of faces and of landmarks, their weights fetched.

    Raises a UserError for recognisers of two spaces.
    """
    faces, landmarks = (fetch(link.part, link.folder) for link in links)
    check_space(faces[MAIN], faces[THERMAL])
    return ThermalFaces(landmarks[MAIN], faces[THERMAL], threads)


def open_thermal(
    data: bytes, name: str, unit: UnitName | Numbers | None, pages: int = MAX_PAGES, max_pixels: int = MAX_PIXELS
) -> list[np.ndarray]:
    """Return the pages of a thermal picture as recognisers see them, uint8 [H, W, 3].

    unit: of values of more than 8 bits; without it they give contrast alone. Raises BadPicture as `open_scenes` does, and for
    colours, whose palette cannot be undone.
    """
    found = open_scenes(data, name, unit, pages, max_pixels)
    for page in found:
        if page.ndim == 3 and (page[..., :1] != page[..., 1:]).any():
            raise BadPicture("colours: a palette cannot be undone; export 16-bit temperatures, or grey")
    return [show_thermal(page if page.ndim == 2 else page[..., 0]) for page in found]
