"""Sliding-window search, ours against the plain loop: `python -m tests.benchmarks.landmark_speed [--frame 480 640]`.

Same random weights of the published network, same frame, same windows, one process, one thread. The plain loop is written
as the published package describes its search: per level all windows in one batch, or one after the other. Before anything is
timed, all must find the same window and points within 0.03 px. Processor time is what an otherwise idle core would take.

`--package DIR` also runs the published package itself (`thermal-face-alignment`, import name `tfan`; its licence is
non-commercial, the project neither contains nor needs it) in the same run, on the same weights, without its face detector:

    pip install --no-deps --target DIR thermal-face-alignment timm torchvision

torchvision's compiled operators do not load beside a CPU build of torch, but nothing here calls them: their names are
declared, so that it can be imported. The package pads a level's right side by the parity of its height's padding; frames whose
levels differ in that are refused, for there the windows are not the same.
"""

import argparse
import platform
import re
import sys
import tempfile
import time
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from models.augment.canvas import paint_texture
from models.landmarks.detect import Detector, Search, cut_windows, finest_level, load_detector, pyramid_sizes
from models.landmarks.intensity import unit_values
from models.landmarks.network import Landmarker, LandmarkerConfig
from tests.models.landmarks import naive


def random_landmarker(standard: Literal[70, 478], width: float) -> Landmarker:
    """Return a landmarker of random weights that react to pictures."""
    torch.manual_seed(0)
    model = Landmarker(LandmarkerConfig(standard=standard, width=width))
    rng = np.random.default_rng(0)
    seen = np.stack([unit_values(paint_texture(64, rng)) for _ in range(16)])
    return naive.make_react(model, seen)


def load_package(folder: Path, model: Landmarker) -> Callable[[np.ndarray], np.ndarray]:
    """Return the package's search with the weights of `model`: a grey frame uint8 [H, W] in, landmarks [L, 2] px out."""
    sys.path.insert(0, str(folder))
    operators = torch.library.Library("torchvision", "DEF")
    for name in set(
        re.findall(r'"(?:torchvision::)?(\w+)"\)', (folder / "torchvision/_meta_registrations.py").read_text())
    ):
        operators.define(f"{name}() -> ()")
    sys.modules.setdefault("gdown", types.ModuleType("gdown"))  # fetches weights, and ours are given
    import timm  # type: ignore[import-not-found, unused-ignore]

    create = timm.create_model
    timm.create_model = lambda name, pretrained=False, **options: create(name, pretrained=False, **options)
    from tfan.core.models import ThermalLandmarks  # type: ignore[import-not-found, unused-ignore]

    class NoFaces:
        """Stands in for the package's detector, which its sliding window runs and does not use."""

        def __init__(self, **options: object) -> None: ...

        def detect(self, image: np.ndarray) -> None: ...

    ThermalLandmarks._landmarker_cls = NoFaces
    with tempfile.TemporaryDirectory() as scratch:
        path = f"{scratch}/weights.pt"
        torch.save(model.state_dict(), path)
        finder: Any = ThermalLandmarks(model_path=path, device="cpu", n_landmarks=model.config.standard)

    def search(image: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            return np.asarray(finder.process(image, sliding_window=True, mode="pixel")[0])

    return search


def measure_seconds(run: Callable[[], object], repeats: int) -> tuple[float, float]:
    """Return the best wall and processor seconds of `repeats` runs."""
    found = []
    for _ in range(repeats):
        wall, busy = time.perf_counter(), time.process_time()
        run()
        found.append((time.perf_counter() - wall, time.process_time() - busy))
    return min(w for w, _ in found), min(b for _, b in found)


def time_find(folder: Path, height: int, width: int, repeats: int) -> None:
    """Print the seconds per megapixel of `find` with the landmarker in `folder`, by the smallest face that is asked for."""
    finder, image = load_detector(folder), paint_texture(max(height, width), np.random.default_rng(1))[:height, :width]
    for least in (None, 0.2, 0.05):
        level = finest_level(height, width, finder.config.size, finder.framed, least)
        finder.search = Search(finest=level)
        wall, busy = measure_seconds(lambda: finder.find(image), repeats)
        asked = "the default" if least is None else f"{least:g} of the shorter side"
        each = busy / (height * width / 10**6)
        print(f"find from {asked} (level {level}): {wall:.2f} s, {each:.2f} s of one core a megapixel")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--frame", type=int, nargs=2, default=[480, 640], metavar=("HEIGHT", "WIDTH"))
    parser.add_argument("--standard", type=int, default=70, choices=[70, 478])
    parser.add_argument("--width", type=float, default=1.0)
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--batches", type=int, nargs="+", default=[4])
    parser.add_argument("--dtypes", nargs="+", default=["float32", "bfloat16"])
    parser.add_argument("--package", type=Path, metavar="DIR", help="folder with the published package")
    parser.add_argument("--find", type=Path, metavar="DIR", help="only: a landmarker's folder, timed over a frame")
    args = parser.parse_args()
    torch.set_num_threads(1)
    height, width = args.frame
    if args.find:
        time_find(args.find, height, width, args.repeats)
        return
    model = random_landmarker(args.standard, args.width)
    image = paint_texture(max(height, width), np.random.default_rng(1))[:height, :width, 0].copy()
    values = unit_values(image)
    count = len(cut_windows(values, 224, Search())[1])
    print(f"{platform.machine()}, torch {torch.__version__}, 1 thread, {width} x {height}, {count} windows")
    truth, _ = naive.search(model, values, stride=100)
    loops = {"plain, a level per batch": True, "plain, a window at a time": False}
    searches: dict[str, Callable[[], Any]] = {
        name: lambda one=one: naive.search(model, values, 100, one_batch=one)[0]  # type: ignore[misc]
        for name, one in loops.items()
    }
    if args.package:
        odd = [[(224 - side % 224) % 2 for side in level] for level in pyramid_sizes(height, width, 224, Search())]
        if any(down != right for down, right in odd):
            raise SystemExit(
                f"--frame {height} {width}: the package's padding differs there; try another, like 348 464"
            )
        theirs = load_package(args.package, model)
        searches["the package"] = lambda: theirs(image)
    base = {}
    for name, search in searches.items():
        off = float(np.abs(search() - truth).max())
        if off > 0.03:
            raise SystemExit(f"{name}: points differ by {off:.3f} px from the plain loop")
        base[name] = measure_seconds(search, args.repeats)
    for name, (wall, busy) in base.items():
        print(f"{name:28} {wall:7.2f} s by the clock {busy:7.2f} s of processor time")
    for dtype in args.dtypes:
        for batch in args.batches:
            ours = Detector(model, dtype=dtype, batch=batch)
            off = float(np.abs(ours.best(image).points - truth).max())
            if off > 0.03:
                raise SystemExit(f"{dtype}, batch {batch}: points differ by {off:.3f} px from the plain loop")
            wall, busy = measure_seconds(lambda ours=ours: ours.best(image), args.repeats)  # type: ignore[misc]
            ratios = ", ".join(f"{b / busy:.2f} x {name}" for name, (_, b) in base.items())
            print(
                f"ours, {dtype}, batch {batch}:  {wall:.2f} s by the clock {busy:.2f} s of processor time "
                f"({ratios}); {off:.4f} px off"
            )


if __name__ == "__main__":
    main()
