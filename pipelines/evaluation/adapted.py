"""A bundle's recogniser for thermal faces beside the one that it was adapted from: the rival of every translator."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from models.errors import EnvironmentFault, UserError
from models.faces.align import align, five_points
from models.faces.pack import embed, open_sessions
from models.faces.settings import THERMAL
from models.faces.space import check_space
from models.landmarks.intensity import show_thermal
from models.weights.bundle import MAIN, Bundle, Part, Weights, fetch

BATCH = 32
"""Crops of one forward pass."""


class Recognisers(NamedTuple):
    """ONNX sessions: of visible faces, and of thermal ones in the space of these."""

    visible: Any
    thermal: Any

    def embed_gallery(self, pictures: np.ndarray, points: np.ndarray) -> np.ndarray:
        """Return the vectors [N, D] of visible pictures uint8 [N, S, S, 3] aligned on 70 points each."""
        return embed_faces(self.visible, pictures, points)

    def embed_probes(self, thermal: Sequence[np.ndarray] | np.ndarray, points: np.ndarray) -> np.ndarray:
        """Return the vectors [N, D] of thermal pictures [N, S, S], degrees or grey levels, aligned on 70 points each."""
        return embed_faces(self.thermal, np.stack([show_thermal(one) for one in thermal]), points)


def embed_faces(recogniser: Any, pictures: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Return a recogniser's vectors [N, D] of pictures uint8 [N, S, S, 3] aligned on points [N, 70, 2] px, flat or not."""
    return np.asarray(embed(recogniser, align(pictures, five_points(points.reshape(-1, 70, 2))), BATCH))


def adapted_parts(bundle: Bundle, folders: Sequence[str]) -> list[Part]:
    """Return the faces part of each recogniser for thermal faces: the bundle's own, where it has one, and those of `folders`.

    Raises a UserError for folders where the bundle has no faces part, in whose space they embed.
    """
    found = bundle.part_for("faces")
    if found is None:
        if folders:
            raise UserError(
                f"hfr={list(folders)}: bundle {bundle.name} has no faces part, whose recogniser was adapted"
            )
        return []
    part = found[1]
    own = [part] if THERMAL in part.weights else []
    return own + [part.model_copy(update={"weights": {**part.weights, THERMAL: Weights(uri=uri)}}) for uri in folders]


def fetch_recognisers(part: Part, folder: str) -> dict[str, Path]:
    """Return the folders of a faces part's recognisers, fetched. Raises a UserError where they are of two spaces."""
    folders = fetch(part, folder)
    check_space(folders[MAIN], folders[THERMAL])
    return folders


def load_recognisers(part: Part, folder: str) -> Recognisers:
    """Return the recognisers of a faces part, its weights fetched. Raises EnvironmentFault where a folder holds none, and
    a UserError where they are of two spaces."""
    folders = fetch_recognisers(part, folder)
    found = {name: open_sessions(folders[name], threads=1)[1] for name in (MAIN, THERMAL)}
    for name, session in found.items():
        if session is None:
            raise EnvironmentFault(
                f"{folders[name]} holds no recogniser (an ONNX file of 112 px crops): docs/train.md."
            )
    return Recognisers(*found.values())
