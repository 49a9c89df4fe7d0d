"""The ledger as tables, and which floors are held: at which size a scan is how much faster than attention."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from tests.benchmarks.selective_scan.measure import Found, Key
from tests.benchmarks.selective_scan.rows import ATTENTION, SDPA, SIZES


class Floor(NamedTuple):
    """How many times faster than `base` a row has to be, forward."""

    what: str
    size: int
    row: str
    base: str
    times: float


TWO = "Mamba-2, 2 directions"
FLOORS = (
    Floor("core", 4096, "SSD", SDPA, 4.0),
    Floor("core", 16384, "SSD", SDPA, 10.0),
    Floor("mixer", 4096, TWO, ATTENTION, 1.5),
    Floor("mixer", 4096, f"{TWO}, kernel", ATTENTION, 4.0),
)


def render(found: Found) -> str:
    """Return all of a ledger as Markdown."""
    parts = [_time_table(found, what) for what in ("core", "mixer", "block")]
    parts += [_memory_table(found), _pictures(found), _crossings(found), _floors(found)]
    return "\n\n".join(part for part in parts if part)


def _time_table(found: Found, what: str) -> str:
    def tell(row: str, size: int) -> str:
        return " / ".join(_milliseconds(found, Key(what, size, gradient, row)) for gradient in (False, True))

    return _table(found, what, f"{what}: milliseconds, forward / forward and backward", tell)


def _memory_table(found: Found) -> str:
    def tell(row: str, size: int) -> str:
        lines = [found.get(Key("core", size, gradient, row)) for gradient in (False, True)]
        return " / ".join("-" if line is None or line["mb"] is None else f"{line['mb']:,.0f}" for line in lines)

    return _table(found, "core", "core: MB beside what goes in, forward / forward and backward", tell)


def _pictures(found: Found) -> str:
    def tell(row: str, size: int) -> str:
        line = found.get(Key("translator", size, False, row))
        return "-" if line is None or not line["seconds"] else f"{1 / line['seconds']:.3f}"

    return _table(found, "translator", "translator: pictures a second", tell, "px")


def _table(found: Found, what: str, title: str, tell: Callable[[str, int], str], unit: str = "tokens") -> str:
    """Return a table of rows by sizes. tell: what stands in the cell of a row and size."""
    rows = list(dict.fromkeys(key.row for key in found if key.what == what))
    sizes = sorted({key.size for key in found if key.what == what})
    if not rows:
        return ""
    head = f"| {title} | {' | '.join(f'{size:,} {unit}' for size in sizes)} |\n|{' --- |' * (len(sizes) + 1)}"
    return "\n".join([head, *(f"| {row} | {' | '.join(tell(row, size) for size in sizes)} |" for row in rows)])


def _milliseconds(found: Found, key: Key) -> str:
    if key not in found:
        return "-"
    seconds = found[key]["seconds"]
    if seconds is None:
        return "out of memory"
    return f"{1000 * seconds:,.1f}" if seconds < 0.01 else f"{1000 * seconds:,.0f}"


def _ratio(found: Found, what: str, size: int, row: str, base: str) -> float | None:
    """Return how many times faster a row is than `base`, forward; None where either is not measured."""
    pair = [found.get(Key(what, size, False, one)) for one in (base, row)]
    if any(line is None or not line["seconds"] for line in pair):
        return None
    slow, fast = (line["seconds"] for line in pair if line)
    return float(slow / fast)


def _crossings(found: Found) -> str:
    """Return, of every row that scans, from which of the measured sizes on it is faster than attention, forward."""
    lines = []
    for what, base in (("core", SDPA), ("mixer", ATTENTION), ("block", ATTENTION), ("translator", ATTENTION)):
        rows = dict.fromkeys(key.row for key in found if key.what == what and key.row != base)
        for row in rows:
            ratios = {size: _ratio(found, what, size, row, base) for size in SIZES[what]}
            known = {size: ratio for size, ratio in ratios.items() if ratio is not None}
            first = next((size for size in known if _stays(known, size)), None)
            told = ", ".join(f"{size:,}: {ratio:.2f}x" for size, ratio in known.items())
            if known:
                lines.append(f"- {what}, {row}: {'never' if first is None else f'from {first:,} on'} ({told})")
    return "\n".join(["Faster than attention, forward:", *lines]) if lines else ""


def _stays(ratios: dict[int, float], size: int) -> bool:
    return all(ratio >= 1 for other, ratio in ratios.items() if other >= size)


def _floors(found: Found, floors: Sequence[Floor] = FLOORS) -> str:
    """Return which of the floors are held."""
    lines = []
    for floor in floors:
        ratio = _ratio(found, floor.what, floor.size, floor.row, floor.base)
        if ratio is not None:
            held = "held" if ratio >= floor.times else "MISSED"
            name = f"{floor.what}, {floor.size:,}: {floor.row} over {floor.base}"
            lines.append(f"- {name} {ratio:.1f}x, at least {floor.times:g}x: {held}")
    return "\n".join(["Floors:", *lines]) if lines else ""
