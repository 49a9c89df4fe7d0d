"""A small bundle for the tests of partitions, commits, redraws and resumes, its jobs, and how they are run."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from safetensors.numpy import save_file

from models.config import apply_edit, check
from models.stages import STAGES
from models.weights.bundle import Bundle, load_bundle
from models.weights.store import ROOT, seal
from pipelines.captions.write import write_captions
from pipelines.config.job import GenerateJob
from pipelines.config.profile import Profile
from pipelines.config.request import check_request
from pipelines.generate import generate
from pipelines.plan.extend import write_generate_plan
from pipelines.plan.generate import GeneratePlan
from pipelines.plan.thermalize import ThermalizePlan
from pipelines.plan.translate import TranslatePlan
from pipelines.report.summary import Report
from pipelines.report.write import finish as finish_report
from pipelines.run.chain import Chain
from pipelines.run.driver import end_run
from pipelines.run.writer import write_partition
from pipelines.storage.commits import list_finished
from pipelines.storage.uri import Storage
from tests.pipelines.small_stages import KIND, KINDS, SIZE

PARTS = ("captions", *KINDS)
TWO_ACTORS = "groups=[{stages: [visible, parser, thermal, faces, gates], actors: [1, 2], cpus: 1}]"
"""An edit of the tests' profile, which has one actor: by two, partitions are finished in any order."""


def register() -> None:
    """Enter the kinds into the table of stages, each by one line."""
    for stage, kind in KINDS.items():
        STAGES[stage][KIND] = f"{kind.__module__}:{kind.__name__}"


@contextmanager
def registered() -> Iterator[None]:
    """Have the kinds in the table of stages for a while, and leave it as it was."""
    before = {stage: dict(kinds) for stage, kinds in STAGES.items()}
    register()
    try:
        yield
    finally:
        for stage, kinds in before.items():
            STAGES[stage].clear()
            STAGES[stage].update(kinds)


def write_bundle(folder: Path, **options: object) -> Bundle:
    """Write a bundle of sealed part folders below `folder`; `options` go to the visible stage."""
    parts: dict[str, dict[str, Any]] = {}
    for name in PARTS:
        part = folder / name
        part.mkdir(parents=True, exist_ok=True)
        (part / "weights.bin").write_bytes(name.encode() * 100)
        kind = "vllm" if name == "captions" else KIND
        parts[name] = {"kind": kind, "weights": name, "licence": "apache-2.0", "batch": 4}
    parts["visible"]["options"] = options
    random = np.random.default_rng(0)
    components = np.linalg.qr(random.normal(size=(512, 64)))[0].T
    reference = {
        "mean": random.normal(size=512) * 0.002,
        "components": components,
        "scales": np.full(64, 0.1),
        "probe.sex.weight": components[:2] * 5,
        "probe.sex.bias": np.zeros(2),
    }
    save_file(
        {k: np.ascontiguousarray(v, np.float32) for k, v in reference.items()},
        folder / "faces" / "reference.safetensors",
    )
    for name in PARTS:
        seal(folder / name)
    path = folder / "bundle.yaml"
    path.write_text(yaml.safe_dump({"name": KIND, "size": SIZE, "parts": parts}))
    return load_bundle(str(path))


def with_part(bundle: Bundle, name: str, **values: object) -> Bundle:
    """Write the bundle's file anew with a part added or replaced, and load it."""
    path = Path(bundle.folder, "bundle.yaml")
    content = yaml.safe_load(path.read_text())
    content["parts"][name] = values
    path.write_text(yaml.safe_dump(content))
    return load_bundle(str(path))


def job(*edits: str) -> GenerateJob:
    """Return the tests' job with `key=value` edits."""
    content: dict[str, object] = {
        "name": "test",
        "seed": 3,
        "identities": {"source": "reference", "count": 6},
        "views": {"per_identity": 4},
        "captions": "template",
        "gates": {"attempts": 3, "face_area": [0.05, 0.9]},
        "partition_samples": 8,
    }
    for edit in edits:
        apply_edit(content, edit)
    return check(GenerateJob, content, "job")


def profile(*edits: str) -> Profile:
    """Return a profile for the tests' Ray with `key=value` edits."""
    content: dict[str, object] = {
        "name": "test",
        "groups": [{"stages": ["visible", "parser", "thermal", "faces", "gates"], "cpus": 1}],
        "writer": {"tasks": 2, "cpus": 1, "threads": 2},
        "ray": {"cpus": 8, "object_store_mb": 100},
    }
    for edit in edits:
        apply_edit(content, edit)
    return check(Profile, content, "profile")


def make(wanted: GenerateJob, bundle: Bundle, out: Path | str, *edits: str) -> Report:
    """Run a job on Ray; edits are of the profile."""
    return generate(check_request(wanted, bundle, profile(*edits)), Storage(out))


def start_driver(script: str, *arguments: str) -> subprocess.Popen[str]:
    """Run `script`, which drives a job, in a process of its own that joins the tests' Ray; its workers find the tests, too."""
    import ray

    joined = JOIN.format(address=ray.get_runtime_context().gcs_address)
    command = [sys.executable, "-c", joined + script, *arguments]
    return subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True, start_new_session=True)


JOIN = """
import os, ray
storage = {{name: value for name, value in os.environ.items() if name.startswith("AWS_")}}  # the nodes know none of it
ray.init(address="{address}", log_to_driver=False, logging_level="ERROR", runtime_env={{"env_vars": storage}})
"""


DRIVER = """
import sys
from models.weights.bundle import load_bundle
from models.errors import UserError
from pipelines.run.interrupts import leave
from tests.pipelines import small

small.register()
try:
    small.make(small.job("identities.count=16"), load_bundle(sys.argv[1]), sys.argv[2], small.TWO_ACTORS)
except UserError as error:
    print(error, file=sys.stderr)
    leave(error.exit_code)
"""
"""Drives a job of 16 people: arguments are the bundle's file and the output."""


def finish(plan: GeneratePlan) -> Report:
    """End a run as the driver does, without Ray."""
    return end_run(plan, finish_report)


def make_here(wanted: GenerateJob, bundle: Bundle, out: Path | str) -> GeneratePlan:
    """Run what a job lacks in this process, by the same stages and the same writer."""
    plan = write_generate_plan(wanted, bundle, Storage(out))
    write_captions(plan, profile().captions)
    write_missing(plan, chain_of(plan))
    return plan


def chain_of(plan: GeneratePlan | ThermalizePlan | TranslatePlan, attempts: int | None = None) -> Chain:
    """Return all stages of a plan's job in this process."""
    wanted = plan.job.gates.attempts if isinstance(plan, GeneratePlan) else 1
    return Chain(plan.chain, plan.chain.stages, attempts or wanted)


def write_missing(plan: GeneratePlan | ThermalizePlan, chain: Chain) -> None:
    """Write the partitions of a plan that are not committed."""
    for partition in sorted(set(range(plan.partitions)) - list_finished(plan.out)):
        write_partition(chain(plan.partition(partition)), plan, threads=1)


def shards(out: Path | str) -> dict[str, bytes]:
    """Return the committed files of an output with their bytes, by name."""
    found = [path for folder in ("data", "rejects") for path in sorted(Path(out, folder).glob("*"))]
    return {os.path.relpath(path, out): path.read_bytes() for path in found}
