"""A rendered block in every layout, as the world writes it."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from pipelines.config.world import WorldJob
from pipelines.readers.world_layouts import finish_files, write_files
from pipelines.storage.uri import Storage
from pipelines.world import Renderer
from tests.pipelines.readers.layouts import SIZE

DOMAINS = {"facesynthetics": "field", "tfake": "field", "sejong": "lab", "charlotte": "field"}


def world_job(layout: str, domain: str) -> WorldJob:
    return WorldJob(
        domain=domain, split="test", count=4, size=SIZE, views=2, conditions=("warm", "cold"), layout=layout  # type: ignore[arg-type]
    )  # fmt: skip


@pytest.fixture(scope="session")
def block() -> pa.Table:
    """Two views of a person in two conditions, rendered; the first is made a profile, which decides what CHARLOTTE labels."""
    table = Renderer(world_job("record", "field"), [0], threads=1)({"id": np.array([0])})
    poses = [[-60.0, 0.0, 0.0], [-60.0, 0.0, 0.0], [10.0, 0.0, 0.0], [10.0, 0.0, 0.0]]
    return table.set_column(
        table.schema.get_field_index("pose"), table.schema.field("pose"), pa.array(poses, pa.list_(pa.float32(), 3))
    )


@pytest.fixture(scope="session")
def written(block: pa.Table, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The block in every layout."""
    folders = {}
    for layout, domain in DOMAINS.items():
        folders[layout] = tmp_path_factory.mktemp(layout)
        job, storage = world_job(layout, domain), Storage(folders[layout])
        write_files(block, job, storage)
        finish_files(job, storage)
    return folders


@pytest.fixture
def folder(written: dict[str, Path], tmp_path: Path) -> Callable[[str], Path]:
    """A copy of a layout's folder, to be spoilt."""

    def copy(layout: str) -> Path:
        shutil.copytree(written[layout], tmp_path / layout)
        return tmp_path / layout

    return copy
