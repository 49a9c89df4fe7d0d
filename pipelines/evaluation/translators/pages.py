"""The tables of `evaluate translation` as a page."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from models.evaluation.translators import WHY
from pipelines.evaluation.hfr.pages import FIGURES
from pipelines.evaluation.lapig.pages import tabulate
from pipelines.report.template import load_template

TEMPLATE = Path(__file__).parent.parent / "templates" / "translation.md"


def render_tables(found: dict[str, Any], facts: dict[str, Any]) -> str:
    """Return the tables as Markdown, by `templates/translation.md`."""
    there = [row["row"] for row in found["identity"]]
    page = load_template(TEMPLATE).render(
        **facts,
        why=[[row, text] for row, text in WHY.items() if row in there],
        absent=[row for row in WHY if row not in there and row not in facts["left_out"]],
        **{name: tabulate(rows, _heads(rows)) for name, rows in found.items()},
    )
    return re.sub(r"\n{3,}", "\n\n", page)


def _heads(rows: Sequence[dict[str, Any]]) -> dict[str, str]:
    """Return the columns of a table as they are called."""
    titles = {**FIGURES, "psnr": "PSNR, dB", "ssim": "SSIM", "diversity": "spread of draws, of 255"}
    return {key: titles.get(key, key) for row in rows for key in row if key != "row"}
