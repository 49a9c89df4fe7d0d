"""What the models of a bundle do on shards of the world: read, printed, and written to their cards on request."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from models.card import update_metrics
from models.columns import Columns
from models.evaluation.thermalizer import evaluate_thermalizer
from models.parser.stage import Stage
from models.stages import NoOptions
from models.tasks import parser as parser_task
from models.tasks import thermalizer as thermalizer_task
from models.weights.bundle import Bundle
from models.weights.store import seal
from pipelines.rows.shards import Shards

BATCH = 64


def measure_thermalizer(bundle: Bundle, training: str, test: str, *, card: bool = False) -> dict[str, float]:
    """Return the errors of `models.evaluation.thermalizer` on the rows at `test`; baselines are fitted to those at `training`.

    `parsed_*` are the thermalizer's when it sees the classes of the bundle's parser, as it does in a job.
    """
    folder, parser = bundle.main("thermal"), _load_parser(bundle)
    fitted, unseen = (Shards(uri, thermalizer_task.COLUMNS) for uri in (training, test))

    def parse() -> Iterator[Columns]:
        return ({**rows, "seen_classes": parser(rows, NoOptions(), BATCH)["classes"]} for rows in batches(unseen))

    metrics = evaluate_thermalizer(folder, batches(fitted), parse)
    if card:
        write_card(folder, f"{test}, {len(unseen)} pictures", metrics)
    return metrics


def measure_parser(bundle: Bundle, test: str, *, card: bool = False) -> dict[str, float]:
    """Return the intersections over union of the bundle's parser on the rows at `test`."""
    folder, unseen = bundle.main("parser"), Shards(test, parser_task.COLUMNS)
    metrics = parser_task.validate(_load_parser(bundle).network, batches(unseen), parser_task.Config())
    if card:
        write_card(folder, f"{test}, {len(unseen)} pictures", metrics)
    return metrics


def write_card(folder: Path, source: str, metrics: dict[str, float]) -> None:
    """Write metrics to the card of the weights in `folder` and seal them again. source: on which pictures, in words."""
    update_metrics(folder, source, metrics)
    seal(folder)


def batches(shards: Shards) -> Iterator[Columns]:
    """Yield all rows in order."""
    for begin in range(0, len(shards), BATCH):
        yield shards.rows(np.arange(begin, min(begin + BATCH, len(shards))))


def _load_parser(bundle: Bundle) -> Stage:
    return Stage(bundle.fetch("parser"), NoOptions(), dtype=bundle.part("parser").dtype)
