"""A thermalizer that takes rooms is measured by what it is told of each row."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from models.diffusion.schedulers import load_scheduler
from models.diffusion.students import save_student
from models.errors import UserError
from models.thermal.rooms import Room
from models.weights.bundle import load_bundle
from models.weights.store import seal
from pipelines.evaluation.bundle import measure_thermalizer, tell_rooms
from tests.models.thermal.latent.tiny import read_captions, write_part, write_reader
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
        "parsed_class_room_mae",
        "skill_room_parsed",
    } <= found.keys()
    # The same rows, draws and noise again.
    assert measure_thermalizer(bundle, tiny_world, tiny_world, told=told, draws=2) == found


def test_captions_are_written_from_attributes_for_weights_that_read_them(
    tiny_world: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("captions")
    reading = write_part(folder, 128)
    read_captions(reading, write_reader(folder / "reader"))
    seal(reading)
    told, silent = (
        measure_thermalizer(load_bundle("starter", [*edits(reading), *more]), tiny_world, tiny_world, draws=1)
        for more in ([], ["thermal.settings.captions=false"])
    )
    assert told["mae"] != silent["mae"]


def test_a_student_is_measured_in_its_own_steps_alone(part: Path, tiny_world: str, tmp_path: Path) -> None:
    student = tmp_path / "student"
    shutil.copytree(part, student)
    save_student(load_scheduler(part / "scheduler"), (1, 2), student)
    seal(student)
    with pytest.raises(UserError, match="student of 1, 2 steps, not of 8"):
        measure_thermalizer(
            load_bundle("starter", [*edits(student), "thermal.settings.steps=8"]), tiny_world, tiny_world, draws=1
        )
