"""Faults on a real cluster of several nodes on this machine: does every run end with the rows of an undisturbed one?

    python -m tests.benchmarks.faults run --out FOLDER [--cases 60] [--seed 0] [--only head ...]    goes on where it stopped
    python -m tests.benchmarks.faults table --out FOLDER                                            the table of docs/scale.md

Each case runs `thermapair generate` on a cluster (a head without CPUs and two nodes), does something to it at a random moment,
repairs what a run cannot mend itself, gives the same command again where the driver has ended, and compares records, files and
rows with what the job makes in one process without Ray; of captions that a language model writes, ids and what was committed.
Which fault hits when and whom is drawn with the seed. To fill a disk takes root, and so do control groups, of Linux's first
version.
"""

import argparse
import json
import os
import random
import shutil
import statistics
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from pipelines.storage.uri import Storage
from tests.benchmarks.faults.bed import JOB, Bed, remaining
from tests.benchmarks.faults.cases import CASES, Case, Scene, wait_and_do
from tests.benchmarks.faults.check import compare, compare_said, make_reference
from tests.benchmarks.s3 import s3_server
from tests.pipelines.storage.faulty import Faulty


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["run", "table"])
    parser.add_argument("--out", required=True, type=Path)
    parser.add_argument("--cases", type=int, default=60)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="+", choices=CASES, metavar="CASE", help=f"of: {', '.join(CASES)}")
    args = parser.parse_args()
    if args.what == "run":
        run(args.out, schedule(args.cases, args.seed, args.only or list(CASES)))
    print(table(read_ledger(args.out)))


def schedule(count: int, seed: int, names: list[str]) -> list[tuple[int, str]]:
    """Return (number, case) of `count` cases, every name as often as any other, in random order."""
    chosen = random.Random(seed)
    return list(enumerate(name for _ in range(-(-count // len(names))) for name in chosen.sample(names, len(names))))[
        :count
    ]


def run(folder: Path, cases: list[tuple[int, str]]) -> None:
    """Run the cases that the ledger in `folder` does not have yet, and write each as it ends."""
    folder.mkdir(parents=True, exist_ok=True)
    done = {(one["number"], one["case"]) for one in read_ledger(folder)}
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}", flush=True)
    with s3_server() as faulty, Bed(folder / "logs") as bed:
        for number, name in cases:
            if (number, name) in done:
                continue
            line = {"number": number, "case": name, **attempt(bed, folder, CASES[name], random.Random(number), faulty)}
            with (folder / "ledger.jsonl").open("a") as ledger:
                ledger.write(json.dumps(line) + "\n")
            print(json.dumps(line), flush=True)
    if left := remaining():
        raise AssertionError(f"processes are left: {left}")


def attempt(bed: Bed, folder: Path, case: Case, chosen: random.Random, faulty: Faulty) -> dict[str, Any]:
    """Run one case, whatever becomes of it, and return its line of the ledger."""
    began, load = time.time(), os.getloadavg()[0]
    usual = bed
    if case.node:
        usual.stop()
        bed = Bed(usual.folder, **case.node())
        bed.launches = usual.launches
        bed.start()
    try:
        with output(folder, case) as uri:
            found = disturb(bed, folder, case, chosen, Storage(uri), faulty)
    except Exception as error:
        found = {"differs": f"{type(error).__name__}: {error}"[:1500]}
    if case.node:
        bed.stop()
        usual.launches, bed = bed.launches, usual
        bed.start()
    # The next case finds the cluster as this one did.
    faulty.count, faulty.stall = 0, 0
    try:
        bed.mend()
    except Exception:
        bed.stop()
        bed.start()
    return {**found, "seconds": round(time.time() - began, 1), "load": round(load, 1)}


def disturb(bed: Bed, folder: Path, case: Case, chosen: random.Random, out: Storage, faulty: Faulty) -> dict[str, Any]:
    """Run a job, do to it what the case does, go on until it is done, and return what happened and what differs."""
    key = "-".join(case.edits).replace("/", "_") or "plain"
    reference = make_reference(folder / "references" / key, bed.folder / "profile.yaml", (*JOB, *case.edits))
    launch = partial(bed.drive, out.uri, *case.edits, engine=case.engine)
    scene = Scene(bed, chosen, launch(), out, faulty)
    after = chosen.randrange(1, case.latest)
    told, hit = wait_and_do(case, scene, after), time.time()
    # The same command again for as long as it ends early.
    codes = [scene.launch.wait()]
    while codes[-1] != 0 and len(codes) < 4:
        for repair in scene.repairs:
            repair()
        scene.repairs.clear()
        scene.launch = launch()
        codes.append(scene.launch.wait())
    # What has to be as if nothing had happened.
    differs = compare_said(out, reference, scene.kept) if case.engine else compare(out, reference)
    ends = tuple(tuple(one) for one in case.ends)
    wrong = "" if tuple(codes) in ends else f"exit codes {codes}: {scene.launch.tail()[-800:]}"
    return {
        "did": told, "after": 0 if case.early else after, "codes": codes, "differs": differs or wrong, "left": bed.leftovers(),
        "after_seconds": round(time.time() - hit, 1),
    }  # fmt: skip


@contextmanager
def output(folder: Path, case: Case) -> Iterator[str]:
    """Yield the address of an empty output, on what the case asks for; it is removed."""
    if case.s3:
        yield f"s3://pairs/case-{time.time_ns()}"
        return
    place = folder / "output"
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir()
    if case.disk:
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={case.disk}", "tmpfs", str(place)], check=True)
    try:
        yield str(place)
    finally:
        if case.disk:
            subprocess.run(["umount", "--lazy", str(place)], check=True)


def read_ledger(folder: Path) -> list[dict[str, Any]]:
    """Return the lines of the ledger in `folder`."""
    path = folder / "ledger.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def table(lines: list[dict[str, Any]]) -> str:
    """Return a table of what became of the cases: a row a kind."""
    rows = ["| what went wrong | cases | same rows | went on by itself | exit codes | seconds from there to the end |",
            "|---|---|---|---|---|---|"]  # fmt: skip
    for name in CASES:
        own = [line for line in lines if line["case"] == name]
        if not own:
            continue
        same = [line for line in own if not line["differs"] or line["differs"].startswith("marked")]
        alone = sum(line.get("codes") == [0] for line in own)
        codes = sorted({", ".join(map(str, line["codes"])) for line in own if "codes" in line})
        took = [line["after_seconds"] for line in own if "after_seconds" in line]
        spent = f"{statistics.median(took):.0f}" if took else ""
        rows.append(f"| {name} | {len(own)} | {len(same)} | {alone} | {'; '.join(codes)} | {spent} |")
    left = sum(bool(line.get("left")) for line in lines)
    return "\n".join([*rows, "", f"{len(lines)} cases; processes of a run were left in {left}"])


if __name__ == "__main__":
    main()
