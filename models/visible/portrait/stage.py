"""The portrait stage: the embedding of a person becomes a frontal picture of them, whatever a sample asks for."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from models.columns import Columns
from models.visible.portrait.settings import CAPTION, Options, Settings
from models.visible.sd import stage as drawing


class Stage:
    """`identity_id`, `embedding` [B, 512] -> `reference` uint8 [B, S, S, 3].

    Caption and pose are the same for all, and the noise is named by the person: the same person has the same bytes in any
    sample, draw and attempt.
    """

    def __init__(
        self, weights: Mapping[str, Path], options: Options, *, dtype: str = "float32", threads: int = 1
    ) -> None:
        self.drawing = drawing.Stage(weights, options, dtype=dtype, threads=threads)

    def __call__(self, rows: Columns, settings: Settings, batch: int) -> Columns:
        """Return `reference`. Rows are computed in fixed batches, so a row's neighbours never change it."""
        people = rows["identity_id"]
        asked: Columns = {
            "embedding": rows["embedding"],
            "noise_id": np.array([f"{person}/portrait" for person in people], object),
            "caption": np.array([CAPTION] * len(people), object),
            "pose_asked": np.zeros((len(people), 3), np.float32),
        }
        return {"reference": self.drawing(asked, settings, batch)["visible"]}
