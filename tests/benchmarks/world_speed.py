"""Faces per second of the synthetic world: `python -m tests.benchmarks.world_speed [--count 24] [--sizes 128 256]`.

One process and one thread; jobs run one such renderer per core. The first pictures (which build or load the compiled
field) are not counted. Wall time is what you wait; processor time is what an otherwise idle core would take.
"""

import argparse
import platform
import time

import torch

from models.synthworld.render.render import render
from models.synthworld.sampling.domain import load_domain, sample_scene
from models.synthworld.shape.kernels import can_compile


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=24)
    parser.add_argument("--sizes", type=int, nargs="+", default=[128, 256])
    parser.add_argument("--domain", default="portrait")
    args = parser.parse_args()
    torch.set_num_threads(1)
    domain = load_domain(args.domain)
    scenes = [sample_scene(domain, 1 + k // 2, k % 2, "warm") for k in range(args.count)]
    print(f"{platform.machine()}, torch {torch.__version__}, 1 thread, compiled {can_compile()}, domain {args.domain}")
    render(scenes, 32)
    for size in args.sizes:
        wall, busy = time.perf_counter(), time.process_time()
        render(scenes, size)
        wall, busy = time.perf_counter() - wall, time.process_time() - busy
        print(
            f"{size} px: {args.count / wall:.1f} faces/s by the clock, {args.count / busy:.1f} faces/s of processor time"
        )


if __name__ == "__main__":
    main()
