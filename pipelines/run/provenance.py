"""Who ran what, when, where and with which code. A job keeps one small file per launch, outside of its digest."""

import json
import os
import platform
import subprocess
import sys
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from pydantic import BaseModel

from models.weights.store import ROOT
from pipelines.config.profile import Profile
from pipelines.storage.uri import Storage

LAUNCHES, TIME = "_plan/launches", "%Y-%m-%dT%H:%M:%SZ"
COMMIT = "THERMAPAIR_COMMIT"
PACKAGES = ("torch", "ray", "diffusers", "onnxruntime", "vllm", "pyarrow")


def write_launch(out: Storage, job: BaseModel, profile: Profile) -> None:
    """Write the next launch file: time, command, git commit, packages, hardware, profile, and what was asked for."""
    launch = {
        "time": time.strftime(TIME, time.gmtime()),
        "command": sys.argv,
        "commit": commit_of(),
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in PACKAGES},
        "profile": profile.model_dump(mode="json"),
        "hardware": hardware(),
        "job": job.model_dump(mode="json"),
    }
    content = json.dumps(launch, indent=1).encode()
    number = len(out.list(LAUNCHES))
    while not out.create(f"{LAUNCHES}/{number:04d}.json", content):
        number += 1


def commit_of() -> str:
    """Return the commit of the checkout, with `+` where files were changed since; empty outside of one.

    What travelled to a cluster is no checkout any more: `COMMIT` in its environment tells.
    """
    try:
        commit = _git("rev-parse", "HEAD")
        return commit + ("+" if _git("status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.CalledProcessError):
        return os.environ.get(COMMIT, "")


CPUINFO = Path("/proc/cpuinfo")
BFLOAT16 = {"avx512_bf16", "amx_bf16", "bf16"}
"""What Linux calls a processor's own arithmetic in bfloat16: Intel's and AMD's, and ARM's."""


def emulates_bfloat16() -> bool:
    """Return whether the processor has no bfloat16 of its own, which is slower than float32 then; False where nothing says."""
    try:
        return BFLOAT16.isdisjoint(CPUINFO.read_text(encoding="utf-8", errors="replace").split())
    except OSError:
        return False


def hardware() -> str:
    """Return the processor, and the GPU where there is one, in words."""
    try:
        lines = CPUINFO.read_text(encoding="utf-8", errors="replace").splitlines()
        name = next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        name = platform.processor() or platform.machine()
    words = f"{len(os.sched_getaffinity(0))} x {name}"
    import torch  # slow to import, and the rest of this file is for the command line, too

    if torch.cuda.is_available():
        words += f", {torch.cuda.device_count()} x {torch.cuda.get_device_name(0)}"
    return words


def _git(*arguments: str) -> str:
    return subprocess.run(
        ["git", "-C", str(ROOT), *arguments], check=True, capture_output=True, text=True
    ).stdout.strip()


def _version(name: str) -> str:
    for candidate in (name, f"{name}-cpu", f"{name}-gpu"):
        try:
            return version(candidate)
        except PackageNotFoundError:
            continue
    return ""
