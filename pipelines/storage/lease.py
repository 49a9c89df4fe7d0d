"""One driver at a time: a lease on an output, kept alive by a heartbeat.

Leases are numbered. To take over, a driver creates the file of the next number, which only one can; the highest number
holds, so a driver that was given up sees that it lost. A lease may be taken over when its process on this machine has
ended, and from another machine when there was no heartbeat for `EXPIRY` seconds.
"""

import json
import os
import socket
import threading
import time
from contextlib import suppress
from types import TracebackType
from typing import Any

from models.config import parse_json
from models.errors import EnvironmentFault, UserError
from pipelines.storage.uri import Storage

FOLDER = "_lease"
HEARTBEAT, EXPIRY = 10.0, 60.0


class Lease:
    """Holds `out` inside a `with` block; `check` raises once another driver has taken over."""

    def __init__(self, out: Storage, heartbeat: float = HEARTBEAT, expiry: float = EXPIRY) -> None:
        self.out, self.heartbeat, self.expiry = out, heartbeat, expiry
        self.number = 0
        self.lost = ""
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="lease", daemon=True)

    def __enter__(self) -> "Lease":
        # Nobody who lives may hold it.
        number, holder = self._newest()
        if holder and self._alive(holder):
            raise UserError(
                f"{self.out.uri} is being written by process {holder['pid']} on {holder['host']} (last seen "
                f"{time.time() - holder['seen']:.0f} s ago). Wait for it, stop it, or choose another --out."
            )
        # Of several who take over only one can create the next number.
        self.number = number + 1
        if not self.out.create(_name(self.number), self._content()):
            raise UserError(
                f"{self.out.uri} was taken by another driver just now. Wait for it or choose another --out."
            )
        # A storage that takes the same name twice would let two writers win.
        if not self.out.local and self.out.create(_name(self.number), self._content()):
            self.out.remove(_name(self.number))
            raise UserError(
                f"{self.out.uri}: the storage ignores If-None-Match, so of two writers of a partition neither would be refused. "
                "Take a bucket with conditional writes (as Amazon S3 has), or a folder that all nodes mount."
            )
        # Leases of those who are gone are cleared away.
        for older in self._numbers():
            if older < self.number:
                self.out.remove(_name(older))
        self._thread.start()
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._ended.set()
        self._thread.join()
        if not self.lost:
            with suppress(UserError):  # a lease that cannot be removed expires; what ended the run is said, not this
                self.out.remove(_name(self.number))

    def check(self) -> None:
        """Raise an EnvironmentFault if the lease was lost."""
        if self.lost:
            raise EnvironmentFault(self.lost)

    def _beat(self) -> None:
        last = time.monotonic()  # a clock that is set meanwhile loses no lease
        while not self._ended.wait(self.heartbeat):
            # A higher number means that another driver has taken over; else the time of this one is renewed.
            try:
                if max(self._numbers(), default=self.number) > self.number:
                    self.lost = f"{self.out.uri} was taken over by another driver; this one stops."
                    return
                self.out.write(_name(self.number), self._content())
                last = time.monotonic()
            except Exception as error:  # storage may come back before the lease expires
                if time.monotonic() - last > self.expiry:
                    self.lost = f"{self.out.uri} could not be reached for {self.expiry:.0f} s: {error}"
                    return

    def _numbers(self) -> list[int]:
        names = self.out.list(FOLDER)
        return sorted(int(os.path.basename(name).removesuffix(".json")) for name in names if name.endswith(".json"))

    def _newest(self) -> tuple[int, dict[str, Any] | None]:
        numbers = self._numbers()
        if not numbers:
            return 0, None
        try:
            return numbers[-1], parse_json(self.out.read(_name(numbers[-1])))
        except (FileNotFoundError, ValueError):  # released, or being rewritten, this very moment
            return numbers[-1], None

    def _alive(self, holder: dict[str, Any]) -> bool:
        # A busy machine may be late with its heartbeat, a process is there or not; without /proc nobody knows of it.
        if holder["host"] == _host() and holder["born"]:
            return _running(holder["pid"], holder["born"])
        # Seen later than now by more than that: a clock was wrong, and would keep everybody out until it is right.
        return abs(time.time() - holder["seen"]) < self.expiry

    def _content(self) -> bytes:
        pid = os.getpid()
        return json.dumps({"host": _host(), "pid": pid, "born": _born(pid), "seen": time.time()}).encode()


def find_driver(out: Storage) -> str:
    """Return who writes `out` in words, "" where no driver lives."""
    lease = Lease(out)
    holder = lease._newest()[1]
    if holder is None or not lease._alive(holder):
        return ""
    return f"process {holder['pid']} on {holder['host'].split('/')[0]}"


def _name(number: int) -> str:
    return f"{FOLDER}/{number:06d}.json"


def _host() -> str:
    """Name this machine and this boot: a container that starts again under an old name is another host."""
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
            return f"{socket.gethostname()}/{file.read().strip()[:8]}"
    except OSError:
        return socket.gethostname()


def _running(pid: int, born: str) -> bool:
    return _born(pid) == born


def _born(pid: int) -> str:
    """Return when process `pid` started, in the kernel's ticks, so that a number used again is another process."""
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii") as file:
            fields = file.read().rsplit(")", 1)[1].split()
    except OSError:
        return ""
    return "" if fields[0] == "Z" else fields[19]
