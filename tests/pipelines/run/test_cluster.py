"""A run on a real cluster of several nodes: labels place its pools, they grow, nodes and drivers are lost, and rows are the same.

`python -m tests.benchmarks.faults` does more of it, by chance.
"""

import os
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipelines.storage.commits import list_finished, read_commits
from pipelines.storage.uri import Storage
from tests.benchmarks.faults.bed import JOB, Bed, remaining, wait_for
from tests.benchmarks.faults.check import compare, make_reference
from tests.pipelines import small

pytestmark = [pytest.mark.soak, pytest.mark.timeout(1200)]
LONG = "identities.count=200"
"""1,600 samples in 100 partitions."""
PEOPLE = "identities.count=96"
"""384 samples in 48 partitions."""
SLOW_DRIVER = f"""
import sys
from models.weights.bundle import load_bundle
from tests.benchmarks.faults.bed import LABELS
from tests.pipelines import small

small.register()
group = {{"stages": ["visible", "parser", "thermal", "faces", "gates"], "actors": [1, 3], "cpus": 1, "labels": LABELS}}
small.make(small.job("{PEOPLE}"), load_bundle(sys.argv[1]), sys.argv[2], f"groups=[{{group}}]", "start_seconds=240")
"""
ACTOR = "MapWorker(MapBatches(Chain))"


@pytest.fixture(scope="module")
def bed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bed]:
    """A head, and a node without a label, where no stage may run."""
    before = dict(os.environ)
    with Bed(tmp_path_factory.mktemp("bed"), nodes=0) as bed:
        bed.add_node(labels={})
        yield bed
    left = remaining()
    os.environ.clear()
    os.environ.update(before)
    assert not left


@pytest.fixture(scope="module")
def reference(bed: Bed, tmp_path_factory: pytest.TempPathFactory) -> Storage:
    """What the job makes in one process, without Ray."""
    return make_reference(tmp_path_factory.mktemp("whole") / "out", bed.folder / "profile.yaml", (*JOB, LONG))


def test_pools_grow_where_labels_say_and_a_lost_node_costs_no_row(bed: Bed, tmp_path: Path) -> None:
    """Stages that take long, of the tests' own bundle: else one actor is enough."""
    with small.registered():
        bundle = small.write_bundle(tmp_path / "bundle", wait=0.15)
        whole = small.make_here(small.job(PEOPLE), bundle, tmp_path / "whole").out
    (io,) = bed.workers()
    first, out = bed.add_node(num_cpus=1), Storage(tmp_path / "out")
    launch = bed.launch([sys.executable, "-c", SLOW_DRIVER, str(tmp_path / "bundle" / "bundle.yaml"), out.uri])
    wait_for(out, 2, launch)
    assert len(bed.processes(ACTOR, node=first)) == 1 and not bed.processes(ACTOR, node=io)
    # Another node of the label: the pool grows onto it.
    second = bed.add_node(num_cpus=1)
    while not (grown := bed.processes(ACTOR, node=second)) and launch.process.poll() is None:
        time.sleep(0.1)
    assert grown, launch.tail()
    assert not bed.processes(ACTOR, node=io)
    # The first is gone while it works: what it had is made on the other.
    done = len(list_finished(out))
    bed.remove(first)
    assert done < 48 and launch.wait() == 0, launch.tail()
    assert compare(out, whole) == "" and bed.leftovers() == []
    bed.remove(second)


def test_a_driver_that_is_killed_leaves_nothing_and_another_ends_its_run(
    bed: Bed, reference: Storage, tmp_path: Path
) -> None:
    node, out = bed.add_node(num_cpus=2), Storage(tmp_path / "out")
    launch = bed.drive(out.uri, LONG)
    wait_for(out, 5, launch)
    launch.process.send_signal(signal.SIGKILL)
    assert launch.wait() == -signal.SIGKILL and bed.leftovers() == []
    kept = read_commits(out)
    assert 5 <= len(kept) < 100
    # Its actors die with it; an actor that dies is no reason to end.
    launch = bed.drive(out.uri, LONG)
    wait_for(out, len(kept) + 3, launch)
    for process in bed.processes(ACTOR):
        process.kill()
    assert launch.wait() == 0, launch.tail()
    assert compare(out, reference) == "" and kept.items() <= read_commits(out).items()
    bed.remove(node)
