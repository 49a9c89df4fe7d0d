"""How long the command line takes to help and to refuse: `python -m tests.benchmarks.command_start [--repeats 5]`.

The least of several runs, beside Python's own start and the import of torch, which none of them may wait for.
"""

import argparse
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
        seconds = []
        for _ in range(repeats):
            begin = time.perf_counter()
            subprocess.run([sys.executable, *words], capture_output=True, check=False)
            seconds.append(time.perf_counter() - begin)
        print(f"{name:22} {min(seconds):.2f} s")


if __name__ == "__main__":
    main()
