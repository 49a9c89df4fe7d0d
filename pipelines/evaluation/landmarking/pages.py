"""The tables of `evaluate landmarks` as a page."""

from pathlib import Path
from typing import Any

from models.evaluation.landmarking.recipe import WHY
from pipelines.evaluation.hfr.pages import render_sources

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
    return render_sources(TEMPLATE, found, facts, WHY, NAMES)
