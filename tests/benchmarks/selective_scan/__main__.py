"""Time and memory of scans, attention, whole blocks and whole translators.

    python -m tests.benchmarks.selective_scan --out out/scan.jsonl          all of it; a run that was stopped goes on
    python -m tests.benchmarks.selective_scan --out out/scan.jsonl --tell   the tables again, nothing is measured

One thread, one process, all rows of a size in turn, and again (`--rounds`): the least processor time of each counts, so that
other work on the machine hits all alike and little. Batch 1, width 256, float32. Memory is how far the process grew above
what it held before one further call, which is not timed; a call that wants more than `--memory` is told as such.

core        the operation alone: recurrences token by token, chunked Mamba-1 (16 states), SSD (4 heads of 64, 16 states) in
            torch and by the kernel, SDPA (8 heads of 32), attention in windows of 8 x 8 cells
mixer       with projections: attention, Mamba-2 of 1, 2 and 4 directions, torch and kernel
block       a transformer block with cross-attention and MLP, and each of these in self-attention's place
translator  whole translations, from degrees to pixels (8 steps): attention, scan and windows, torch and kernel
"""

import argparse
import platform
from pathlib import Path

import torch

from models.ssm import kernels
from tests.benchmarks.selective_scan.measure import Key, append, bound_memory, measure_group, read_ledger
from tests.benchmarks.selective_scan.page import render
from tests.benchmarks.selective_scan.rows import ROWS, SIZES


def main() -> None:
    args = parse()
    if not args.tell:
        run(args)
    print(render(read_ledger(args.out)))


def parse() -> argparse.Namespace:
    """Return what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="ledger, a line for each row")
    parser.add_argument("--only", nargs="+", choices=list(ROWS), default=list(ROWS), help="what is measured")
    parser.add_argument("--rows", default="", help="rows alone whose name has these words")
    parser.add_argument("--sizes", type=int, nargs="+", default=[], help="tokens, of translators pixels")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--memory", type=float, default=6.0, help="GB that a call may take")
    parser.add_argument("--tell", action="store_true", help="the tables of what was measured")
    return parser.parse_args()


def run(args: argparse.Namespace) -> None:
    """Measure what the ledger lacks."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    kernel, why = kernels.choose()
    capability = torch.backends.cpu.get_cpu_capability()
    machine = f"{platform.machine()} {capability}, torch {torch.__version__}, kernel {kernel}"
    print(f"{machine} ({why})", flush=True)
    bound_memory(args.memory)
    for what in args.only:
        for size in args.sizes or SIZES[what]:
            for gradient in (False, True) if what != "translator" else (False,):
                done = read_ledger(args.out)
                calls = {
                    name: call
                    for name, call in ROWS[what](size, gradient, kernel).items()
                    if args.rows in name and Key(what, size, gradient, name) not in done
                }
                # Each group is kept as soon as it is measured.
                for name, facts in measure_group(calls, gradient, args.rounds).items():
                    append(args.out, Key(what, size, gradient, name), {**facts, "machine": machine})
                    print(what, size, "backward" if gradient else "forward", name, facts, flush=True)


if __name__ == "__main__":
    main()
