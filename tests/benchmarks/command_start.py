"""How long the command line takes to help and to refuse: `python -m tests.benchmarks.command_start [--repeats 5]`.

The least of several runs, by the clock and of processor time (what an idle core would take), beside Python's own start
and the import of torch, which none of them may wait for.
"""

import argparse
import resource
import subprocess
import sys
import time

CASES = {
    "python alone": ["-c", "pass"],
    "import torch": ["-c", "import torch"],
    "generate --help": ["-m", "cluster", "generate", "--help"],
    "generate, refused": ["-m", "cluster", "generate", "--out", "nowhere", "--set", "conditions=[tropical]"],
    "thermalize, refused": [
        *("-m", "cluster", "thermalize", "--images", "nowhere", "--out", "nowhere"),
        *("--condition", "tropical"),
    ],
    "serve, refused": ["-m", "cluster", "serve", "--set", "captions.kind=templat"],
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=5)
    repeats = parser.parse_args().repeats
    for name, words in CASES.items():
        wall, busy = [], []
        for _ in range(repeats):
            begin, before = time.perf_counter(), processor_time()
            subprocess.run([sys.executable, *words], capture_output=True, check=False)
            wall.append(time.perf_counter() - begin)
            busy.append(processor_time() - before)
        print(f"{name:22} {min(wall):5.2f} s by the clock, {min(busy):5.2f} s of processor time")


def processor_time() -> float:
    """Return the seconds of processor time of all finished children."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    main()
