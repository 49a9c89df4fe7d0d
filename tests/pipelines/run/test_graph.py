"""Pools of actors, on a real Ray."""

import os
import time
from pathlib import Path
from typing import Any

import pytest
import ray.data
from ray.data import ActorPoolStrategy, TaskPoolStrategy
from ray.data._internal.execution.operators.actor_pool_map_operator import _ActorPool

from models.columns import Columns
from pipelines.run.driver import data_context
from pipelines.run.graph import numbers
from tests.pipelines import small

WAITS = 8
"""The block before which all that came has long been made."""


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_a_pool_that_has_nothing_to_do_for_a_while_keeps_its_actors(
    local_ray: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those of Ray's own threshold go, and others start, with all that they have to load."""
    seconds = 0.5  # for which a pool does not shrink after it grew, in place of ten
    monkeypatch.setattr(_ActorPool.__init__, "__defaults__", ("MapWorker", seconds))

    def hold(block: Columns) -> Columns:
        time.sleep(4 if int(block["id"][0]) == WAITS else 0)
        return block

    class Slow:
        def __init__(self, folder: Path) -> None:
            (folder / str(os.getpid())).touch()

        def __call__(self, block: Columns) -> Columns:
            time.sleep(0.3)
            return block

    def count_starts(folder: Path) -> int:
        folder.mkdir()
        rows = numbers(range(2 * WAITS), 1).map_batches(hold, batch_size=None, compute=TaskPoolStrategy(size=1))
        pool = ActorPoolStrategy(min_size=1, max_size=2, max_tasks_in_flight_per_actor=2)
        made = rows.map_batches(Slow, fn_constructor_args=(folder,), batch_size=None, compute=pool)
        assert sorted(row["id"] for row in made.take_all()) == list(range(2 * WAITS))
        return len(list(folder.iterdir()))

    with data_context(small.profile()):
        kept = count_starts(tmp_path / "kept")
        context = ray.data.DataContext.get_current()
        monkeypatch.setattr(context.autoscaling_config, "actor_pool_util_downscaling_threshold", 0.5)
        assert (kept, count_starts(tmp_path / "own") > 2) == (2, True)
