"""Is what `thermapair plan` predicts what a run then takes? `python -m tests.benchmarks.plan_against_run [--samples 64]`.

Rates of some samples, measured in this process; then a run of more on a Ray of its own. On a machine that others use the clock
says nothing, so processor time is compared, too: what stages and writer take per sample as predicted, and what the workers of the
run took between its first and its last partition.
"""

import argparse
import json
import os
import tempfile
from pathlib import Path

import numpy as np

from pipelines.config.request import load_request
from pipelines.estimate.bench import measure
from pipelines.estimate.rates import rates_of_run
from pipelines.estimate.take import estimate
from pipelines.storage.uri import Storage
from tests.benchmarks.scale.figures import read_done, read_log
from tests.benchmarks.scale.watch import command_of, run_watched


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", default="starter")
    parser.add_argument("--bench", type=int, default=32, help="samples that rates are measured on")
    parser.add_argument("--samples", type=int, default=64)
    parser.add_argument("--set", action="append", default=[], dest="edits")
    args = parser.parse_args()
    # One actor: what two have in flight when the first partition is there would not be counted.
    stages = "[visible, parser, thermal, faces, gates, landmarks]"
    edits = [
        f"profile.groups=[{{stages: {stages}, actors: [1, 1]}}]",
        "captions=template",
        "views.per_identity=8",
        "partition_samples=8",
        *args.edits,
    ]
    people = f"identities.count={args.samples // 8}"
    edits.append(people)
    request = load_request(args.bundle, "laptop", "pairs", edits)
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}", flush=True)
    rates = measure(request, args.bench)
    told = estimate(request, rates)
    print(told, flush=True)
    with tempfile.TemporaryDirectory(prefix="plan-") as folder:
        out, log = f"{folder}/out", Path(folder, "log")
        words = command_of("generate", "--bundle", args.bundle, "--job", "pairs", "--out", out)
        assert run_watched([*words, *(word for edit in edits for word in ("--set", edit))], log) == 0
        seen, (ended, done) = read_log(log), read_done(out)
        redrawn = rates_of_run(Storage(out)).redrawn
    # From the first partition to the last: before, workers load their models.
    first, last = (np.searchsorted(seen["time"], moment) for moment in (ended[0], ended[-1]))
    made = float(done[-1] - done[0])
    measured = (seen["cpu_workers"][min(last, len(seen["time"]) - 1)] - seen["cpu_workers"][first]) / made
    predicted = sum(rates.seconds.values())
    print(json.dumps({
        "processor_seconds_per_sample": {"predicted": round(predicted, 3), "measured": round(measured, 3),
                                         "ratio": round(measured / predicted, 3)},
        "samples_per_second": {"predicted": round(1 / max(told.pace.values()), 3),
                               "measured": round(made / (ended[-1] - ended[0]), 3)},
        "drawn_again": {"predicted": round(rates.redrawn, 3), "measured": round(redrawn, 3)},
        "load_at_the_end": round(os.getloadavg()[0], 1),
    }, indent=1))  # fmt: skip


if __name__ == "__main__":
    main()
