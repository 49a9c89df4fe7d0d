"""The tables of `evaluate hfr` as a page."""

import re
from pathlib import Path
from typing import Any

from models.evaluation.hfr.recipe import WHY
from pipelines.evaluation.lapig.pages import tabulate
from pipelines.report.template import load_template

TEMPLATE = Path(__file__).parent.parent / "templates" / "hfr.md"
NAMES = {
    "against": "over",
    "seeds": "seeds",
    "auc": "AUC",
    "eer": "EER",
    "vr_at_far_1e-2": "VR@FAR 1 %",
    "vr_at_far_1e-3": "VR@FAR 0.1 %",
    "rank1": "rank-1",
    "above": "strangers below the own face",
}


def render_tables(found: dict[str, Any], facts: dict[str, Any]) -> str:
    """Return the tables as Markdown, by `templates/hfr.md`. found: tables by name, by test set."""
    page = load_template(TEMPLATE).render(
        **facts,
        why=[[row, text] for row, text in WHY.items() if row in facts["sources"]],
        absent=[row for row in WHY if row not in facts["sources"]],
        found={test: {name: tabulate(rows, NAMES) for name, rows in tables.items()} for test, tables in found.items()},
    )
    return re.sub(r"\n{3,}", "\n\n", page)  # sections that are left out leave blank lines
