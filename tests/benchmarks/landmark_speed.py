"""Sliding-window search, ours against the plain loop: `python -m tests.benchmarks.landmark_speed [--frame 480 640]`.

Same random weights of the published network, same frame, same windows, one process, one thread. The plain loop is written
as the published package describes its search: per level all windows in one batch, or one after the other. The package itself
needs torchvision and timm, which cannot be imported beside this torch, so it is not run. Before anything is timed, both must
find the same window and points within 0.01 px. Processor time is what an otherwise idle core would take.
"""

import argparse
import platform
import time
from collections.abc import Callable
from typing import Literal

import numpy as np
import torch

from models.faces.canvas import texture
from models.landmarks.detect import Detector, Search, cropped
from models.landmarks.intensity import unit_values
from models.landmarks.network import Landmarker, LandmarkerConfig, normalised
from tests.models.landmarks import naive


def random_landmarker(standard: Literal[70, 478], width: float) -> Landmarker:
    """Return a landmarker of random weights whose batch norms have seen pictures, so that windows differ."""
    torch.manual_seed(0)
    model = Landmarker(LandmarkerConfig(standard=standard, width=width))
    torch.nn.init.normal_(model.fc.weight, 0, 0.05)
    rng = np.random.default_rng(0)
    seen = np.stack([unit_values(texture(64, rng)) for _ in range(16)])
    with torch.no_grad():
        for _ in range(12):
            model(normalised(torch.from_numpy(seen).permute(0, 3, 1, 2)))
    return model.eval()


def timed(run: Callable[[], object], repeats: int) -> tuple[float, float]:
    """Return the best wall and processor seconds of `repeats` runs."""
    found = []
    for _ in range(repeats):
        wall, busy = time.perf_counter(), time.process_time()
        run()
        found.append((time.perf_counter() - wall, time.process_time() - busy))
    return min(w for w, _ in found), min(b for _, b in found)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--frame", type=int, nargs=2, default=[480, 640], metavar=("HEIGHT", "WIDTH"))
    parser.add_argument("--standard", type=int, default=70, choices=[70, 478])
    parser.add_argument("--width", type=float, default=1.0)
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--batches", type=int, nargs="+", default=[4])
    parser.add_argument("--dtypes", nargs="+", default=["float32", "bfloat16"])
    args = parser.parse_args()
    torch.set_num_threads(1)
    model = random_landmarker(args.standard, args.width)
    height, width = args.frame
    image = texture(max(height, width), np.random.default_rng(1))[:height, :width]
    values = unit_values(image)
    count = len(cropped(values, 224, Search())[1])
    print(f"{platform.machine()}, torch {torch.__version__}, 1 thread, {width} x {height}, {count} windows")
    truth, _ = naive.search(model, values, stride=100)
    loops = {"plain, a level per batch": True, "plain, a window at a time": False}
    base = {
        name: timed(lambda one=one: naive.search(model, values, 100, one_batch=one), args.repeats)
        for name, one in loops.items()
    }  # type: ignore[misc]
    for name, (wall, busy) in base.items():
        print(f"{name:28} {wall:7.2f} s by the clock {busy:7.2f} s of processor time")
    for dtype in args.dtypes:
        for batch in args.batches:
            ours = Detector(model, dtype=dtype, batch=batch)
            off = float(np.abs(ours.best(image).points - truth).max())
            if off > 0.01:
                raise SystemExit(f"{dtype}, batch {batch}: points differ by {off:.3f} px from the plain loop")
            wall, busy = timed(lambda ours=ours: ours.best(image), args.repeats)  # type: ignore[misc]
            ratios = ", ".join(f"{b / busy:.2f} x {name}" for name, (_, b) in base.items())
            print(
                f"ours, {dtype}, batch {batch}:  {wall:.2f} s by the clock {busy:.2f} s of processor time "
                f"({ratios}); {off:.4f} px off"
            )


if __name__ == "__main__":
    main()
