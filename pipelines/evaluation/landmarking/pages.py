"""The tables of `evaluate landmarks` as a page."""

import re
from pathlib import Path
from typing import Any

from models.evaluation.landmarking.recipe import WHY
from pipelines.evaluation.lapig.pages import tabulate
from pipelines.report.template import load_template

TEMPLATE = Path(__file__).parent.parent / "templates" / "landmarks.md"
NAMES = {
    "against": "below",
    "seeds": "seeds",
    "nme": "NME W/H",
    "nme_to30": "to 30 degrees of yaw",
    "nme_30to60": "30 to 60",
    "nme_over60": "over 60",
    "failed": "failed",
}


def render_tables(found: dict[str, Any], facts: dict[str, Any]) -> str:
    """Return the tables as Markdown, by `templates/landmarks.md`. found: tables by name, by test set."""
    page = load_template(TEMPLATE).render(
        **facts,
        why=[[row, text] for row, text in WHY.items() if row in facts["sources"]],
        absent=[row for row in WHY if row not in facts["sources"]],
        found={test: {name: tabulate(rows, NAMES) for name, rows in one.items()} for test, one in found.items()},
    )
    return re.sub(r"\n{3,}", "\n\n", page)  # sections that are left out leave blank lines
