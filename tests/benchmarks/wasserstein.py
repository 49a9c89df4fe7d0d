"""Time and accuracy of the patch term's solvers: `python -m tests.benchmarks.wasserstein [--threads 2] [--device cpu]`.

512 x 512 patches of 8 x 8 values, from rendered faces at several sizes: `near`, of different people in the same room;
`far`, the same under `warm` and `cold`; `apart`, these with half the scale (10 degrees) between them, as early in training.
Every line gives the relative error against POT's exact value, and length and cosine of the gradient against the exact
plan's, beside its times; a ratio of times alone says nothing.
geomloss is measured, too, when it can be imported (T-FAKE's settings: p=2, blur=0.001, debias=False, scaling=0.5), in the
same run; it needs no more than torch: `pip install --no-deps --target DIR geomloss`, then PYTHONPATH=DIR.
"""

import argparse
import importlib.util
import platform
import time
from collections.abc import Callable
from functools import partial

import ot
import torch
from torch import Tensor

from models.synthworld.render.render import render
from models.synthworld.sampling.domain import load_domain, sample_scene
from models.thermal.losses import cut, shrink
from models.thermal.wasserstein import costs, exact, sinkhorn

SIZES = (96, 64, 32, 16)


SETS = {"near": ("warm", "warm", 0.0), "far": ("warm", "cold", 0.0), "apart": ("warm", "cold", -0.5)}
"""Conditions of the two sides, and what is added to the second."""


def clouds(count: int, people: int, kind: str) -> tuple[Tensor, Tensor]:
    """Return patches float32 [4 sizes, count, 64] on T-FAKE's scale: of some people, and of others."""
    sides = []
    one, other, shift = SETS[kind]
    for first, condition in ((1, one), (1 + people, other)):
        scenes = [sample_scene(load_domain("portrait"), first + k, 0, condition) for k in range(people)]
        rendered = render(scenes, SIZES[0])
        values, keep = ((rendered.apparent - 20) / 20).float(), rendered.classes != 0
        draw = torch.Generator().manual_seed(first)
        sides.append(torch.stack([_cut(*shrink(values, keep, size), count, draw) for size in SIZES]))
    return sides[0], sides[1] + shift


def _cut(values: Tensor, keep: Tensor, count: int, draw: torch.Generator) -> Tensor:
    found = cut(values, keep, 8, count, draw)
    assert found is not None
    return found


def geomloss_solver(scaling: float) -> Callable[[Tensor, Tensor], Tensor]:
    from geomloss import SamplesLoss  # type: ignore[import-not-found, unused-ignore]

    loss = SamplesLoss("sinkhorn", p=2, blur=0.001, debias=False, scaling=scaling, backend="tensorized")
    return lambda x, y: torch.stack([2 * loss(*clouds) for clouds in zip(x, y, strict=True)])


def measure(
    name: str, solve: Callable[[Tensor, Tensor], Tensor], x: Tensor, y: Tensor, truth: Tensor, rounds: int
) -> None:
    """Print errors, time of the value and time with the gradient, per problem; the best of `rounds`."""
    value, wall, busy, both = solve(x, y), float("inf"), float("inf"), float("inf")
    wanted, found = (_gradient(one, x, y) for one in (exact, solve))
    length = (found.norm(dim=(1, 2)) / wanted.norm(dim=(1, 2))).tolist()
    cosine = torch.nn.functional.cosine_similarity(found.flatten(1), wanted.flatten(1)).tolist()
    for _ in range(rounds):
        start, spent = time.perf_counter(), time.process_time()
        solve(x, y).sum().item()  # waits for a GPU
        wall, busy = min(wall, time.perf_counter() - start), min(busy, time.process_time() - spent)
        start = time.perf_counter()
        float(_gradient(solve, x, y).sum())
        both = min(both, time.perf_counter() - start)
    error = ((value.cpu().double() - truth) / truth).abs()
    each = 1000 / len(x)
    print(
        f"{name:24} error {100 * error.mean():7.3f} % (worst {100 * error.max():7.3f} %)   gradient {min(length):6.3f} to"
        f" {max(length):6.3f} as long, cosine {min(cosine):6.4f}   {wall * each:8.1f} ms by the clock,"
        f" {busy * each:8.1f} ms of processor time, {both * each:8.1f} ms with gradient"
    )


def _gradient(solve: Callable[[Tensor, Tensor], Tensor], x: Tensor, y: Tensor) -> Tensor:
    leaf = x.clone().requires_grad_()
    return torch.autograd.grad(solve(leaf, y).sum(), leaf)[0]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=512)
    parser.add_argument("--people", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--sets", nargs="+", choices=SETS, default=list(SETS))
    parser.add_argument("--sweeps", type=int, nargs="+", default=[2, 5, 10, 40])
    parser.add_argument("--scaling", type=float, nargs="+", default=[0.5, 0.9, 0.95], help="of geomloss; 0.5: T-FAKE's")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    print(
        f"{platform.machine()}, torch {torch.__version__}, POT {ot.__version__}, {args.threads} threads, {args.device};"
        f" {len(SIZES)} problems of {args.count} x {args.count} patches, per problem:"
    )
    solvers: dict[str, Callable[[Tensor, Tensor], Tensor]] = {"exact (POT emd)": exact}
    solvers |= {f"sinkhorn sweeps={sweeps}": partial(sinkhorn, sweeps=sweeps) for sweeps in args.sweeps}
    if importlib.util.find_spec("geomloss"):
        solvers |= {f"geomloss scaling={scaling}": geomloss_solver(scaling) for scaling in args.scaling}
    else:
        print("geomloss is not installed: not measured")
    for kind in args.sets:
        x, y = (side.to(args.device) for side in clouds(args.count, args.people, kind))
        truth = torch.tensor(
            [ot.emd2([], [], costs(a, b).cpu().numpy()) for a, b in zip(x.double(), y.double(), strict=True)]
        )
        print(f"{kind}: W2^2 a value {truth.min() / x.shape[-1]:.2e} to {truth.max() / x.shape[-1]:.2e}")
        for name, solve in solvers.items():
            measure(name, solve, x, y, truth, args.rounds)


if __name__ == "__main__":
    main()
