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
from models.weights.bundle import Bundle, load_bundle
from models.weights.store import seal
from pipelines.rows.shards import Shards

BATCH = 64


def thermal(bundle: str, training: str, test: str, *, card: bool = False) -> dict[str, float]:
    """Return the errors of `models.evaluation.thermalizer` on the rows at `test`; baselines are fitted to those at `training`.

    `parsed_*` are the thermalizer's when it sees the classes of the bundle's parser, as it does in a job.
    """
    chosen = load_bundle(bundle)
    folder, parser = chosen.main("thermal"), _parser(chosen)
    fitted, unseen = (Shards(uri, thermalizer_task.COLUMNS) for uri in (training, test))

    def parsed() -> Iterator[Columns]:
        return ({**rows, "seen_classes": parser(rows, NoOptions(), BATCH)["classes"]} for rows in batches(unseen))

    found = evaluate_thermalizer(folder, batches(fitted), parsed)
    return _kept(folder, f"{test}, {len(unseen)} pictures", found, card)


def parser(bundle: str, test: str, *, card: bool = False) -> dict[str, float]:
    """Return the intersections over union of the bundle's parser on the rows at `test`."""
    chosen = load_bundle(bundle)
    folder, unseen = chosen.main("parser"), Shards(test, parser_task.COLUMNS)
    network = _parser(chosen).network
    found = parser_task.validate(network, batches(unseen), parser_task.Config())
    return _kept(folder, f"{test}, {len(unseen)} pictures", found, card)


def batches(shards: Shards) -> Iterator[Columns]:
    """Yield all rows in order."""
    for begin in range(0, len(shards), BATCH):
        yield shards.rows(np.arange(begin, min(begin + BATCH, len(shards))))


def _parser(bundle: Bundle) -> Stage:
    return Stage(bundle.fetch("parser"), NoOptions(), dtype=bundle.part("parser").dtype)


def _kept(folder: Path, source: str, found: dict[str, float], card: bool) -> dict[str, float]:
    if card:
        update_metrics(folder, source, found)
        seal(folder)
    return found
