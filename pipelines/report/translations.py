"""The picture of a translate job: thermal pictures, what was made of each, and the true visible one where there is one."""

import io
from itertools import islice

import numpy as np
import pyarrow as pa
from PIL import Image, ImageDraw

from models.temperature import from_centikelvin
from pipelines.pictures.codecs import decode
from pipelines.pictures.square import make_square
from pipelines.plan.translate import TranslatePlan
from pipelines.report.sheet import FAINT, INK, PAPER, TILE, colour_degrees, draw_label, font
from pipelines.storage.commits import Commit, read_shard

SHEET = "report/contact.png"
PICTURES_SHOWN, DRAWS_SHOWN = 12, 4
EDGE, HEAD, LINE = 24, 84, 26
COLUMNS = ("name", "draw", "visible", "thermal", "thermal_kind")


def draw_translations(plan: TranslatePlan, commits: dict[int, Commit]) -> bytes | None:
    """Return a PNG with a line for each of the first pictures; None where nothing was made."""
    lines = _collect_lines(plan, commits)
    if not lines:
        return None
    # A sheet as wide as the longest line, with what it shows above.
    across = max(map(len, lines.values()))
    wide = 2 * EDGE + across * (TILE + 2)
    sheet = Image.new("RGB", (max(wide, 560), HEAD + len(lines) * (TILE + LINE + EDGE)), PAPER)
    draw = ImageDraw.Draw(sheet)
    truth = " · truth" if any("truth" in shown for shown in lines.values()) else ""
    draw.text((EDGE, 12), f"thermal · translations{truth}", INK, font(26))
    draw.text(
        (EDGE, 48),
        "A translation is a picture that could be. Thermal pictures have scales of their own.",
        FAINT,
        font(13),
    )
    # A line for each picture: its name, and its tiles beside each other.
    for number, (name, shown) in enumerate(lines.items()):
        top = HEAD + number * (TILE + LINE + EDGE)
        draw.text((EDGE, top), name, FAINT, font(15))
        for place, (label, pixels) in enumerate(shown.items()):
            at = (EDGE + place * (TILE + 2), top + LINE)
            sheet.paste(Image.fromarray(pixels).resize((TILE, TILE), Image.Resampling.LANCZOS), at)
            draw_label(draw, (at[0] + 6, at[1] + TILE - 22), label)
    sink = io.BytesIO()
    sheet.save(sink, "PNG", compress_level=4)
    return sink.getvalue()


def _collect_lines(plan: TranslatePlan, commits: dict[int, Commit]) -> dict[str, dict[str, np.ndarray]]:
    """Return name -> label -> uint8 [S, S, 3] of the first pictures: thermal, a few translations, and the truth."""
    lines: dict[str, dict[str, np.ndarray]] = {}
    for partition, commit in sorted(commits.items()):
        if not commit.file or len(lines) == PICTURES_SHOWN:
            continue
        table = read_shard(plan.out, partition, commit.file, columns=list(COLUMNS))
        names = list(dict.fromkeys(table["name"].to_pylist()))
        for name in islice(names, PICTURES_SHOWN - len(lines)):
            lines[name] = _read_line(table, name)
        # What lies beside the thermal picture where it came from.
        for sample in plan.sample_table(partition).to_pylist():
            if sample["name"] in names and sample["name"] in lines:
                truth = plan.find_truth(sample)
                if truth is not None:
                    lines[sample["name"]]["truth"] = make_square(truth, plan.job.size)[0]
    return lines


def _read_line(table: pa.Table, name: str) -> dict[str, np.ndarray]:
    """Return the thermal picture called `name` and its first translations."""
    shown: dict[str, np.ndarray] = {}
    for row in range(len(table)):
        if table["name"][row].as_py() != name or len(shown) > DRAWS_SHOWN:
            continue
        if not shown:
            kind, values = table["thermal_kind"][row].as_py(), decode(table["thermal"][row].as_py()["bytes"])
            degrees = values.astype(np.float32) if kind == "agc" else from_centikelvin(values)
            low, high = np.nanpercentile(degrees, (2, 99.5))
            label = "grey levels" if kind == "agc" else f"{low:.0f} to {high:.0f} °C"
            shown[label] = colour_degrees(np.nan_to_num(degrees, nan=low), (low, max(high, low + 1)))
        shown[f"draw {table['draw'][row].as_py() + 1}"] = decode(table["visible"][row].as_py()["bytes"])
    return shown
