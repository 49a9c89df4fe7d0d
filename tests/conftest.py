"""What every test runs under: no model hub, nobody else's cluster, one thread per library, one local Ray for all."""

import gc
import os

# Set before torch, Ray or a hub client is imported, and inherited by Ray's workers and vLLM's engines.
os.environ.pop("RAY_ADDRESS", None)
os.environ.update(
    RAY_AUTH_MODE="disabled",
    RAY_DATA_DISABLE_PROGRESS_BARS="1",
    RAY_TRAIN_V2_ENABLED="1",
    RAY_prestart_worker_first_driver="0",  # as a run's own Ray: no idle Python for each logical CPU
    RAY_USAGE_STATS_ENABLED="0",
    HF_HUB_OFFLINE="1",
    HF_DATASETS_OFFLINE="1",
    TRANSFORMERS_OFFLINE="1",
    TOKENIZERS_PARALLELISM="false",
    VLLM_NO_USAGE_STATS="1",
    DO_NOT_TRACK="1",
    NO_ALBUMENTATIONS_UPDATE="1",
    MPLBACKEND="Agg",
    OMP_NUM_THREADS="1",
)

from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import settings

gc.disable()  # until all is imported: looking for garbage among modules, which stay, takes a sixth of the time
settings.register_profile("tests", deadline=None)  # a busy machine is no failure
settings.load_profile("tests")
BOTH = pytest.StashKey[list[str]]()
"""Tests that are marked slow and soak, of all that were found."""


@pytest.fixture(scope="session")
def local_ray() -> Iterator[Any]:
    """One Ray for the session, eight logical CPUs on any machine: Ray Data waits for ever when actors outnumber CPUs."""
    import ray

    from pipelines.run.session import SERVE, front_environment, init_twice

    os.environ.update(SERVE | front_environment())
    init_twice(
        address="local",
        num_cpus=8,
        object_store_memory=300 * 2**20,
        include_dashboard=False,
        log_to_driver=False,
        configure_logging=True,
        logging_level="WARNING",
    )
    yield ray
    ray.shutdown()


@pytest.fixture
def of_two_tiers(request: pytest.FixtureRequest) -> list[str]:
    return request.config.stash[BOTH]


@pytest.hookimpl(tryfirst=True)  # before `-m` takes some away
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Tests without a marker come first, so that a broken stage shows within a minute; `gpu` tests need a device."""
    config.stash[BOTH] = [item.nodeid for item in items if {"slow", "soak"} <= set(item.keywords)]
    if any("gpu" in item.keywords for item in items):
        import torch

        if not torch.cuda.is_available():
            for item in items:
                if "gpu" in item.keywords:
                    item.add_marker(pytest.mark.skip(reason="no CUDA device"))
    items.sort(key=lambda item: ("slow" in item.keywords) + 2 * ("soak" in item.keywords))


def pytest_collection_finish() -> None:
    """From here on garbage is looked for, but not among what was imported."""
    gc.freeze()
    gc.enable()
