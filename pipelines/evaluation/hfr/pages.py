"""The tables of `evaluate hfr` as a page."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from models.evaluation.hfr.recipe import WHY
from pipelines.evaluation.lapig.pages import tabulate
from pipelines.report.template import load_template

TEMPLATE = Path(__file__).parent.parent / "templates" / "hfr.md"
FIGURES = {
    "auc": "AUC",
    "eer": "EER",
    "vr_at_far_5e-2": "VR@FAR 5 %",
    "vr_at_far_1e-2": "VR@FAR 1 %",
    "vr_at_far_1e-3": "VR@FAR 0.1 %",
    "rank1_probes": "rank-1, of probes",
    "rank1": "rank-1, mean of people",
}
"""Figure of recognition -> what it is called on pages."""
NAMES = {"against": "over", "seeds": "seeds", **FIGURES, "above": "strangers below the own face"}


def render_tables(found: dict[str, Any], facts: dict[str, Any]) -> str:
    """Return the tables as Markdown, by `templates/hfr.md`. found: tables by name, by test set."""
    return render_sources(TEMPLATE, found, facts, WHY, NAMES)


def render_sources(
    template: Path, found: Mapping[str, Any], facts: Mapping[str, Any], why: Mapping[str, str], names: Mapping[str, str]
) -> str:
    """Return tables as Markdown by a template. found: tables by name, by test set; facts: `sources` and what the page says of its
    making; why: what each source is; names: heading of each column."""
    page = load_template(template).render(
        **facts,
        why=[[row, text] for row, text in why.items() if row in facts["sources"]],
        absent=[row for row in why if row not in facts["sources"]],
        found={test: {name: tabulate(rows, dict(names)) for name, rows in one.items()} for test, one in found.items()},
    )
    return re.sub(r"\n{3,}", "\n\n", page)  # sections that are left out leave blank lines
