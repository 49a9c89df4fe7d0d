"""A Ray cluster of several nodes on this machine, real drivers on it, and a look at their processes."""

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import psutil
import yaml

from models.stages import CAPTIONS
from models.weights.bundle import load_bundle
from models.weights.store import ROOT
from pipelines.storage.commits import list_finished
from pipelines.storage.uri import Storage
from tests.benchmarks.scale.watch import command_of

MARK = "THERMAPAIR_FAULTS"
"""A variable that every process below this one has, so that none is left unseen."""
LABELS = {"thermapair.io/group": "stages"}
PROFILE = {
    "name": "faults",
    "groups": [
        {"stages": ["visible", "parser", "thermal", "faces", "gates", "landmarks"], "actors": [1, 3], "cpus": 1,
         "labels": LABELS},
    ],
    "writer": {"tasks": 2, "cpus": 1, "threads": 1},
    "captions": {"stream": True, "threads": 1, "batch": 8},
    "ray": {"stall_minutes": 2},
    "start_seconds": 240,
}  # fmt: skip
JOB = ("captions=template", "identities.count=80", "partition_samples=16", "stop.look=0")
"""640 samples, 1,280 pairs in 40 partitions of two people each."""
CPUS = 3
SHIPPED = "RAY_JOB_CONFIG_JSON_ENV_VAR"
"""With it a driver does not send its code: nodes of one machine share the folder where it would be unpacked, and each that comes
empties that folder first, under the others' feet. They have the code here."""
WORK = ("MapWorker", "MapBatches", "ReadRange", "Engine", "CaptionGate")
"""What the titles of processes say that work for a run."""


class Launch(NamedTuple):
    """A driver, and where what it says goes."""

    process: subprocess.Popen[bytes]
    log: Path

    def wait(self, seconds: float = 400) -> int:
        """Return the exit code; a driver that hangs is an error with its last words."""
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise AssertionError(f"no end within {seconds:.0f} s: {self.tail()}") from None

    def tail(self) -> str:
        """Return the last of what it said."""
        return self.log.read_text(errors="replace")[-2000:]


class Bed:
    """A head without CPUs, where drivers live, and nodes that work. Used as a context; its folder holds logs and Ray's files."""

    def __init__(self, folder: Path, nodes: int = 2, **options: Any) -> None:
        self.folder, self.nodes, self.options, self.launches = folder, nodes, options, 0
        self.drivers: list[subprocess.Popen[bytes]] = []
        self.cluster: Any = None
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "profile.yaml").write_text(yaml.safe_dump(PROFILE))
        (folder / "engine.yaml").write_text(yaml.safe_dump(engine_bundle()))

    def __enter__(self) -> "Bed":
        # Ray's sockets need a short folder; the address of this cluster is nobody else's business.
        temporary = f"/tmp/faults-{os.getpid()}"
        Path(temporary).mkdir(exist_ok=True)
        os.environ |= {
            MARK: str(os.getpid()), "RAY_TMPDIR": temporary, "RAY_AUTH_MODE": "disabled", "RAY_USAGE_STATS_ENABLED": "0",
            "RAY_prestart_worker_first_driver": "0", "PYTHONPATH": str(ROOT),
        }  # fmt: skip
        os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # each of many workers would compile the project anew
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Start the head and its nodes."""
        from ray.cluster_utils import Cluster

        head = {"num_cpus": 0, "include_dashboard": False}
        self.cluster = _twice(lambda: Cluster(initialize_head=True, head_node_args=head, shutdown_at_exit=True))
        for _ in range(self.nodes):
            self.add_node()

    def stop(self) -> None:
        """End all of the cluster, and drivers that are still there."""
        for driver in self.drivers:
            driver.kill()
            driver.wait()
        self.drivers.clear()
        if self.cluster is not None:
            with suppress(Exception):  # nodes whose processes were killed
                self.cluster.shutdown()
        self.cluster = None

    def add_node(self, **options: Any) -> Any:
        """Add a node that works, and return it."""
        given = {"num_cpus": CPUS, "labels": LABELS, **self.options, **options}
        return _twice(lambda: self.cluster.add_node(**given))

    def mend(self) -> None:
        """Have as many nodes that work as at the start, and nothing on them that works for a run that has ended."""
        for node in list(self.cluster.worker_nodes):
            if not node.live_processes() or any(kind == "raylet" for kind, _ in node.dead_processes()):
                self.remove(node)
        while len(self.workers()) > self.nodes:
            self.remove(self.workers()[-1])
        while len(self.workers()) < self.nodes:
            self.add_node()

    def workers(self) -> list[Any]:
        """Return the nodes that work, in the order in which they came."""
        return sorted(self.cluster.worker_nodes, key=lambda node: raylet_of(node).pid)

    def remove(self, node: Any) -> None:
        """End a node at once, as when its machine is gone."""
        self.cluster.remove_node(node, allow_graceful=False)

    def drive(self, out: str, *edits: str, engine: bool = False) -> Launch:
        """Run `thermapair generate` on the cluster, in a process of its own; `engine`: with captions by a language model."""
        bundle, *own = [str(self.folder / "engine.yaml"), "captions=llm"] if engine else ["null"]
        given = [word for edit in (*JOB, *edits, *own) for word in ("--set", edit)]
        command = command_of(
            "generate", "--bundle", bundle, "--profile", str(self.folder / "profile.yaml"), "--job", "pairs", "--out", out, *given
        )  # fmt: skip
        return self.launch(command)

    def launch(self, command: list[str]) -> Launch:
        """Run a command whose Ray is the cluster."""
        self.launches += 1
        log = self.folder / f"launch-{self.launches:03d}.log"
        environment = {**os.environ, "RAY_ADDRESS": self.cluster.address, SHIPPED: json.dumps({"runtime_env": {}})}
        with log.open("wb") as said:
            # A driver hears a hangup, whoever started the benchmark with nohup.
            hear = partial(signal.signal, signal.SIGHUP, signal.SIG_DFL)
            process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=said, stderr=said, preexec_fn=hear)
        self.drivers.append(process)
        return Launch(process, log)

    def processes(self, *titles: str, node: Any = None) -> list[psutil.Process]:
        """Return the workers whose title holds one of `titles`, of one node or of all."""
        found = []
        for one in [node] if node else self.cluster.list_all_nodes():
            with suppress(psutil.Error):
                for child in psutil.Process(raylet_of(one).pid).children(recursive=True):
                    with suppress(psutil.Error):
                        if any(title in " ".join(child.cmdline()) for title in titles):
                            found.append(child)
        return found

    def leftovers(self, seconds: float = 30) -> list[str]:
        """Return what still works for a run after its driver's end, given so long to go."""
        until = time.monotonic() + seconds
        while (left := self.processes(*WORK)) and time.monotonic() < until:
            time.sleep(0.5)
        return [" ".join(process.cmdline())[:80] for process in left]


