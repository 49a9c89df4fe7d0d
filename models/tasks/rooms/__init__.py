"""Trainings of thermalizers that are told of rooms: what each row is told is drawn anew at every visit."""

import math
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import torch
from pydantic import Field

from models.columns import Columns
from models.parser.stage import Stage as Parser
from models.stages import NoOptions
from models.tasks import Place, TrainConfig
from models.thermal.rooms import Room
from models.weights.store import ROOT

PARSER_BATCH = 32


class RoomConfig(TrainConfig):
    """How often a row is told which part of what is known of its room."""

    tell_word: float = Field(0.5, ge=0, le=1, description="share of rows with a learned word that are told it alone")
    tell_nothing: float = Field(0.15, ge=0, le=1, description="share of the others that are told nothing of the room")
    tell_part: float = Field(
        0.5, ge=0, le=1, description="chance of wind to be told, and of sun beside wind, where air is"
    )
    unnamed: tuple[str, ...] = Field(
        ("rooms",), description="domains whose rows' words say nothing that could be asked for"
    )
    parser: Place = Field(
        "models/starter/parser", description="folder of the parser that makes the classes in a job; empty: true classes"
    )
    parsed: float = Field(
        0.5, ge=0, le=1, description="share of rows that are shown the parser's classes, not the true ones"
    )


def word_numbers(rows: Columns, words: Sequence[str], unnamed: Sequence[str]) -> np.ndarray:
    """Return the number of each row's condition among `words`, int64 [B]; -1 for another, and for domains `unnamed`."""
    pairs = zip(rows["condition"], rows["domain"], strict=True)
    named = [words.index(str(w)) if str(w) in words and str(domain) not in unnamed else -1 for w, domain in pairs]
    return np.array(named, np.int64)


@lru_cache(maxsize=1)
def _parser(folder: str) -> Parser:
    return Parser({"model": ROOT / folder}, NoOptions(), threads=torch.get_num_threads())


def parse_rows(rows: Columns, config: RoomConfig) -> np.ndarray:
    """Return the classes uint8 [B, S, S] that a job would know of the rows' pictures: the parser's, errors and all; the true
    ones without a parser."""
    if not config.parser:
        return rows["classes"]
    parsed: np.ndarray = _parser(config.parser)({"visible": rows["visible"]}, NoOptions(), PARSER_BATCH)["classes"]
    return parsed


def draw_room(rng: np.random.Generator, numbers: np.ndarray, word: str, config: RoomConfig) -> Room:
    """Return what a row is told of its surroundings: its word alone, its numbers or a part of them, or nothing.

    numbers: air, sun and wind, NaN where the row does not know them; sun and wind are never told without the air.
    """
    alone, nothing, wind, sun = rng.random(4)
    if word and alone < config.tell_word:
        return Room(word=word)
    if nothing < config.tell_nothing or math.isnan(numbers[0]):
        return Room()
    # Who knows the wind most often knows the sun; who knows neither may still say that there is a roof.
    told_wind = wind < config.tell_part
    told_sun = sun < (0.8 if told_wind else config.tell_part)
    return Room(
        float(numbers[0]), float(numbers[1]) if told_sun else math.nan, float(numbers[2]) if told_wind else math.nan
    )
