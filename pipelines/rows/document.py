"""docs/data.md: what the rows of our outputs hold, from `models.columns`. `python -m pipelines.rows.document` writes it."""

from collections.abc import Sequence
from pathlib import Path

from models.columns import COLUMNS, SPLITS, THERMAL_KINDS, Column
from pipelines.rows.schema import GATHERED, RECORD, WORLD

PATH = Path(__file__).parents[2] / "docs" / "data.md"
CODECS = {"picture": "JPEG or PNG", "png": "PNG", "centikelvin": "PNG of 16 bit", "json": "JSON text"}
SECTIONS = {
    "The record": (
        RECORD,
        "Rows of `thermapair generate`, `thermapair thermalize` and `thermapair translate`: one is one pair.",
    ),
    "The world": (WORLD, "Rows of `thermapair world`: rendered, with everything that is true of them."),
    "Gathered rows": (
        GATHERED,
        "Rows of `thermapair gather`. Points that a data set does not give are NaN; seen are those that are given and lie in "
        "the picture; classes are 255 everywhere where there is no mask.",
    ),
}


def text() -> str:
    """Return the page as Markdown."""
    lines = [
        "# Rows", "",
        "Made from `models/columns.py` by `python -m pipelines.rows.document`. One name means one thing in every file, in "
        "training and in answers.", "",
        "A value belongs to a person, to a sample (one visible picture), or to a layer (one thermal condition and draw of a "
        "sample); a row is a layer, so what belongs to a sample or a person stands in several rows. S is the side of the "
        "pictures. Pictures are structs {bytes, path}, which `datasets` shows decoded; points are flat lists x, y in pixels of "
        "the row's pictures, pixel centres at .5.", "",
        f"Splits are {', '.join(SPLITS)}. `thermal` is in degrees, except where `thermal_kind` is minmax or agc: degC = value / "
        f"100 - 273.15, 0 is no reading. Kinds: {', '.join(THERMAL_KINDS)}.", "",
    ]  # fmt: skip
    for title, (names, what) in SECTIONS.items():
        lines += [f"## {title}", "", what, "", *_table(names), ""]
    return "\n".join(lines)


def _table(names: Sequence[str]) -> list[str]:
    """Return a line for each column."""
    lines = ["| column | type | per | unit | on disk | meaning |", "| --- | --- | --- | --- | --- | --- |"]
    for name in names:
        column = COLUMNS[name]
        cells = (f"`{name}`", _type(column), column.per, column.unit, CODECS.get(column.codec, ""), column.meaning)
        lines.append("| " + " | ".join(cell.replace("|", "/") for cell in cells) + " |")
    return lines


def _type(column: Column) -> str:
    """Return dtype and shape as they are in memory."""
    return f"{column.dtype} [{', '.join(map(str, column.shape))}]" if column.shape else column.dtype


if __name__ == "__main__":
    PATH.write_text(text(), encoding="utf-8")