def engine_bundle() -> dict[str, Any]:
    """Return the null bundle with the starter's language model, as the content of its file."""
    content = yaml.safe_load((ROOT / "models" / "bundles" / "null.yaml").read_text())
    weights = str(load_bundle("starter").main(CAPTIONS))
    content["parts"][CAPTIONS] = {"kind": "vllm", "weights": weights, "licence": "apache-2.0"}
    return dict(content)


def _twice(start: Callable[[], Any]) -> Any:
    """Return what `start` starts, tried once more: Ray gives a node 30 seconds to come up, which a busy machine exceeds."""
    try:
        return start()
    except Exception:  # a bare one where the time is over
        return start()


def raylet_of(node: Any) -> subprocess.Popen[bytes]:
    """Return the process of a node's raylet."""
    return node.all_processes["raylet"][0].process


def wait_for(out: Storage, commits: int, launch: Launch, seconds: float = 300) -> int:
    """Return the number of finished partitions once they are `commits`, or the driver has ended."""
    until = time.monotonic() + seconds
    while (done := len(list_finished(out))) < commits and launch.process.poll() is None:
        assert time.monotonic() < until, f"{done} of {commits} partitions after {seconds:.0f} s: {launch.tail()}"
        time.sleep(0.1)
    return done


def remaining(seconds: float = 60) -> list[str]:
    """Return the commands of what is left below this process after a cluster's end, given so long to go.

    Ray's agents of a node that was ended at once see for themselves, by and by, that it is gone.
    """
    until = time.monotonic() + seconds
    while (left := list(marked())) and time.monotonic() < until:
        time.sleep(0.5)
    return [_command(process) for process in left]


def _command(process: psutil.Process) -> str:
    """Return the start of a process's command, or its number where it has gone by now."""
    with suppress(psutil.Error):
        return " ".join(process.cmdline())[:80]
    return str(process.pid)


def marked() -> Iterator[psutil.Process]:
    """Yield the processes of this machine, but this one, that were started below it, however they came to be."""
    word = f"{MARK}={os.getpid()}".encode()
    for process in psutil.process_iter():
        with suppress(OSError, psutil.Error):
            own = word in Path(f"/proc/{process.pid}/environ").read_bytes().split(b"\0")
            if own and process.pid != os.getpid() and process.status() != psutil.STATUS_ZOMBIE:
                yield process
