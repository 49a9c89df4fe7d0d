"""What the models of a bundle do on shards of the world: read, printed, and written to their cards on request."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from models.card import update_metrics
from models.columns import Columns
from models.parser.stage import ParserStage
from models.tasks import parser as parser_task
from models.tasks import thermalizer as thermalizer_task
from models.thermal.evaluate import evaluate_thermalizer
from models.weights.bundle import Part, fetch, load_bundle, seal
from pipelines.shards import Shards

BATCH = 64


def thermal(bundle: str, training: str, test: str, *, card: bool = False) -> dict[str, float]:
    """Return the errors of `models.thermal.evaluate` on the rows at `test`; baselines are fitted to those at `training`.

    `parsed_*` are the thermalizer's when it sees the classes of the bundle's parser, as it does in a job.
    """
    chosen = load_bundle(bundle)
    folder, parse = fetch(chosen.thermal, chosen), _stage(chosen.parser, fetch(chosen.parser, chosen))
    fitted, unseen = (Shards(uri, thermalizer_task.COLUMNS) for uri in (training, test))

    def parsed() -> Iterator[Columns]:
        return ({**rows, "seen_classes": parse(rows)["classes"]} for rows in batches(unseen))

    found = evaluate_thermalizer(folder, batches(fitted), parsed)
    return _kept(folder, f"{test}, {len(unseen)} pictures", found, card)


def parser(bundle: str, test: str, *, card: bool = False) -> dict[str, float]:
    """Return the intersections over union of the bundle's parser on the rows at `test`."""
    chosen = load_bundle(bundle)
    folder, unseen = fetch(chosen.parser, chosen), Shards(test, parser_task.COLUMNS)
    network = _stage(chosen.parser, folder).network
    found = parser_task.validate(network, batches(unseen), parser_task.Config())
    return _kept(folder, f"{test}, {len(unseen)} pictures", found, card)


def batches(shards: Shards) -> Iterator[Columns]:
    """Yield all rows in order."""
    for begin in range(0, len(shards), BATCH):
        yield shards.rows(np.arange(begin, min(begin + BATCH, len(shards))))


def _stage(part: Part, folder: Path) -> ParserStage:
    return ParserStage(folder, dtype=part.dtype, batch=BATCH, **part.options)


def _kept(folder: Path, source: str, found: dict[str, float], card: bool) -> dict[str, float]:
    if card:
        update_metrics(folder, source, found)
        seal(folder)
    return found
