"""A thermalizer that takes rooms is measured by what it is told of each row."""

import json

import numpy as np
import pytest

from models.thermal.rooms import Room
from models.weights.bundle import load_bundle
from pipelines.evaluation.bundle import measure_thermalizer, tell_rooms
from tests.pipelines.run.test_rooms import edits, part

__all__ = ["part"]


def test_rows_are_told_their_word_their_numbers_their_air_or_nothing() -> None:
    rows = {"condition": np.array(["warm"], object), "ambient_c": np.array([21.5]), "sun_wm2": np.array([300.0]),
            "wind_ms": np.array([2.0])}  # fmt: skip
    assert tell_rooms(rows, "condition") == [Room(word="warm")]
    assert tell_rooms(rows, "room") == [Room(21.5, 300.0, 2.0)]
    for told, air in (("air", 21.5), ("nothing", float("nan"))):
        (room,) = tell_rooms(rows, told)
        assert json.dumps([room.ambient_c, room.sun_wm2, room.word]) == json.dumps([air, float("nan"), ""])


@pytest.mark.parametrize("told", ["condition", "room"])
def test_draws_are_measured_beside_baselines_that_know_the_room(part, tiny_world: str, told: str) -> None:
    bundle = load_bundle("starter", edits(part))
    found = measure_thermalizer(bundle, tiny_world, tiny_world, told=told, draws=2)
    assert found["mae"] == pytest.approx(found["mae_mean"], rel=1e-4) and found["mae_one"] > 0
    assert {
        "crps",
        "spread_skill",
        "skill_room",
        "class_room_mae",
        "class_condition_room_mae",
        "parsed_mae",
    } <= found.keys()
    # The same rows, draws and noise again.
    assert measure_thermalizer(bundle, tiny_world, tiny_world, told=told, draws=2) == found
