"""What this machine is, measured: cores, memory and disk as a container limits them, and how quick its arithmetic is."""

import os
import shutil
import time
from pathlib import Path

import psutil

CGROUP = Path("/sys/fs/cgroup")


def usable_cores(cgroup: Path = CGROUP) -> float:
    """Cores this process may use: its affinity, cut by the container's CPU quota (cgroup v2 `cpu.max`)."""
    cores = float(len(os.sched_getaffinity(0)))
    try:
        quota, period = (cgroup / "cpu.max").read_text().split()
    except (OSError, ValueError):
        return cores
    return cores if quota == "max" else min(cores, int(quota) / int(period))


def memory_limit(cgroup: Path = CGROUP) -> int:
    """Bytes of memory this process may use: the machine's, cut by the container's limit (cgroup v2 `memory.max`)."""
    total = int(psutil.virtual_memory().total)
    try:
        limit = (cgroup / "memory.max").read_text().strip()
    except OSError:
        return total
    return total if limit == "max" else min(total, int(limit))


def free_bytes(path: str | Path) -> int:
    """Free bytes on the disk of `path`, or of its nearest parent that exists."""
    place = Path(path).absolute()
    while not place.exists():
        place = place.parent
    return shutil.disk_usage(place).free


def has_nvidia(devices: Path = Path("/dev")) -> bool:
    """Whether the driver of an NVIDIA GPU has made its devices here."""
    return any(devices.glob("nvidia[0-9]*"))


def missing_folders(path: str | Path) -> list[Path]:
    """Return `path` and those of its parents that do not exist, the deepest first."""
    place = Path(path).absolute()
    return [folder for folder in (place, *place.parents) if not folder.exists()]


def matmul_seconds(dtype: str, device: str, side: int, repeats: int = 3) -> float:
    """Seconds of one [side, side] matrix product in `dtype` ("float32" or "bfloat16") on `device`, the best of `repeats`."""
    import torch

    matrix = torch.randn(side, side, device=device).to(getattr(torch, dtype))
    best = float("inf")
    for _ in range(repeats + 1):  # the first one warms up, and the best of the others is not it
        start = time.perf_counter()
        product = matrix @ matrix
        float(product[0, 0])  # waits for a GPU
        best = min(best, time.perf_counter() - start)
    return best
