"""A small bundle for the machinery's tests: its stages are deterministic arithmetic, so that every byte can be foretold."""

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

sys.path.insert(0, str(Path(__file__).parent.parent.parent))  # workers import the stages of these tests by name

from models.weights.bundle import Bundle
from pipelines.config.job import GenerateJob
from tests.pipelines import small, worlds


@pytest.fixture
def kinds() -> Iterator[None]:
    """The small kinds, in the table of stages."""
    with small.registered():
        yield


@pytest.fixture
def bundle(tmp_path: Path, kinds: None) -> Bundle:
    """The small bundle, its weights sealed in a temporary folder."""
    return small.write_bundle(tmp_path / "bundle")


@pytest.fixture
def job() -> Callable[..., GenerateJob]:
    """A job of 6 people x 4 views in partitions of 8 samples; `path=value` words change it."""
    return small.job


@pytest.fixture(scope="session")
def rendered(tmp_path_factory: pytest.TempPathFactory) -> list[pa.Table]:
    """The blocks of the tiny world: four people, two views, warm and cold, 32 px, two people a block."""
    return worlds.render_once(tmp_path_factory)


@pytest.fixture(scope="session")
def tiny_world(rendered: list[pa.Table], tmp_path_factory: pytest.TempPathFactory) -> str:
    """The folder of the tiny world's shards, which no test changes."""
    return worlds.write(tmp_path_factory.mktemp("world"), rendered)


@pytest.fixture(scope="session")
def s3_server() -> Iterator[Any]:
    """A local S3 server with the bucket `pairs`; one for all, for fsspec keeps its connections."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    host, port = server.get_host_and_port()
    before = dict(os.environ)
    os.environ.update(
        AWS_ENDPOINT_URL=f"http://{host}:{port}",
        AWS_ACCESS_KEY_ID="test",
        AWS_SECRET_ACCESS_KEY="test",
        AWS_DEFAULT_REGION="us-east-1",
    )
    import boto3
    import s3fs

    s3fs.S3FileSystem.clear_instance_cache()  # connections to a server of other tests, which has ended
    boto3.client("s3").create_bucket(Bucket="pairs")
    yield server
    s3fs.S3FileSystem.clear_instance_cache()
    os.environ.clear()
    os.environ.update(before)
    server.stop()


@pytest.fixture(scope="session")
def s3(s3_server: Any) -> str:
    """The URI of a folder in a bucket on a local S3 server."""
    return "s3://pairs/run"
