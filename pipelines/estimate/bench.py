"""`thermapair bench stages`: how long each stage of a job takes on this machine, for `thermapair plan`."""

import json
import tempfile
import time
from dataclasses import asdict, replace
from pathlib import Path

from models.config import check
from pipelines.captions.write import write_captions
from pipelines.config.job import GenerateJob
from pipelines.config.request import Request
from pipelines.estimate.rates import Rates, rates_of_run
from pipelines.plan.extend import write_generate_plan
from pipelines.plan.generate import GeneratePlan
from pipelines.run.chain import Chain
from pipelines.run.provenance import write_launch
from pipelines.run.writer import write_partition
from pipelines.storage.uri import Storage


def run(request: Request, samples: int, out: str) -> Rates:
    """Measure the job of `request` on `samples` samples, write the rates to the file `out`, and return them."""
    rates = measure(request, samples)
    Path(out).write_text(json.dumps(asdict(rates), indent=1) + "\n")
    return rates


def measure(request: Request, samples: int) -> Rates:
    """Return the rates of this machine: stages and writer in this process, one partition after another, the first for nothing.

    On a processor alone the seconds are those that it worked, so that others who share it do not count. Captions come from the
    grammar: a language model's rate is read from a run, or measured by `thermapair measure captions`.
    """
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        plan = _plan(request, samples, Storage(folder))
        began = time.perf_counter()
        threads = request.profile.assign(plan.chain.stages)[0].threads
        chain = Chain(plan.chain, plan.chain.stages, plan.job.gates.attempts, threads)
        start = time.perf_counter() - began
        chain(plan.partition(0))  # what is only done once is no rate
        clock, work = time.perf_counter(), time.process_time()
        for partition in range(1, plan.partitions):
            write_partition(chain(plan.partition(partition)), plan, request.profile.writer.threads)
        share = (time.process_time() - work) / (time.perf_counter() - clock)
        rates = replace(rates_of_run(plan.out), start=round(start, 2))
    if rates.gpu:
        return rates
    return replace(rates, clock="processor", seconds={stage: one * share for stage, one in rates.seconds.items()})


def _plan(request: Request, samples: int, out: Storage) -> GeneratePlan:
    """Return a plan of `samples` samples and a first partition for nothing, with captions by the grammar."""
    each = request.job.views.per_identity * request.job.views.draws
    size = min(request.job.partition_samples, samples)
    people = -(-samples // each) + max(1, size // each)
    identities = {**request.job.identities.model_dump(), "count": people}
    values = {"captions": "template", "prompt": "", "limit": None, "partition_samples": size, "identities": identities}
    job = check(GenerateJob, {**request.job.model_dump(mode="json"), **values}, "job")
    plan = write_generate_plan(job, request.bundle, out)
    write_launch(out, job, request.profile)
    write_captions(plan, request.profile.captions)
    return plan
