"""How long plans of many samples take, and in how much memory: `python -m tests.benchmarks.plan_scale`.

    --people 250000 --views 4    of the null bundle, sampled and from a Parquet file: written, then read again on resume
    --crowd 100000 --angle 50    people of the starter's distribution that keep their distance, and one angle too large
    --keys 1000000               keys of captions

Each case is a process of its own, one after the other. Its processor time is of all of it, imports among it; its memory is
the largest that it had (resident, with Python, NumPy, PyArrow and torch).
"""

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--people", type=int, default=250_000)
    parser.add_argument("--views", type=int, default=4)
    parser.add_argument("--crowd", type=int, default=100_000)
    parser.add_argument("--angle", type=float, default=50)
    parser.add_argument("--keys", type=int, default=1_000_000)
    parser.add_argument("--folder", default=None, help="where the plans are written for a while (2 GB)")
    parser.add_argument("--case", nargs="+", default=[], help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.case:
        name, *words = args.case
        print(json.dumps({**CASES[name](*words), "processor_seconds": time.process_time(), "peak_mb": peak_mb()}))
        return
    print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, "
          f"OMP_NUM_THREADS={os.environ.get('OMP_NUM_THREADS', 'unset')}")  # fmt: skip
    folder = tempfile.mkdtemp(dir=args.folder)
    try:
        people = f"{folder}/people.parquet"
        write_people(people, args.people)
        for source in ("reference", people):
            out, what = f"{folder}/{Path(source).stem}", (str(args.people), str(args.views), source)
            tell("write", out, *what)
            tell("resume", out, *what)
            shutil.rmtree(out)
    finally:
        shutil.rmtree(folder)
    tell("crowd", str(args.crowd), str(args.angle))
    tell("crowd", str(args.crowd), str(args.angle + 5))
    tell("keys", str(args.keys))


def tell(*case: str) -> None:
    """Run one case in a process of its own and print what it took."""
    words = [sys.executable, "-m", "tests.benchmarks.plan_scale", "--case", *case]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode:
        print(f"{' '.join(case)} failed:\n{done.stderr}")
        return
    found = json.loads(done.stdout.splitlines()[-1])
    figures = ", ".join(f"{name} {value:,.1f}" if isinstance(value, float) else f"{name} {value}"
                        for name, value in found.items())  # fmt: skip
    print(f"{' '.join(Path(word).name for word in case):48} {figures}", flush=True)


def write_people(path: str, count: int) -> None:
    """Write a Parquet file of people as they come from elsewhere: ids, embeddings and a word."""
    random = np.random.default_rng(0)
    kinds = {"identity_id": pa.string(), "embedding": pa.list_(pa.float32(), 512), "attributes": pa.string()}
    with pq.ParquetWriter(path, schema := pa.schema(kinds)) as writer:
        for first in range(0, count, 16_384):
            size = min(16_384, count - first)
            flat = pa.array(random.standard_normal(size * 512, np.float32))
            embeddings = pa.FixedSizeListArray.from_arrays(flat, 512)
            names = [f"person-{first + k}" for k in range(size)]
            words = ['{"sex": "woman"}' if k % 2 else '{"sex": "man"}' for k in range(size)]
            writer.write_table(pa.table([names, embeddings, words], schema=schema))


def plan(out: str, people: str, views: str, source: str) -> dict[str, Any]:
    """Write or read again the plan in `out`."""
    from models.weights.bundle import load_bundle
    from pipelines.config.job import load_job
    from pipelines.plan.extend import write_generate_plan
    from pipelines.storage.uri import Storage

    edits = [f"identities.source={source}", f"identities.count={people}", f"views.per_identity={views}"]
    job, bundle, begin = load_job("pairs", [*edits, "captions=template"]), load_bundle("null"), time.perf_counter()
    made = write_generate_plan(job, bundle, Storage(out))
    seconds = time.perf_counter() - begin
    return {"samples": made.samples, "pieces": len(made.pieces.found), "seconds": seconds,
            "identities_per_second": int(people) / seconds}  # fmt: skip


def crowd(count: str, angle: str) -> dict[str, Any]:
    """Choose people of the starter's distribution; what is said where they find no room."""
    from models.errors import UserError
    from models.weights.bundle import load_bundle
    from pipelines.plan.people.identities import Reference
    from pipelines.plan.people.sampling import choose_candidates

    reference, begin = Reference.of(load_bundle("starter")), time.perf_counter()
    told: dict[str, object]
    try:
        told = {"candidates": int(choose_candidates(reference, int(count), float(angle), seed=0)[-1]) + 1}
    except UserError as error:
        told = {"refused": str(error)}
    seconds = time.perf_counter() - begin
    return {"seconds": seconds, "identities_per_second": int(count) / seconds, **told}


def keys(count: str) -> dict[str, Any]:
    """Fill the set of captions that are taken."""
    from pipelines.captions.keys import Keys

    numbers = np.random.default_rng(0).integers(0, 2**63 - 1, int(count)).tolist()
    found, begin, before = Keys(), time.perf_counter(), peak_mb()
    for number in numbers:
        if number not in found:
            found.add(number)
    return {"keys": len(found), "seconds": time.perf_counter() - begin, "more_mb": peak_mb() - before}


def peak_mb() -> float:
    """Return the largest resident memory of this process so far, in MB (Linux; `getrusage` would count its parent's)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024


CASES: dict[str, Callable[..., dict[str, Any]]] = {"write": plan, "resume": plan, "crowd": crowd, "keys": keys}

if __name__ == "__main__":
    main()
