"""A small bundle for the machinery's tests: its stages are deterministic arithmetic, so that every byte can be foretold."""

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent.parent.parent))  # workers import the stages of these tests by name

from models.bundle import Bundle
from pipelines import generate
from pipelines.job import GenerateJob
from tests.pipelines import small


@pytest.fixture
def bundle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bundle:
    """The small bundle, its weights sealed in a temporary folder, its stages in the graph's place."""
    monkeypatch.setattr(generate, "STAGES", small.STAGES)
    return small.write_bundle(tmp_path / "bundle")


@pytest.fixture
def job() -> Callable[..., GenerateJob]:
    """A job of 6 people x 4 views in partitions of 8 samples; `path=value` words change it."""
    return small.job
