"""`thermapair measure faces`: a face part, or a judge, on people it has never seen."""

from pathlib import Path

import numpy as np

from models.card import update_metrics
from models.evaluation.faces import COLUMNS, evaluate_recogniser
from models.weights.store import SEAL, seal
from pipelines.rows.shards import Shards

BATCH = 128


def measure_faces(
    data: str, folder: Path, *, source: str = "", limit: int | None = None, threads: int = 2
) -> dict[str, float]:
    """Return the metrics of the weights in `folder` on the world's pictures at `data`.

    source: what the card calls these pictures (`test`, ...); with it, the metrics are written there and the folder is
    sealed again.
    """
    shards = Shards(data, COLUMNS, memory=0, limit=limit)
    starts = range(0, len(shards), BATCH)
    batches = (shards.rows(np.arange(start, min(start + BATCH, len(shards)))) for start in starts)
    metrics = evaluate_recogniser(folder, batches, threads=threads)
    if source:
        update_metrics(folder, source, metrics)
        if (folder / SEAL).is_file():
            seal(folder)
    return metrics
