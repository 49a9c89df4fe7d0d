"""What Ray costs: `generate` beside bare processes of as many as it has actors: `python -m tests.benchmarks.efficiency`.

    python -m tests.benchmarks.efficiency --actors 1 2 --pairs 5 --samples 64

Each bare process runs all stages on its share of the partitions, encodes and writes them, one after another, without Ray,
driver or view. Both kinds take turns, and leave the same records, from whose times the rate in steady state is read in the same
way: a line through the samples that are done, from when every process has finished its first partition to when the first has no
more to do.
"""

import argparse
import os
import statistics
import sys
import tempfile
from pathlib import Path

import numpy as np

from pipelines.captions.write import write_captions
from pipelines.config.request import Request, load_request
from pipelines.plan.extend import write_generate_plan
from pipelines.plan.generate import read_generate_plan
from pipelines.run.chain import Chain
from pipelines.run.provenance import write_launch
from pipelines.run.writer import write_partition
from pipelines.storage.uri import Storage
from tests.benchmarks.scale.figures import read_done, read_log
from tests.benchmarks.scale.watch import KINDS, command_of, run_watched

PARTITION = 8
STAGES = "[visible, parser, thermal, faces, gates, landmarks]"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", default="starter")
    parser.add_argument("--actors", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--pairs", type=int, default=5, help="how often both kinds take turns")
    parser.add_argument("--samples", type=int, default=64, help="of each actor")
    parser.add_argument("--set", action="append", default=[], dest="edits", metavar="KEY=VALUE")
    parser.add_argument("--share", nargs=3, metavar=("OUT", "NUMBER", "OF"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.share:
        return make_share(Storage(args.share[0]), int(args.share[1]), int(args.share[2]))
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}", flush=True)
    for actors in args.actors:
        edits = [
            f"profile.groups=[{{stages: {STAGES}, actors: [{actors}, {actors}], threads: 1}}]", "captions=template",
            f"views.per_identity={PARTITION}", f"partition_samples={PARTITION}",
            f"identities.count={actors * args.samples // PARTITION}", *args.edits,
        ]  # fmt: skip
        compare(args.bundle, actors, args.pairs, edits)


def compare(bundle: str, actors: int, pairs: int, edits: list[str]) -> None:
    """Run both kinds in turn, each first as often as the other, and print their rates and what Ray's processes took."""
    ratios = []
    for number in range(pairs):
        with tempfile.TemporaryDirectory(prefix="efficiency-") as folder:
            rates = {}
            for kind in ("ray", "bare") if number % 2 == 0 else ("bare", "ray"):
                out, log = f"{folder}/{kind}", Path(folder, f"{kind}.log")
                words = generate(bundle, out, edits) if kind == "ray" else bare(bundle, out, edits, actors)
                if code := run_watched(words, log):
                    sys.exit(code)
                rates[kind] = steady_rate(out, actors)
            ratios.append(rates["ray"] / rates["bare"])
            spent = {kind: processor_time(f"{folder}/{kind}", Path(folder, f"{kind}.log"), actors) for kind in rates}
            told = ", ".join(f"{kind} {ms:.0f}" for kind, ms in spent["ray"].items())
            print(f"{actors} actors: ray {rates['ray']:.2f}/s, bare {rates['bare']:.2f}/s, ratio {ratios[-1]:.3f}; "
                  f"processor ms a sample: {told}; bare {sum(spent['bare'].values()):.0f}", flush=True)  # fmt: skip
    print(
        f"{actors} actors: ratio {statistics.median(ratios):.3f} (median of {pairs}; {min(ratios):.3f} to {max(ratios):.3f})"
    )


def generate(bundle: str, out: str, edits: list[str]) -> list[str]:
    """Return the words of the command."""
    return [*command_of("generate", "--bundle", bundle, "--job", "pairs", "--out", out),
            *(word for edit in edits for word in ("--set", edit))]  # fmt: skip


def bare(bundle: str, out: str, edits: list[str], count: int) -> list[str]:
    """Plan the same job in `out`, and return the words that start `count` processes on it and wait for them."""
    request: Request = load_request(bundle, "laptop", "pairs", edits)
    plan = write_generate_plan(request.job, request.bundle, Storage(out))
    write_launch(plan.out, request.job, request.profile)
    write_captions(plan, request.profile.captions)
    each = [
        f"{sys.executable} -m tests.benchmarks.efficiency --share {out} {number} {count} &" for number in range(count)
    ]
    return ["sh", "-c", " ".join([*each, "wait"])]


def make_share(out: Storage, number: int, count: int) -> None:
    """Make every `count`-th partition of the plan in `out`, in this process, with one thread."""
    plan = read_generate_plan(out)
    chain = Chain(plan.chain, plan.chain.stages, plan.job.gates.attempts, 1)
    for partition in range(number, plan.partitions, count):
        write_partition(chain(plan.partition(partition)), plan, threads=1)


def steady_rate(out: str, processes: int) -> float:
    """Return samples a second in steady state: the slope of a line through what was done and when."""
    ended, done = read_done(out)
    ended, done = steady(ended, processes), steady(done, processes)
    return float(np.polyfit(ended, done, 1)[0])


def steady(values: np.ndarray, processes: int) -> np.ndarray:
    """Return what lies between everybody's first partition and somebody's last."""
    return values[processes - 1 : len(values) - processes + 1]


def processor_time(out: str, log: Path, actors: int) -> dict[str, float]:
    """Return milliseconds of processors a sample in steady state, by kind of process."""
    seen, (ended, done) = read_log(log), read_done(out)
    moments, made = steady(ended, actors), steady(done, actors)
    first, last = (np.searchsorted(seen["time"], moment) for moment in (moments[0], moments[-1]))
    last = min(last, len(seen["time"]) - 1)
    return {
        kind: 1000 * float((seen[f"cpu_{kind}"][last] - seen[f"cpu_{kind}"][first]) / (made[-1] - made[0]))
        for kind in KINDS
    }


if __name__ == "__main__":
    main()
