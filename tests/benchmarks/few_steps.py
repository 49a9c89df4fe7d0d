"""What a visible student of few steps keeps of its teacher, and how much faster it is: `python -m tests.benchmarks.few_steps`.

--student: a folder that `train distill_visible` wrote; --data: two views of people whom nothing was trained on (as for
`visible_limits`). Everybody is asked for by the bundle's embedding of the first view, in the caption and pose of the second, by
the 16-step guided teacher and by the student in each number of its steps, from the same noise. Lines take turns batch by
batch, decoding and drawn heads included, so that what else the machine does slows all of them. `kept` is the share of the
teacher's figure, with its 95 % interval over people.
"""

import argparse
import time
from pathlib import Path

import numpy as np
import torch

from models.evaluation.bootstrap import Estimate, interval, mean
from models.visible.sd.settings import Options, Settings
from models.visible.sd.stage import Stage
from tests.benchmarks.visible_limits import BATCH, STARTER, Asked, ask, judge, look_up, sample


def draw_all(lines: list[tuple[Stage, Settings]], asked: Asked) -> tuple[list[np.ndarray], list[float]]:
    """Return each line's pictures of all people, and its processor seconds."""
    made: list[list[np.ndarray]] = [[] for _ in lines]
    seconds = [0.0] * len(lines)
    for start in range(0, len(asked.captions), BATCH):
        for line, (stage, settings) in enumerate(lines):
            began = time.process_time()
            made[line].append(sample(stage, asked, settings, slice(start, start + BATCH)))
            seconds[line] += time.process_time() - began
    return [np.concatenate(one) for one in made], seconds


def share(own: np.ndarray, teachers: np.ndarray) -> Estimate:
    """Return mean(own) / mean(teachers) of [N] each, paired by person."""
    return interval(lambda a, b: mean(a) / mean(b), [own[None].astype(float), teachers[None].astype(float)])


def main() -> None:
    """Draw with all lines in turn, and print what each reaches."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="shards of people nobody was trained on")
    parser.add_argument("--student", required=True, type=Path)
    parser.add_argument("--people", type=int, default=100)
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32", help="of the U-Nets")
    given = parser.parse_args()
    torch.set_num_threads(1)
    teacher, student = (
        Stage({"model": folder}, Options(), dtype=given.dtype) for folder in (STARTER / "visible", given.student)
    )
    lines = [(teacher, Settings(steps=16, guidance=2.0))]
    lines += [(student, Settings(steps=steps, guidance=1.0)) for steps in (4, 2, 1)]
    asked = ask(given.data, given.people)
    # A first batch chooses kernels, and is timed for nobody.
    for stage, settings in lines:
        sample(stage, asked, settings, slice(0, BATCH))
    pictures, seconds = draw_all(lines, asked)
    hits, cosines = zip(*(look_up(asked, shown) for shown in pictures), strict=True)
    print(f"{len(asked.captions)} people, gallery of as many, {given.dtype}, one thread")
    for line, (_, settings) in enumerate(lines):
        kept = {"cosine": share(cosines[line], cosines[0]), "rank-1": share(hits[line], hits[0])}
        figures = [f"{name} {value:.3f}" for name, value in judge(asked, pictures[line]).items()]
        figures += [f"{name} kept {one.value:.3f} [{one.low:.3f}, {one.high:.3f}]" for name, one in kept.items()]
        speed = f"{len(asked.captions) / seconds[line]:.2f} pictures/s, {seconds[0] / seconds[line]:.2f} times"
        print(f"{settings.steps:2} steps  {'  '.join(figures)}  {speed}", flush=True)


if __name__ == "__main__":
    main()
