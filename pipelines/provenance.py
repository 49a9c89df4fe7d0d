"""Who ran what, when and with which code: one small file per launch beside the output, outside of its digest."""

import json
import platform
import subprocess
import sys
import time
from importlib.metadata import PackageNotFoundError, version

from models.bundle import ROOT, weights_digest
from pipelines.plan import Plan
from pipelines.profile import Profile

LAUNCHES = "_plan/launches"
PACKAGES = ("torch", "ray", "diffusers", "onnxruntime", "vllm", "pyarrow")


def write_launch(plan: Plan, profile: Profile) -> None:
    """Write the next launch file: time, command, git commit, packages, profile, digests of the weights."""
    parts = plan.bundle.parts()
    launch = {
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "command": sys.argv,
        "commit": git_commit(),
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in PACKAGES},
        "profile": profile.model_dump(mode="json"),
        "weights": {name: weights_digest(part, plan.bundle) for name, part in parts.items()},
    }
    content = json.dumps(launch, indent=1).encode()
    number = len(plan.out.list(LAUNCHES))
    while not plan.out.create(f"{LAUNCHES}/{number:04d}.json", content):
        number += 1


def git_commit() -> str:
    """Return the commit of the checkout, with `+` where files were changed since; empty outside of one."""
    try:
        commit = _git("rev-parse", "HEAD")
        return commit + ("+" if _git("status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.CalledProcessError):
        return ""


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
