"""How large the nodes of a cluster are, and how many: from what a profile's actors ask for."""

import math
from collections.abc import Sequence
from typing import NamedTuple

from pipelines.config.profile import Group, Profile

LABEL = "thermapair.io/group"

CPU_NODE = 8
"""Cores of a node that reads and writes."""

MEMORY_MB = 8192
"""For an actor whose group says nothing."""


class Size(NamedTuple):
    """Of one node; most: how many there may be."""

    cpus: int
    gpus: int
    memory_mb: int
    most: int


HEAD = Size(4, 0, MEMORY_MB, 1)
"""The driver and the cluster's state: no stage runs there, for losing it loses the run's minutes."""


def label_groups(profile: Profile, stages: Sequence[str]) -> Profile:
    """Return the profile with the groups that run `stages`, in order, each selecting the nodes of its own worker group."""
    # A group is called by the first stage that the profile names in it: others may have joined before that one.
    named = {stage for group in profile.groups for stage in group.stages}
    groups = []
    for group in profile.assign(stages):
        name = next((stage for stage in group.stages if stage in named), group.stages[0])
        groups.append(group.model_copy(update={"labels": {LABEL: name, **group.labels}}))
    return profile.model_copy(update={"groups": groups})


def stage_size(group: Group, profile: Profile) -> Size:
    """Return the size of nodes for a stage group: one an actor, large enough for an engine of the captions, too."""
    # What one actor asks for. Engines of the captions run on the same nodes where both use GPUs: a node fits either.
    cpus, gpus, count = group.cpus, math.ceil(group.gpus), group.actors[1]
    if group.gpus and profile.captions.gpus:
        cpus, gpus = max(cpus, profile.captions.cpus), max(gpus, math.ceil(profile.captions.gpus))
        count = max(count, profile.captions.engines + group.actors[0])  # engines beside the first actors
    memory = math.ceil((group.memory_mb or MEMORY_MB) * 1.6)  # Ray counts what the object store leaves, less a tenth
    return Size(max(1, math.ceil(cpus)), gpus, memory, count)


def writer_size(profile: Profile) -> Size:
    """Return the size of nodes for plans, captions on CPUs, encoding and writing."""
    # As many as the tasks that read and write and, without GPUs, the caption engines need.
    captions = 0 if profile.captions.gpus else profile.captions.engines * profile.captions.cpus
    cores = profile.writer.tasks * profile.writer.cpus + captions + 2  # two for the tasks that read
    return Size(CPU_NODE, 0, 4 * MEMORY_MB, max(1, math.ceil(cores / CPU_NODE)))
