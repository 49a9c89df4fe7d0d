"""A function of the distance field for a batch of figures at once.

Such a function takes about a thousand small operations, and in a small picture calling them takes longer than computing them.
So it is recorded once (torch.fx). Operations on numbers alone are then done per figure in Python's floats, as before; those on
coordinates for the whole batch, with numbers as columns [B, 1]. Arithmetic and order stay, so a point's value is that of one
figure alone, up to the last bit where a vector ends: here every row is a multiple of PAD, so neighbours never change it.
"""

import functools
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, fx, nn

from models.synthworld.shape.kernels import PAD, eagerly

LIMIT = 2**15 - PAD
"""Most points of one call: more would be shared out to threads, whose vectors end elsewhere."""

Function = Callable[..., Any]
"""`function(x, y, z, q)` of coordinates and a figure's numbers, which returns a tensor as long as these."""


class Figures:
    """A batch of figures that wear the same."""

    def __init__(self, figures: Sequence[SimpleNamespace]) -> None:
        if any(q.wears != figures[0].wears for q in figures):
            raise ValueError("figures of one batch wear the same")
        self.figures = figures
        self.columns: dict[Function, list[Tensor]] = {}

    def __call__(self, function: Function, x: Tensor, y: Tensor, z: Tensor) -> Tensor:
        """Return `function` of points [B, N], row by row of the figures; N is a multiple of PAD."""
        names = tuple(name for name, value in vars(self.figures[0]).items() if isinstance(value, int | float))
        of_numbers, of_points = _record(function, names, tuple(self.figures[0].wears.items()))
        if function not in self.columns:
            numbers = [of_numbers(*(getattr(q, name) for name in names)) for q in self.figures]
            self.columns[function] = list(torch.tensor(numbers, dtype=torch.float64).float().T[..., None])
        # As many rows at a time as fit, or parts of a row.
        width = min(x.shape[1], LIMIT)
        rows_at_once = LIMIT // max(width, 1)
        found = []
        for first in range(0, len(x), rows_at_once):
            rows = slice(first, first + rows_at_once)
            columns = [column[rows] for column in self.columns[function]]
            parts = [
                of_points(*columns, *(p[rows, start : start + width] for p in (x, y, z)))
                for start in range(0, x.shape[1], width)
            ]
            found.append(torch.cat(parts, 1))
        return torch.cat(found)


@functools.cache
def _record(
    function: Function, names: tuple[str, ...], wears: tuple[tuple[str, Any], ...]
) -> tuple[Function, Function]:
    """Return two functions: from a figure's numbers to all that points meet, and from columns of these and points to values."""
    graph = fx.Graph()
    tracer = fx.proxy.GraphAppendingTracer(graph)
    numbers = [fx.Proxy(graph.placeholder(f"q_{name}"), tracer) for name in names]
    points = [fx.Proxy(graph.placeholder(name), tracer) for name in "xyz"]
    with eagerly():
        found = function(*points, SimpleNamespace(**dict(zip(names, numbers, strict=True)), wears=dict(wears)))
    graph.output(found.node)
    graph.eliminate_dead_code()
    return _split(graph, {point.node for point in points})


def _split(graph: fx.Graph, of_points: set[fx.Node]) -> tuple[Function, Function]:
    """Return the part of a graph that takes numbers alone, giving what the other takes of it, and that other part."""
    # What depends on points, and the numbers that it meets.
    met: dict[fx.Node, None] = {}
    for node in graph.nodes:
        if node in of_points or not of_points.isdisjoint(node.all_input_nodes):
            of_points.add(node)
            met |= dict.fromkeys(source for source in node.all_input_nodes if source not in of_points)
    # Copy either part in its order.
    first, second = fx.Graph(), fx.Graph()
    copies = {node: second.placeholder(f"c_{node.name}") for node in met}
    originals: dict[fx.Node, fx.Node] = {}
    for node in graph.nodes:
        if node in of_points:
            copies[node] = second.node_copy(node, copies.__getitem__)
        else:
            originals[node] = first.node_copy(node, originals.__getitem__)
    first.output(tuple(originals[node] for node in met))
    return tuple(fx.GraphModule(nn.Module(), part).forward for part in (first, second))  # type: ignore[return-value]
