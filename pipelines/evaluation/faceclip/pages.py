"""The tables of `evaluate faceclip` as a page."""

import re
from pathlib import Path
from typing import Any

from models.attributes import ATTRIBUTES
from models.evaluation.faceclip.ways import WHY
from models.evaluation.lapig.tables import UNREAD
from pipelines.evaluation.lapig.pages import format_cell, tabulate
from pipelines.report.template import load_template

TEMPLATE = Path(__file__).parent.parent / "templates" / "faceclip.md"
NAMES = {
    "reference": "cosine to the reference",
    "other_view": "cosine to another picture",
    "copy_paste": "copy-paste",
    "rank1": "rank-1",
    "balanced": "words that are there",
    "words": "the same, of all asked words",
    "clip": "CLIP's cosine to the caption",
    "face_found": "face found",
}
ASKED = {
    "r1_face": "R@1, by the face alone",
    "r1_text": "R@1, by the text alone",
    "r1_sum": "R@1, by the sum of both",
    "r1_joint": "R@1, by the embedding of both",
    "conflict_face": "conflict, face alone",
    "conflict_text": "conflict, text alone",
    "conflict_sum": "conflict, sum of both",
    "conflict_joint": "conflict, the embedding of both",
}


def render_tables(found: dict[str, Any], facts: dict[str, Any]) -> str:
    """Return the tables as Markdown, by `templates/faceclip.md`."""
    rows = {row["row"] for row in found["pictures"]}
    page = load_template(TEMPLATE).render(
        **facts,
        why=[[row, text] for row, text in WHY.items() if row in rows],
        absent=[row for row in WHY if row not in rows],
        embedding=[[ASKED[row["row"]], row["pictures"], format_cell(row["value"])] for row in found["embedding"]],
        pictures=tabulate(found["pictures"], NAMES),
        leads=tabulate(found["leads"], {name: NAMES[name] for name in ("reference", "other_view", "balanced", "clip")}),
        attributes=_by_attribute(found["attributes"]),
        distribution=tabulate(found["distribution"], {"value": "FID-world"}),
        trainings=[
            [row["row"], row["seed"], row["parameters"], row["rows"], f"{row['seconds']:.0f}"]
            for row in found["trainings"]
        ],
    )
    return re.sub(r"\n{3,}", "\n\n", page)  # sections that are left out leave blank lines


def _by_attribute(rows: list[dict[str, Any]]) -> dict[str, Any] | None:
    """Return the attributes' table turned over: an attribute in every line, a row in every column."""
    if not rows:
        return None
    names = [*(name for name in ATTRIBUTES if name not in UNREAD), "mean", *UNREAD]
    return {
        "head": ["attribute", *(row["row"] for row in rows)],
        "rows": [[name, *(format_cell(row[name]) for row in rows)] for name in names],
    }
