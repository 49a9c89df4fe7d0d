"""A tiny rendered world for the tests of reading and training: real pictures, 32 px, made once a session."""

from pathlib import Path

from pipelines.config.profile import Group, Profile
from pipelines.storage import Storage
from pipelines.world import Renderer, WorldJob, commit_shard, plan

JOB = WorldJob(
    domain="portrait", split="generator", count=16, size=32, views=2, conditions=("warm", "cold"), partition=8
)

PROFILE = Profile(name="test", groups=[Group(stages=["render"], actors=(1, 2))])


def write(folder: Path, job: WorldJob = JOB) -> str:
    """Render `job` into `folder` in this process, by the same stages that Ray Data runs; returns the folder."""
    storage = Storage(folder)
    pending = plan(job, storage)
    renderer = Renderer(job, pending, threads=1)
    for number in range(len(pending)):
        commit_shard(renderer({"id": [number]}), job, storage)
    return storage.uri
