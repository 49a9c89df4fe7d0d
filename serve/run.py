"""The service in the foreground, on a Ray of its own or a cluster's."""

import socket
import time

import click
from ray import serve as ray_serve

from models.errors import EnvironmentFault, Interrupted
from pipelines.run.faults import cause_of
from pipelines.run.interrupts import Signals, in_thread
from pipelines.run.session import named_cluster, ray_session
from serve.app import Settings, check_host, start


def serve_until_stopped(settings: Settings, host: str, port: int) -> None:
    """Start the service, say where it is, and stop it on Ctrl-C or SIGTERM.

    Raises:
        UserError: a file is wrong, or other machines are to reach it without an API key.
        EnvironmentFault: Ray, a model or the port failed.
        Interrupted: stopped before it was ready.
    """
    check_host(host)
    # On a Ray of its own, or the cluster's that the profile names; a signal ends the start, too.
    profile = settings.load().profile
    if not named_cluster(profile.ray.address):
        check_port(host, port)
    with Signals() as signals, ray_session(profile.ray):
        signals.watch()

        def watch() -> None:
            if signals.name:
                raise Interrupted(f"stopped by {signals.name} before the service was ready.")

        try:
            in_thread(lambda: start(settings, host, port), watch)
        except RuntimeError as error:
            lines = str(cause_of(error)).strip().splitlines()
            raise EnvironmentFault(f"the service did not start: {lines[-1] if lines else error}") from error
        # It answers until a signal comes.
        click.echo(f"ready: http://{host}:{port}/docs (Ctrl-C stops)")
        while not signals.name:
            time.sleep(0.25)
        ray_serve.shutdown()


def check_port(host: str, port: int) -> None:
    """Raise an EnvironmentFault where nobody can listen at `host` and `port` of this machine."""
    try:
        family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind) as tried:
            tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            tried.bind(address)
            tried.listen(1)
    except OSError as error:
        reason = error.strerror or error
        raise EnvironmentFault(
            f"the service cannot listen at {host}:{port} ({reason}): end what listens there, or give another --port."
        ) from None
