"""An S3 server on this machine, for benchmarks."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

from tests.pipelines.storage.faulty import Faulty


@contextmanager
def s3_server() -> Iterator[Faulty]:
    """Yield the misfortunes of an S3 server on this machine, with the bucket `pairs`, that all processes below find."""
    import boto3
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    host, port = server.get_host_and_port()
    os.environ |= {
        "AWS_ENDPOINT_URL": f"http://{host}:{port}", "AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
    }  # fmt: skip
    boto3.client("s3").create_bucket(Bucket="pairs")
    server._server.app = faulty = Faulty(server._server.app)
    yield faulty
    server.stop()
