"""A profile: where a job runs and with how much. Nothing here changes a byte of the output."""

from collections.abc import Sequence
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from models.config import read_config
from models.stages import STAGES
from pipelines.config.job import find_yaml

RENDER = "render"
"""The group that renders the world; it is no stage of a chain."""
KNOWN = (*STAGES, RENDER)
PROFILES = Path(__file__).resolve().parent.parent / "profiles"


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class RayStart(_Section):
    """How to reach or start Ray."""

    address: str | None = None
    """Cluster to join; by default RAY_ADDRESS, else a local Ray for this run alone."""
    cpus: int = Field(default=8, ge=4)
    """Logical CPUs of a local Ray. More than cores on small machines: Ray Data waits for ever when actors outnumber them."""
    object_store_mb: int = Field(default=512, ge=80)
    stall_minutes: float = Field(default=30, ge=0)
    """How long nothing may come to its end while no process does anything; then idle processes are ended, and if that is no
    help the run stops, to be resumed. 0: for ever."""


class Group(_Section):
    """Stages that live in one actor and hand arrays on in place."""

    stages: list[str]
    actors: tuple[int, int] = (1, 1)
    """Smallest and largest number of actors. A pool grows while partitions wait, and gives none up while any are to come."""
    in_flight: int = Field(default=2, ge=2)
    """Partitions queued at one actor; with one alone a pool never grows."""
    cpus: float = Field(default=1, ge=0)
    gpus: float = Field(default=0, ge=0)
    memory_mb: int | None = Field(default=None, ge=1)
    threads: int = Field(default=1, ge=1)
    """Threads of one actor. Pictures are computed in one on a CPU: more add numbers in another order."""
    labels: dict[str, str] = {}
    """Ray labels that a node must have to get one of these actors, as `ray start --labels` or a worker group gives them."""

    @property
    def selector(self) -> dict[str, dict[str, str]]:
        """The labels as an option of a Ray actor or task; none where every node will do."""
        return {"label_selector": self.labels} if self.labels else {}

    @field_validator("actors")
    @classmethod
    def _check_actors(cls, value: tuple[int, int]) -> tuple[int, int]:
        if not 1 <= value[0] <= value[1]:
            raise ValueError("give the smallest and the largest number of actors, at least 1")
        return value


class Writer(_Section):
    """Encoding and writing of finished partitions."""

    tasks: int = Field(default=2, ge=1)
    cpus: float = Field(default=1, ge=0)
    threads: int = Field(default=2, ge=1)


class CaptionEngines(_Section):
    """The language model's engines."""

    engines: int = Field(default=1, ge=1)
    cpus: float = Field(default=1, ge=0)
    gpus: float = Field(default=0, ge=0)
    threads: int = Field(default=2, ge=1)
    batch: int = Field(default=64, ge=1)
    start_seconds: int = Field(default=300, ge=1)
    """How long an engine may take to start."""
    stream: bool | None = None
    """Whether pictures begin with the first captions, or with the last. By default with the first where engines, stages and
    writer fit the nodes that the cluster has. Say true where nodes come as they are asked for."""


class Training(_Section):
    """Workers of a training run; each takes an equal share of every batch."""

    workers: int = Field(default=1, ge=1)
    cpus: float = Field(default=1, ge=0)
    gpus: float = Field(default=0, ge=0)
    threads: int = Field(default=2, ge=1)
    memory_mb: int = Field(default=6144, ge=64)
    """Memory that one worker may give to decoded rows."""
    failures: int = Field(default=3, ge=0)
    """How often lost workers are replaced before the run stops."""


class Limits(_Section):
    """What one request may ask for; checked before anything is read, decoded or computed."""

    body_mb: int = Field(default=24, ge=1)
    pictures: int = Field(default=8, ge=1)
    megapixels: float = Field(default=24, gt=0)
    """Of one picture, read from its header."""
    views: int = Field(default=8, ge=1)
    layers: int = Field(default=16, ge=1)
    """Thermal pictures of one visible picture: conditions times samples."""
    steps: int = Field(default=50, ge=1)
    """Of any setting of this name."""
    attempts: int = Field(default=8, ge=1)
    captions: int = Field(default=64, ge=1)


class Serving(_Section):
    """The service. Its stage groups have the replicas, CPUs and GPUs of `groups`."""

    gateways: int = Field(default=1, ge=1)
    """Replicas of the HTTP side, which checks, decodes and encodes."""
    batch_wait_ms: float = Field(default=20, ge=0)
    """How long a batch that is not full waits for more rows."""
    wait_seconds: float = Field(default=10, ge=0)
    """A request that could expect its answer later is answered 503, unless the batch that gathers has room for it."""
    queue: int = Field(default=64, ge=1)
    """Calls that may wait for one group, whatever they expect; a request beyond is answered 503."""
    retry_seconds: int = Field(default=2, ge=1)
    """What such an answer says at least of when to come back."""
    request_seconds: float = Field(default=120, gt=0)
    """Longest computation of one request."""
    limits: Limits = Limits()


class Profile(_Section):
    """Where and with how much."""

    name: str
    description: str = ""
    ray: RayStart = RayStart()
    captions: CaptionEngines = CaptionEngines()
    groups: list[Group] = Field(min_length=1)
    writer: Writer = Writer()
    training: Training = Training()
    serve: Serving = Serving()
    start_seconds: int = Field(default=300, ge=1)
    """How long the first actors may take to start."""
    price: float | None = Field(default=None, ge=0)
    """Of an hour of all that runs it, in any currency: what `stop.cost` and `thermapair status` count with."""

    @model_validator(mode="after")
    def _check_groups(self) -> "Profile":
        named = [stage for group in self.groups for stage in group.stages]
        twice = sorted({stage for stage in named if named.count(stage) > 1})
        if twice:
            raise ValueError(f"stages {', '.join(twice)} stand in two groups")
        if unknown := [stage for stage in named if stage not in KNOWN]:
            raise ValueError(f"groups: no stage {unknown[0]!r}; known: {', '.join(KNOWN)}")
        return self

    def assign(self, stages: Sequence[str]) -> list[Group]:
        """Return the groups with exactly `stages`, in order; a stage that no group names joins the one before it.

        Groups are cut where the order asks for it, so a group that names stages out of order becomes several.
        """
        homes = {stage: group for group in self.groups for stage in group.stages}
        home, result = self.groups[0], list[Group]()
        for stage in stages:
            # A stage that no group names lives with the one before it.
            group = homes.get(stage, home)
            if result and group is home:
                result[-1] = result[-1].model_copy(update={"stages": [*result[-1].stages, stage]})
            else:
                result.append(group.model_copy(update={"stages": [stage]}))
            home = group
        return result


def load_profile(name: str, edits: Sequence[str] = ()) -> Profile:
    """Return the profile called `name` (a file of `pipelines/profiles` or the path of a YAML file)."""
    return read_config(Profile, find_yaml(PROFILES, name, "profile"), edits)
