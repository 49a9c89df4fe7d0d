"""The landmarker's upper bound: trained on the world's true temperature instead of the thermalizer's. In no bundle."""

import numpy as np

from models.columns import Columns
from models.tasks import landmarker
from models.tasks.landmarker import (
    VALIDATION_COLUMNS,
    VALIDATION_OPTIONAL,
    Config,
    build,
    export,
    keep_columns,
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

COLUMNS = (*landmarker.COLUMNS, "thermal")


def prepare(rows: Columns, config: Config) -> Columns:
    """Keep what the landmarker keeps, its thermal pictures [B, 1, S, S] being the world's own."""
    return {**keep_columns(rows, config), "thermal_pictures": levels(np.asarray(rows["thermal"], np.float32))[:, None]}
