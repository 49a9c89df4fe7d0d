"""What the models of a bundle do on shards of the world: read, printed, and written to their cards on request."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from models.captions.grammar import write_caption
from models.card import update_metrics
from models.columns import Columns
from models.evaluation.thermalizer import Predict, evaluate_thermalizer
from models.parser.stage import Stage
from models.seeds import seed_of
from models.stages import NoOptions
from models.tasks import parser as parser_task
from models.tasks import thermalizer as thermalizer_task
from models.thermal.latent.settings import Options as LatentOptions
from models.thermal.latent.settings import Settings as LatentSettings
from models.thermal.latent.settings import columns as latent_columns
from models.thermal.latent.stage import Stage as LatentStage
from models.thermal.room_unet.stage import Stage as RoomStage
from models.thermal.rooms import Room
from models.thermal.unet.network import load_thermalizer
from models.training.loop import Source
from models.weights.bundle import Bundle
from models.weights.store import SmallFiles, seal
from pipelines.rows.schema import ROOM
from pipelines.rows.shards import Shards

BATCH = 64
Told = Literal["condition", "room", "air", "nothing"]
OPTIONAL = (*ROOM, "attributes")
COLUMNS = (*thermalizer_task.COLUMNS, "pair_id", *OPTIONAL)


def measure_thermalizer(
    bundle: Bundle, training: str, test: str, *, told: Told = "condition", draws: int = 8, card: bool = False
) -> dict[str, float]:
    """Return the errors of `models.evaluation.thermalizer` on the rows at `test`; baselines are fitted to those at `training`.

    `parsed_*` are the thermalizer's when it sees the classes of the bundle's parser, as it does in a job. told: what a kind
    that takes rooms is told of each row; draws: of a kind that draws. Captions, for weights that read them, are written from
    the rows' attributes.
    """
    folder, parser = bundle.main("thermal"), _load_parser(bundle)
    fitted, unseen = (Shards(uri, COLUMNS, optional=OPTIONAL) for uri in (training, test))

    predict = _predictor(bundle, told, draws)

    def parse(shards: Shards) -> Callable[[], Iterator[Columns]]:
        # Read more than once, and parsed once.
        seen = [parser(rows, NoOptions(), BATCH)["classes"] for rows in batches(shards)]
        return lambda: ({**rows, "seen_classes": own} for rows, own in zip(batches(shards), seen, strict=True))

    metrics = evaluate_thermalizer(predict, parse(fitted), parse(unseen))
    if card:
        write_card(folder, f"{test}, {len(unseen)} pictures, told {told}", metrics)
    return metrics


def _predictor(bundle: Bundle, told: Told, draws: int) -> Predict:
    """Return what predicts temperatures for rows of mixed conditions, of whatever kind the bundle's thermalizer is."""
    if bundle.part("thermal").kind == "unet":
        model = load_thermalizer(bundle.main("thermal"))
        return lambda rows: thermalizer_task.predict(model, rows)[None]
    part = bundle.part("thermal")
    if part.kind == "room-unet":
        regression = RoomStage(bundle.fetch("thermal"), NoOptions(), dtype=part.dtype)
        return lambda rows: regression.predict(rows, tell_rooms(rows, told), BATCH)[None]
    settings = LatentSettings(**part.settings)
    # A student is asked for its own steps alone.
    latent_columns(LatentOptions(), settings, {"model": SmallFiles(bundle.main("thermal"))})
    stage = LatentStage(bundle.fetch("thermal"), LatentOptions(), dtype=part.dtype)

    def predict(rows: Columns) -> np.ndarray:
        # The same rows in as many draws; noise follows from the pair and the number of the draw.
        seen = stage.see(_with_captions(rows), settings, BATCH)
        rooms, names = tell_rooms(rows, told), [f"measured {pair}" for pair in rows["pair_id"]]
        guess = stage.guess(rooms, seen, BATCH)
        made = [stage.draw(rooms, seen, guess, names, f"draw {k}", settings, BATCH) for k in range(draws)]
        return torch.stack(made).cpu().numpy()

    return predict


def _with_captions(rows: Columns) -> Columns:
    """Return rows with a caption that says all of their attributes, as far as they have any."""
    if "attributes" not in rows:
        return rows
    words = (json.loads(str(text)) for text in rows["attributes"])
    captions = [
        write_caption(said, seed_of("measured", pair)) for said, pair in zip(words, rows["pair_id"], strict=True)
    ]
    return {**rows, "caption": np.array(captions, object)}


def tell_rooms(rows: Columns, told: Told) -> list[Room]:
    """Return what is told of each row's room: its condition's word, its numbers, its air alone, or nothing."""
    numbers = (
        np.stack([np.asarray(rows[name], np.float64) for name in ROOM], axis=1) if told in ("room", "air") else None
    )
    rooms = []
    for index, condition in enumerate(rows["condition"]):
        if numbers is not None:
            air, sun, wind = (float(value) for value in numbers[index])
            rooms.append(Room(air, sun, wind) if told == "room" else Room(air))
        else:
            rooms.append(Room(word=str(condition)) if told == "condition" else Room())
    return rooms


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


def batches(shards: Source) -> Iterator[Columns]:
    """Yield all rows in order."""
    for begin in range(0, len(shards), BATCH):
        yield shards.rows(np.arange(begin, min(begin + BATCH, len(shards))))


def _load_parser(bundle: Bundle) -> Stage:
    return Stage(bundle.fetch("parser"), NoOptions(), dtype=bundle.part("parser").dtype)
