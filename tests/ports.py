"""A port for a service of a test."""

import random
import socket


def free_port() -> int:
    """Return a port that nobody listens at, below those that the system gives to connections: of these one may be taken before
    the service begins to listen. Raises OSError where there is none."""
    # Property tests seed Python's generator alike in every process.
    for port in random.SystemRandom().sample(range(18000, 28000), 100):
        with socket.socket() as tried:
            try:
                tried.bind(("127.0.0.1", port))
            except OSError:
                continue
        return port
    raise OSError("none of a hundred ports is free")
