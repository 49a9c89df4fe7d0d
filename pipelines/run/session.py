"""A Ray to run on: the cluster that was named, or a local one for this run alone."""

import logging
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import ray

from models.errors import EnvironmentFault
from models.weights.store import ROOT
from pipelines.config.profile import RayStart
from pipelines.run.interrupts import has_abandoned_work

SHM = Path("/dev/shm")

ENVIRONMENT = {
    "TOKENIZERS_PARALLELISM": "false",
    "VLLM_NO_USAGE_STATS": "1",
    "DO_NOT_TRACK": "1",
    "NO_ALBUMENTATIONS_UPDATE": "1",
    "RAY_DATA_DISABLE_PROGRESS_BARS": "1",
}
EXCLUDED = ["/out/", "/weights/", "/tests/", ".git", "*.log"]
"""What does not travel to a cluster with the rooms, as gitignore patterns: those of folders begin with the root, for
`models/weights` is code. On a cluster a bundle names large weights by URI or hub id."""


@contextmanager
def ray_session(start: RayStart) -> Iterator[None]:
    """Run the block with Ray: one that runs in this process already, the cluster of `start` or RAY_ADDRESS, or a local one.

    What was started or joined here is left again at the end, unless work in it was abandoned (`interrupts.leave`). A local
    Ray has no dashboard, more logical CPUs than a small machine has cores, and an object store of stated size that is
    checked to fit.

    Raises:
        EnvironmentFault: shared memory is too small, or the cluster does not answer.
    """
    # Whoever started Ray in this process ends it, too.
    if ray.is_initialized():
        yield
        return
    # A cluster by address, else a Ray of our own; whatever Ray says of a failure becomes one message.
    address = start.address or os.environ.get("RAY_ADDRESS")
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    try:
        if address:
            _join(address)
        else:
            _start(start)
    except EnvironmentFault:
        raise
    except Exception as error:  # Ray raises a bare Exception when a node does not come up in time
        ray.shutdown()
        where = f"the cluster at {address}" if address else "a local Ray"
        raise EnvironmentFault(f"{where} cannot be reached or started: {error}") from error
    logging.getLogger("ray.data").setLevel(logging.ERROR)  # the job has its own view
    try:
        yield
    finally:
        if not has_abandoned_work():
            ray.shutdown()


def _join(address: str) -> None:
    environment: dict[str, Any] = {"env_vars": ENVIRONMENT}
    if not os.environ.get("RAY_JOB_CONFIG_JSON_ENV_VAR"):  # a submitted job already carries its working directory
        environment |= {"working_dir": str(ROOT), "excludes": EXCLUDED}
    ray.init(address=address, runtime_env=environment, log_to_driver=False, logging_level="WARNING")


def _start(start: RayStart) -> None:
    store = start.object_store_mb * 2**20
    check_shared_memory(store)
    os.environ.setdefault("RAY_AUTH_MODE", "disabled")  # nothing but this machine can reach it
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_prestart_worker_first_driver", "0")  # eight idle Pythons delay the first that works
    # Its notes (init is called again, signals are not Ray's) are about what is done on purpose.
    logging.getLogger("ray._private.worker").setLevel(logging.ERROR)
    path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH", ""))))
    ray.init(
        address="local",
        num_cpus=max(start.cpus, os.cpu_count() or 1),
        object_store_memory=store,
        include_dashboard=False,
        log_to_driver=False,
        logging_level="ERROR",
        runtime_env={"env_vars": {**ENVIRONMENT, "PYTHONPATH": path}},
    )


def check_shared_memory(wanted: int, folder: Path = SHM) -> None:
    """Raise an EnvironmentFault unless `folder` (shared memory) has room for an object store of `wanted` bytes."""
    if not folder.is_dir():
        return
    free = shutil.disk_usage(folder).free
    if free < wanted:
        raise EnvironmentFault(
            f"{folder} has {free / 2**20:.0f} MiB free, the object store needs {wanted / 2**20:.0f}. Give the container "
            "more (docker run --shm-size 2g), or lower it: --set profile.ray.object_store_mb=80."
        )
