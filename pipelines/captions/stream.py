"""Captions beside pictures: written in a thread of the driver, while partitions wait for theirs and no longer.

Two Ray Data executions would share a cluster by whole numbers, and of one GPU each would get none. So the engines are
plain actors, started first, and Ray Data makes the pictures alone. A gate, an actor without a CPU, lets a partition go once
its captions are committed.
"""

import time
from collections.abc import Mapping, Sequence

import ray

from models.columns import Columns
from pipelines.captions.write import write_captions
from pipelines.config.captions import CHAT, writer_of
from pipelines.config.profile import CaptionEngines, Group, Profile
from pipelines.plan.generate import GeneratePlan
from pipelines.run.driver import Run

LOOK_SECONDS = 0.25
"""Between two looks of the gate at whether captions are committed."""
Demand = dict[str, float]
"""Ray resource -> amount."""


class CaptionGate:
    """Holds the block of a partition back until its captions are committed. The first chunks come first, so in order."""

    def __init__(self, plan: GeneratePlan, missing: Sequence[int]) -> None:
        self.plan, self.missing = plan, missing
        self.there: set[int] = set()

    def __call__(self, block: Columns) -> Columns:
        chunk = self.plan.chunk_of(self.missing[int(block["id"][0])])
        while chunk not in self.there and not self.plan.is_captioned(chunk):
            time.sleep(LOOK_SECONDS)
        self.there.add(chunk)
        return block


def write_beside(plan: GeneratePlan, profile: Profile, groups: Sequence[Group], run: Run) -> bool:
    """Begin to write the captions that `plan` lacks, and return whether pictures have to wait for them at a gate.

    They are written at once where no model is needed, and where engines and pools do not fit the cluster together or the
    profile says so (`captions.stream`): then pictures begin when the last caption is there. A server needs no room here.
    """
    there = plan.list_captioned()
    if all(chunk in there for chunk, _ in plan.chunks()):
        return False

    def write() -> None:
        write_captions(plan, profile.captions, run.state.count_captions, run.stopped)

    # The grammar needs no engine: its captions are written before pictures begin, as those of engines that do not fit beside
    # the stages.
    elsewhere, stream = plan.job.captions.backend == CHAT, profile.captions.stream
    by_grammar = not elsewhere and writer_of(plan.bundle, plan.job.captions.backend, plan.job.parts) is None
    if by_grammar or not (elsewhere or fits(profile, groups) if stream is None else stream):
        if stream is None and not by_grammar:
            print(
                f"captions are written first: the engines, stages and writer of profile {profile.name} do not fit the cluster "
                "at once (where nodes come as they are asked for: --set profile.captions.stream=true)"
            )
        run.state.phase = "captions"
        write()
        run.state.restart_clock("pictures")
        return False
    run.beside(write)
    return True


def fits(profile: Profile, groups: Sequence[Group]) -> bool:
    """Return whether engines, stages and writer fit the nodes that the cluster has now."""
    nodes = [dict(node["Resources"]) for node in ray.nodes() if node["Alive"]]
    return fit(nodes, demands(profile.captions, groups, profile.writer.cpus))


def demands(captions: CaptionEngines, groups: Sequence[Group], writer_cpus: float) -> list[Demand]:
    """Return what has to run at once: the engines, the least of each pool, one task that reads and one that writes."""
    wanted = [{"CPU": captions.cpus, "GPU": captions.gpus}] * captions.engines
    for group in groups:
        wanted += [{"CPU": group.cpus, "GPU": group.gpus, "memory": (group.memory_mb or 0) * 2.0**20}] * group.actors[0]
    return [*wanted, {"CPU": 1.0}, {"CPU": writer_cpus}]


def fit(nodes: Sequence[Mapping[str, float]], wanted: Sequence[Demand]) -> bool:
    """Return whether every demand finds a node with room for it, the largest first."""
    free = [dict(node) for node in nodes]
    for demand in sorted(wanted, key=lambda one: (one.get("GPU", 0.0), one.get("CPU", 0.0)), reverse=True):
        # The fullest node that still has room, so that large ones are kept for what needs them.
        room = [node for node in free if all(node.get(name, 0.0) >= amount for name, amount in demand.items())]
        if not room:
            return False
        node = min(room, key=lambda one: (one.get("GPU", 0.0), one.get("CPU", 0.0)))
        for name, amount in demand.items():
            node[name] = node.get(name, 0.0) - amount
    return True
