"""Where a picture's time goes: the starter's visible stage by its parts, `python -m tests.benchmarks.visible_speed`.

One process, one thread, the same rows for every line: a line is a number of steps, a guidance, a scheduler and a dtype. Processor
time is what an otherwise idle core would take. Shares are of the line's own time; the U-Net's is what the others leave. `off` is
the mean difference of pictures from those of the first dtype, in grey levels.
"""

import argparse
import random
import time
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from models.captions.grammar import write_caption
from models.captions.sampling import draw_attributes
from models.columns import Columns
from models.seeds import seed_of
from models.visible.sd import stage as sd_stage
from models.visible.sd.settings import Options, Settings
from models.visible.sd.stage import Stage
from models.weights.bundle import fetch, load_bundle
from models.weights.networks import DTYPES

LINES = (
    Settings(steps=16, guidance=2.0),
    Settings(steps=16, guidance=1.0),
    Settings(steps=8, guidance=2.0),
    Settings(steps=4, guidance=1.0, scheduler="lcm"),
)
"""The starter's own settings first: the others are told as a multiple of it."""
PARTS = ("U-Net", "decoding", "head", "text")


class Clock:
    """Processor seconds by part, of functions that it stands before."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)

    def time(self, part: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """Return `function`, whose time counts as `part`'s."""

        def timed(*arguments: Any, **named: Any) -> Any:
            began = time.process_time()
            try:
                return function(*arguments, **named)
            finally:
                self.seconds[part] += time.process_time() - began

        return timed


def watch(stage: Stage, clock: Clock) -> None:
    """Have a stage's parts timed."""
    sd_stage.decode = clock.time("decoding", sd_stage.decode)
    sd_stage.tokenize = clock.time("text", sd_stage.tokenize)
    stage.parts.text.forward = clock.time("text", stage.parts.text.forward)  # type: ignore[method-assign]
    stage._heads = clock.time("head", stage._heads)  # type: ignore[method-assign]


def draw_rows(count: int) -> Columns:
    """Return rows of people and captions that nobody has seen."""
    embedding = np.random.default_rng(0).normal(size=(count, 512)).astype(np.float32)
    captions = [write_caption(draw_attributes(random.Random(seed_of("visible speed", k))), k) for k in range(count)]
    return {
        "embedding": embedding,
        "caption": np.array(captions),
        "noise_id": np.array([f"row {k}" for k in range(count)]),
    }


def main() -> None:
    """Time every line and print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rows", type=int, default=64)
    parser.add_argument("--dtypes", nargs="+", choices=sorted(DTYPES), default=["float32"], help="of the U-Net")
    given = parser.parse_args()
    bundle = load_bundle("starter")
    part, rows = bundle.part("visible"), draw_rows(given.rows)
    decoding, tokenizing = sd_stage.decode, sd_stage.tokenize
    # One line after the other; the first is what the others are compared with, and a line of the first dtype its pictures.
    print(
        "steps guidance scheduler dtype     pictures/s  times  " + "  ".join(f"{name:>8}" for name in PARTS) + "   off"
    )
    first, drawn = 0.0, list[np.ndarray]()
    for dtype in given.dtypes:
        clock = Clock()
        stage = Stage(fetch(part, bundle.folder), Options(), dtype=dtype, threads=1)
        sd_stage.decode, sd_stage.tokenize = decoding, tokenizing
        watch(stage, clock)
        torch.set_num_threads(1)
        stage(draw_rows(part.batch), Settings(steps=1), part.batch)  # kernels are chosen once
        for line, settings in enumerate(LINES):
            clock.seconds.clear()
            began = time.process_time()
            pictures = stage(rows, settings, part.batch)["visible"].astype(np.float32)
            whole = time.process_time() - began
            first = first or whole
            clock.seconds["U-Net"] = whole - sum(clock.seconds.values())
            if len(drawn) == line:
                drawn.append(pictures)
            shares = "  ".join(f"{100 * clock.seconds[name] / whole:6.1f} %" for name in PARTS)
            asked = f"{settings.steps:5} {settings.guidance:8g} {settings.scheduler:9} {dtype:9}"
            off = np.abs(pictures - drawn[line]).mean()
            print(f"{asked} {given.rows / whole:10.2f}  {first / whole:5.2f}  {shares}  {off:4.2f}", flush=True)


if __name__ == "__main__":
    main()
