"""A run of very many samples, watched: does anything grow with their number that should not?

    python -m tests.benchmarks.scale run --samples 1000000 --out FOLDER     rows of the null bundle, made by the command itself
    python -m tests.benchmarks.scale resume --out FOLDER                    loses the last tenth of its records and goes on
    python -m tests.benchmarks.scale tell --out FOLDER --plot FILE          the figures again, and their plot
    python -m tests.benchmarks.scale end --out FOLDER                       how long listing, records, manifest and report take
    python -m tests.benchmarks.scale extend --samples 48000 --out FOLDER    of a finished run, which has fewer: keeps the first?
    python -m tests.benchmarks.scale s3 --samples 20000 --out FOLDER        on an S3 server of this machine: requests a partition

A run that was stopped goes on by the same words, but its figures are then of the last process alone.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from models.errors import UserError
from pipelines.plan.generate import read_generate_plan
from pipelines.report.summary import summarise
from pipelines.report.write import finish
from pipelines.run.clean import orphans
from pipelines.status import read_ends
from pipelines.storage.commits import MANIFEST, list_finished, read_commits, write_manifest
from pipelines.storage.uri import Storage
from tests.benchmarks.s3 import s3_server
from tests.benchmarks.scale.figures import measure, plot
from tests.benchmarks.scale.watch import null_command, run_watched

FIRST_ROW = 60
"""Seconds within which a run that goes on has to have its first new row."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["run", "resume", "tell", "end", "extend", "s3"])
    parser.add_argument("--out", required=True, type=Path)
    parser.add_argument("--samples", type=int, default=20_000)
    parser.add_argument("--set", action="append", default=[], dest="edits", metavar="KEY=VALUE")
    parser.add_argument("--plot", type=Path)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    data, log = args.out / "data", args.out / "memory.jsonl"
    if args.what == "run":
        print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}", flush=True)
        log.unlink(missing_ok=True)
        words = null_command(str(data), args.samples, args.edits)
        (args.out / "command.json").write_text(json.dumps(words))
        if code := run_watched(words, log):
            sys.exit(code)
    if args.what == "resume":
        print(json.dumps(resume(args.out), indent=1))
    elif args.what == "end":
        print(json.dumps(time_end(str(data)), indent=1))
    elif args.what == "extend":
        print(json.dumps(extend(data, args.samples, args.edits), indent=1))
    elif args.what == "s3":
        print(json.dumps(count_requests(args.samples, args.edits, log), indent=1))
    else:
        print(json.dumps(measure(str(data), log), indent=1))
        if args.plot:
            plot(str(data), log, args.plot)


def resume(folder: Path) -> dict[str, object]:
    """Take the last tenth of the records away, go on, and return what became of it; raises where anything is made anew."""
    out = Storage(folder / "data")
    before, files = read_commits(out), {name: _told(out, name) for name in out.list("data") + out.list("_commits")}
    last = sorted(before, key=lambda number: float(before[number].facts["ended"]))[-len(before) // 10 :]
    for number in last:
        for name in (*before[number].files(), f"_commits/part-{number:05d}.json"):
            out.remove(name)
            files.pop(name)
    out.remove(MANIFEST)
    began = time.time()
    subprocess.run(json.loads((folder / "command.json").read_text()), check=True)
    new = [moment for moment, _ in read_ends(out) if moment > began]
    # Everything else is as it was, by content and by the time of its change; what was taken away has the same digests.
    after = read_commits(out)
    assert all(_told(out, name) == told for name, told in files.items()), "something finished was written again"
    assert len(new) == len(last) and {k: one.digest for k, one in after.items()} == {
        k: one.digest for k, one in before.items()
    }
    first = min(new) - began
    if first > FIRST_ROW:
        raise UserError(f"the first new row came after {first:.0f} s, and {FIRST_ROW} are allowed")
    return {"partitions_kept": len(before) - len(last), "made": len(new), "first_new_row_seconds": round(first, 1),
            "seconds": round(time.time() - began, 1)}  # fmt: skip


def extend(data: Path, samples: int, edits: list[str]) -> dict[str, object]:
    """Extend the finished run in `data` to more samples; raises where a shard or record of the first is another afterwards."""
    out = Storage(data)
    before = {name: _told(out, name) for name in out.list("data") + out.list("_commits")}
    began = time.time()
    subprocess.run(null_command(str(data), samples, edits), check=True)
    after = out.list("data") + out.list("_commits")
    assert all(_told(out, name) == told for name, told in before.items()), "something finished was written again"
    records = read_commits(out).values()
    return {"files_kept": len(before), "files_new": len(after) - len(before), "partitions": len(records),
            "rows": sum(record.rows for record in records), "seconds": round(time.time() - began, 1)}  # fmt: skip


def count_requests(samples: int, edits: list[str], log: Path) -> dict[str, object]:
    """Make rows on an S3 server of this machine and return the requests that it had, by method, and a partition."""
    with s3_server() as server:
        uri, began = "s3://pairs/scale", time.time()
        if code := run_watched(null_command(uri, samples, edits), log):
            sys.exit(code)
        seen, places = Counter[str](), Counter[str]()
        for _, told in server.seen:
            method, path = told.split(" ", 1)
            seen[method] += 1
            places[f"{method} {'/'.join(path.split('/')[3:4]) or 'listing'}"] += 1
        partitions = len(list_finished(Storage(uri)))
    return {
        "samples": samples, "partitions": partitions, "seconds": round(time.time() - began, 1), "requests": dict(seen),
        "places": dict(places.most_common()), "a_partition": round(seen.total() / partitions, 2),
    }  # fmt: skip


def _told(out: Storage, name: str) -> tuple[int, int]:
    found = os.stat(out.path(name))
    return found.st_mtime_ns, found.st_size


def time_end(uri: str) -> dict[str, object]:
    """Return seconds of each thing that is done once per run for all of its partitions, of a finished run."""
    out = Storage(uri)
    plan, commits, spare = read_generate_plan(out), read_commits(out), Storage(f"{uri}-spare")
    cases: dict[str, Callable[[], object]] = {
        "list_finished": lambda: list_finished(out),
        "read_commits": lambda: read_commits(out),
        "look for orphans": lambda: orphans(out, commits),
        "sizes": lambda: sum(plan.rows(partition) for partition in range(plan.partitions)),
        "manifest": lambda: write_manifest(spare, commits),
        "summary": lambda: summarise(plan, commits),
        "manifest, card, report": lambda: finish(plan, commits),
    }
    found: dict[str, object] = {"samples": plan.samples, "partitions": plan.partitions}
    for name, case in cases.items():
        began = time.perf_counter()
        case()
        found[name] = round(time.perf_counter() - began, 3)
    shutil.rmtree(spare.path())
    return found | {"mb_of_a_reader": read_plan(uri)}


def read_plan(uri: str) -> list[int]:
    """Return the MB of a process that reads every 50th partition of the plan, from the first to the last, tenth by tenth."""
    words = [sys.executable, "-c", READER, uri]
    return [int(line) for line in subprocess.run(words, check=True, capture_output=True, text=True).stdout.split()]


READER = """
import sys
import psutil
from pipelines.plan.pieces import read_pieces
from pipelines.storage.uri import Storage
plan = read_pieces(Storage(sys.argv[1]))
for number, partition in enumerate(range(0, plan.partitions, 50)):
    plan.table(partition), plan.table(partition, "identities")
    if number % max(1, plan.partitions // 500) == 0:
        print(psutil.Process().memory_info().rss // 2**20)
"""


if __name__ == "__main__":
    main()
