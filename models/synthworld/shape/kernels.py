"""Run the distance field as compiled loops where that pays, else eagerly.

A kernel is a function of a figure's numbers, coordinates and a kind. Compiled, the numbers travel in one tensor, so a
kernel is built once per kind, not per person, and kept in a folder under THERMAPAIR_CACHE (default ~/.cache/thermapair)
named by the digest of its source. Compiled is about 10 times faster; distances agree to float32 rounding, so single
pixels may differ by a grey level. Building all 16 takes some 4 minutes of processor time and a C++ compiler, so kernels
that are there are used, and missing ones are built only for many pictures: see `expect`. THERMAPAIR_COMPILE=0 never
uses any, 1 always builds.
"""

import ast
import functools
import hashlib
import os
import shutil
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from filelock import FileLock
from torch import Tensor, nn

PAD = 64
"""Coordinates are padded to a multiple of this, so that no kernel sees a size that compilers treat specially."""

BUILD_FROM = 1000
"""From this many pictures on, building kernels pays."""

_expected = 0
_eager = ContextVar("eager", default=False)
_SOURCES = ("primitives.py", "sdf.py", "cover.py", "march.py")


def expect(pictures: int) -> None:
    """Say how many pictures this process and its siblings are about to render."""
    global _expected
    _expected = pictures


@contextmanager
def eagerly() -> Iterator[None]:
    """Within it nothing compiled is used: the same numbers on every machine of a kind, built kernels or none."""
    token = _eager.set(True)
    try:
        yield
    finally:
        _eager.reset(token)


def can_compile() -> bool:
    """Return whether kernels may be used here."""
    asked = os.environ.get("THERMAPAIR_COMPILE", "")
    return asked != "0" and shutil.which(os.environ.get("CXX") or "g++") is not None


def _may_build() -> bool:
    """Return whether a missing kernel is built here."""
    return os.environ.get("THERMAPAIR_COMPILE") == "1" or _expected >= BUILD_FROM


@functools.cache
def kernel(function: Callable[..., Any], kind: str) -> Callable[..., Any]:
    """Return `function(q, x, y, z, ..., kind=kind)`, compiled where possible."""
    eager = functools.partial(function, kind=kind)
    if not can_compile():
        return eager
    loaded: list[Callable[..., Any]] = []

    def call(q: SimpleNamespace, *coordinates: Tensor) -> Any:
        if _eager.get():
            return eager(q, *coordinates)
        # Load on the first call: only then the names of the numbers are known.
        names, numbers = pack_numbers(q)
        if not loaded:
            loaded.append(_load(function, kind, names, len(coordinates)) or (lambda *_: None))
        # Compiled code sees multiples of PAD alone.
        n = coordinates[0].numel()
        padded = [nn.functional.pad(c, (0, -n % PAD)) for c in coordinates] if n % PAD else coordinates
        found = loaded[0](numbers, *padded)
        if found is None:
            return eager(q, *coordinates)
        return found[:n] if isinstance(found, Tensor) else tuple(f[:n] for f in found)

    return call


def _load(function: Callable[..., Any], kind: str, names: tuple[str, ...], count: int) -> Callable[..., Any] | None:
    """Return the compiled kernel, None if it is neither there nor to be built."""
    path = _folder(names) / f"{function.__name__.strip('_')}-{kind or 'any'}.pt2"
    try:
        if not path.exists():
            if not _may_build():
                return None
            _build(function, kind, names, count, path)
        return torch._inductor.aoti_load_package(str(path), run_single_threaded=True)
    except Exception as error:  # any compiler trouble only costs speed
        warnings.warn(f"{path.name} could not be compiled ({error}); rendering without it, slower", stacklevel=2)
        return None


def _folder(names: tuple[str, ...]) -> Path:
    """Return the folder of kernels built from these sources, with this torch, for this processor and these names of numbers."""
    digest = hashlib.sha256()
    for source in _SOURCES:
        tree = ast.parse((Path(__file__).parent / source).read_text())
        digest.update(ast.dump(tree).encode())  # comments and layout do not matter
    capability = torch.backends.cpu.get_cpu_capability()
    digest.update("\n".join((torch.__version__, capability, *names)).encode())
    cache = Path(os.environ.get("THERMAPAIR_CACHE") or Path.home() / ".cache" / "thermapair")
    return cache / f"kernels-{digest.hexdigest()[:16]}"


class _Flat(nn.Module):
    """A kernel with the figure's numbers in one tensor."""

    def __init__(self, function: Callable[..., Any], kind: str, names: tuple[str, ...]) -> None:
        super().__init__()
        self.function, self.kind, self.names = function, kind, names

    def forward(self, numbers: Tensor, *coordinates: Tensor) -> Any:
        q = SimpleNamespace(**dict(zip(self.names, numbers.unbind(), strict=True)))
        return self.function(q, *coordinates, kind=self.kind)


def _build(function: Callable[..., Any], kind: str, names: tuple[str, ...], count: int, path: Path) -> None:
    """Build a kernel at `path`, once for all processes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path.with_suffix(".lock")):
        if not path.exists():
            _build_alone(function, kind, names, count, path)


def _build_alone(function: Callable[..., Any], kind: str, names: tuple[str, ...], count: int, path: Path) -> None:
    """Build a kernel at `path`: export it for any multiple of PAD points, compile it, move it into place whole."""
    size = torch.export.Dim("size", min=2, max=1 << 20)
    example = (torch.ones(len(names)), *(torch.rand(PAD * 4) for _ in range(count)))
    shapes = {"numbers": None, "coordinates": tuple({0: size * PAD} for _ in range(count))}
    with torch.no_grad(), tempfile.TemporaryDirectory(dir=path.parent) as scratch:
        program = torch.export.export(_Flat(function, kind, names), example, dynamic_shapes=shapes)
        built = torch._inductor.aoti_compile_and_package(program, package_path=str(Path(scratch) / path.name))
        os.replace(built, path)


def pack_numbers(q: SimpleNamespace) -> tuple[tuple[str, ...], Tensor]:
    """Return the names of the figure's numbers and their values, float32 [K]; kept on the figure."""
    if not hasattr(q, "packed"):
        names = tuple(name for name, value in vars(q).items() if isinstance(value, int | float))
        q.packed = names, torch.tensor([float(getattr(q, name)) for name in names])
    found: tuple[tuple[str, ...], Tensor] = q.packed
    return found
