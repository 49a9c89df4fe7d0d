"""The landmarker's upper bound: trained on the world's true temperature instead of the thermalizer's. In no bundle."""

import numpy as np

from models.tasks import Rows, landmarker
from models.tasks.landmarker import (
    VALIDATION_COLUMNS,
    VALIDATION_OPTIONAL,
    Config,
    build,
    export,
    kept,
    levels,
    loss,
    pictures,
    validate,
)

__all__ = [
    "COLUMNS",
    "VALIDATION_COLUMNS",
    "VALIDATION_OPTIONAL",
    "Config",
    "build",
    "export",
    "loss",
    "pictures",
    "prepare",
    "validate",
]

COLUMNS = (*landmarker.COLUMNS, "apparent")


def prepare(rows: Rows, config: Config) -> Rows:
    """Keep what the landmarker keeps, its thermal pictures [B, 1, S, S] being the world's own."""
    return {**kept(rows, config), "thermal": levels(np.asarray(rows["apparent"], np.float32))[:, None]}
