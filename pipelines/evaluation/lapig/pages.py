"""The tables of `evaluate lapig` as a page."""

import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from models.attributes import ATTRIBUTES
from models.evaluation.lapig.tables import UNREAD
from models.evaluation.lapig.ways import WHY
from pipelines.evaluation.pages import format_interval
from pipelines.report.template import load_template

TEMPLATE = Path(__file__).parent.parent / "templates" / "lapig.md"
Table = dict[str, Any]
NAMES = {
    "cosine": "cosine to asked",
    "judge_cosine": "cosine to known",
    "other_view": "cosine to the true view",
    "copy_paste": "copy-paste",
    "face_found": "face found",
    "yaw": "yaw, deg",
    "pitch": "pitch, deg",
    "roll": "roll, deg",
    "agreement": "landmarks apart, NME",
    "apart": "from `full`, K",
    "variety": "pixels, of 255",
    "variety_features": "features, 1 - cosine",
    "consistency": "judge's cosine",
    "mae": "absolute error, K",
    "mae_one": "of one draw, K",
    "mae_offset": "without image offset, K",
    "crps": "CRPS, K",
    "spread_skill": "spread over error",
    "spectrum": "spectrum, log10",
}
PEOPLE = {
    "people": "people",
    "asked_nearest": "nearest two asked, deg",
    "asked_median": "nearest, median, deg",
    "unique_asked": "unique, asked",
    "made_nearest": "nearest two made, deg",
    "made_median": "nearest made, median, deg",
    "unique": "unique by the judge",
    "consistency": "views of one, cosine",
    "likeness": "to the nearest trained on",
    "leaked": "share above the threshold",
    "rank_asked": "effective rank, asked",
    "rank": "effective rank, made",
}

SAID = {"attributes": "words", "views": "poses", "regions": "degrees with classes"}
"""Table of pairs that are there already -> what rows have to say for it."""


def render_tables(found: dict[str, Any], facts: dict[str, Any]) -> str:
    """Return the tables as Markdown, by `templates/lapig.md`."""
    rows = {row["row"] for name in ("identity", "agreement") for row in found.get(name, [])}
    shown = ("identity", "tones", "views", "agreement", "made_degrees", "diversity", "degrees")
    page = load_template(TEMPLATE).render(
        **facts,
        why=[[row, text] for row, text in WHY.items() if row in rows],
        absent=[row for row in WHY if row not in rows],
        unsaid=[] if "people" in facts["recipe"] else _unsaid(found),
        **{name: tabulate(found.get(name, [])) for name in shown},
        regions=[
            [key.removeprefix("mean_"), format_cell(value)]
            for row in found.get("regions", [])
            for key, value in row.items()
            if key != "row" and format_cell(value)
        ],
        attributes=_attributes(found.get("attributes", [])),
        distribution=tabulate(found.get("distribution", [])),
        people=tabulate(found.get("people", []), PEOPLE),
        threshold=next((row["threshold"] for row in found.get("people", [])), None),
        strangers=next((format_cell(row.get("strangers")) for row in found.get("people", [])), ""),
        speed=[
            [row["row"], f"{row['pairs_per_second']:.2f}", ", ".join(f"{k} {v:.0%}" for k, v in row["shares"].items())]
            for row in found.get("speed", [])
        ],
    )
    return re.sub(r"\n{3,}", "\n\n", page)  # sections that are left out leave blank lines


def tabulate(rows: Sequence[Table], names: dict[str, str] | None = None) -> dict[str, Any] | None:
    """Return head and cells of a table without the columns that no row has; None without rows. names: of the columns."""
    columns = names or {key: title_of(key) for row in rows for key in row if key != "row"}
    there = [key for key in columns if any(format_cell(row.get(key)) for row in rows)]
    if not there:
        return None
    cells = [[row["row"], *(format_cell(row.get(key)) for key in there)] for row in rows]
    return {"head": ["row", *(columns[key] for key in there)], "rows": cells}


def title_of(name: str) -> str:
    """Return how a figure is called on the page."""
    if "rank1_" in name:
        return f"rank-1 of {name.rpartition('_')[2]}{', grey' if name.startswith('grey') else ''}"
    for prefix in ("degrees_", "mae_"):
        if name.startswith(prefix) and name not in NAMES:
            return name.removeprefix(prefix)
    return NAMES.get(name, name)


def format_cell(value: Any) -> str:
    """Return an estimate as `value [low, high]`, a number with three decimals, whole numbers and words as they are."""
    if isinstance(value, int | str):
        return str(value)
    if isinstance(value, float):
        return f"{value:.3f}" if value == value else ""
    if value and value["low"] != value["low"] and value["value"] == value["value"]:
        return f"{value['value']:.3f}"
    return format_interval(value)


def _attributes(rows: Sequence[Table]) -> dict[str, Any] | None:
    """Return the attributes' table turned over: an attribute in every line, a way in every column; None without a figure.
    Attributes that nobody asked for, and ways that were asked for none, are left out."""
    names: Iterable[str] = [name for name in ATTRIBUTES if name not in UNREAD]
    # Ways as columns, those with a figure; then attributes as lines, likewise.
    asked = [row for row in rows if _says(row)]
    lines = [[name, *(format_cell(row[name]) for row in asked)] for name in [*names, "mean", *UNREAD]]
    lines = [line for line in lines if any(line[1:])]
    return {"head": ["attribute", *(row["row"] for row in asked)], "rows": lines} if lines else None


def _says(row: Table) -> bool:
    """Return whether a row of a table has any figure."""
    return any(format_cell(value) for key, value in row.items() if key != "row")


def _unsaid(found: dict[str, Any]) -> list[str]:
    """Return what the rows would have had to say for tables that have no figure."""
    return [words for name, words in SAID.items() if not any(map(_says, found.get(name, [])))]
