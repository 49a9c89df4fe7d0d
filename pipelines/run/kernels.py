"""Which code computes the scans of a run's stages: chosen once, by a probe on the device that they will run on.

The choice becomes an option of the part, so it stands in the recipe: a run that goes on takes the one that it began with,
and stops where that does not work any more.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

import ray
import ray.exceptions

from models import stages
from models.errors import EnvironmentFault
from models.ssm.config import AUTO, KernelName, ScanShape
from models.weights.bundle import Bundle, Part, small_files
from pipelines.config.chain import ChainSpec, Link
from pipelines.config.profile import Group, Profile
from pipelines.plan.claim import RUN, read_run
from pipelines.run.interrupts import Signals, in_thread
from pipelines.run.session import ray_session
from pipelines.storage.uri import Storage

Why = tuple[KernelName, str]
"""A kernel, and why it was taken, in words."""


@contextmanager
def settle_kernels(
    bundle: Bundle, chain: ChainSpec, profile: Profile, out: Storage, check: Callable[[], object]
) -> Iterator[Bundle]:
    """Give a block `bundle` with the kernels of the stages of `chain` named, as the run in `out` has them or by a probe.

    check: what refuses the job otherwise; it is called before Ray starts for a probe. The block then runs with that Ray.
    Raises what `check` and `ray_session` raise, and an EnvironmentFault where no node has what the stage's group asks for.
    """
    # What a run has begun with stays, and needs no Ray to be known.
    asked = [link for link in chain.links if open_scans(link)]
    kept = _read_kept(out) if asked else {}
    probed = [link for link in asked if link.name not in kept]
    if not probed:
        yield name_kernels(bundle, kept)
        return
    # A probe on the Ray that the run will use; a signal ends the wait for it.
    check()
    with ray_session(profile.ray):
        with Signals() as signals:
            found = in_thread(lambda: probe_links(probed, chain, profile), signals.check)
        yield name_kernels(bundle, kept | found)


def probe_links(links: Sequence[Link], chain: ChainSpec, profile: Profile) -> dict[str, KernelName]:
    """Return the kernel of each part of `links`, chosen by a probe on the Ray that runs, and say it."""
    found = dict[str, KernelName]()
    for link in links:
        group = next(group for group in profile.assign(chain.stages) if link.stage in group.stages)
        found[link.name] = _say(link.name, _probe(link, group, profile.start_seconds))
    return found


def choose_here(name: str, part: Part, folder: str) -> Part:
    """Return a part, whose weights lie in a bundle's folder, with its kernel named by a probe in this process, and say it."""
    package = stages.package_of(part.stage, part.kind, f"{name}.kind")
    link = Link(part.stage, name, package, part, folder, stages.NoOptions(), stages.Flow((), ()))
    shapes = open_scans(link)
    return _with_kernel(part, _choose_once(name, shapes, part.dtype)) if shapes else part


def open_scans(link: Link) -> tuple[ScanShape, ...]:
    """Return the shapes of a stage's scans whose kernel nobody has named; () for a stage without any."""
    kind = stages.import_settings(link.package)
    find = getattr(kind, "open_scans", None)
    if find is None:
        return ()
    options = stages.parse_settings(kind.Options, link.part.options, f"{link.name}.options")
    found: tuple[ScanShape, ...] = find(options, small_files(link.part, link.folder))
    return found


def name_kernels(bundle: Bundle, chosen: Mapping[str, KernelName]) -> Bundle:
    """Return `bundle` with the kernels of parts named. chosen: part -> kernel."""
    named = {name: _with_kernel(bundle.parts[name], kernel) for name, kernel in chosen.items() if name in bundle.parts}
    return bundle.model_copy(update={"parts": {**bundle.parts, **named}})


def _with_kernel(part: Part, kernel: KernelName) -> Part:
    return part.model_copy(update={"options": {**part.options, "kernel": kernel}})


def _read_kept(out: Storage) -> dict[str, KernelName]:
    """Return part -> kernel of the run in `out`; {} where none was begun."""
    recipe = (read_run(out) if out.exists(RUN) else {}).get("recipe") or {}
    kernels = {one["part"]: one["options"].get("kernel", AUTO) for one in recipe.get("stages", ())}
    return {name: kernel for name, kernel in kernels.items() if kernel != AUTO}


def _probe(link: Link, group: Group, seconds: float) -> Why:
    """Return what a process with the resources of an actor of `group` chooses; one that does not survive the kernel: torch."""
    # A task with what an actor of the group has; its like is not started again, for it would die again.
    resources: dict[str, Any] = {"num_cpus": group.cpus, "num_gpus": group.gpus or None, **group.selector}
    if group.memory_mb:
        resources["memory"] = group.memory_mb * 2**20
    task = ray.remote(_choose).options(**resources, max_retries=0)
    asked = task.remote(open_scans(link), link.part.dtype)
    # A wrong instruction ends a process, and a node that is not there is waited for.
    try:
        found: Why = ray.get(asked, timeout=seconds)
        return found
    except ray.exceptions.WorkerCrashedError:
        return "torch", "the process that tried the kernel that is installed has died of it"
    except ray.exceptions.GetTimeoutError:
        ray.cancel(asked, force=True)
        raise EnvironmentFault(
            f"the kernel of {link.name} could not be chosen within {seconds} s: the machine is busy, or there is no node with "
            "the cpus and gpus that the profile's groups ask for. Lower those, raise profile.start_seconds, or name a kernel: "
            f"--set {link.name}.options.kernel=torch."
        ) from None


def _choose(shapes: Sequence[ScanShape], dtype: str) -> Why:
    """Return the fastest kernel for scans of `shapes` that is right, on the device of this process."""
    from models.ssm.kernels import choose  # the driver of a cluster needs no torch
    from models.weights.networks import DTYPES, accelerator

    found = choose(accelerator(), shapes, DTYPES[dtype])
    return found.name, found.why


@lru_cache
def _choose_once(name: str, shapes: tuple[ScanShape, ...], dtype: str) -> KernelName:
    """Return what this process chooses, and say it once in its life."""
    return _say(name, _choose(shapes, dtype))


def _say(name: str, found: Why) -> KernelName:
    """Say what was chosen for a part, and return it."""
    kernel, why = found
    print(f"{name}: scans by {kernel} ({why})", flush=True)
    return kernel
