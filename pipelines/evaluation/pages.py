"""The tables of `evaluate tfake` as a page, as JSON and as a figure."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from models.evaluation.tfake.cells import TABLES
from models.evaluation.tfake.recipe import Recipe
from models.evaluation.tfake.tables import SUBSETS

Table = dict[str, Any]
NAMES = {"mae": "absolute error, K", "mae_offset": "without image offset, K", "spectra": "spectra, log10",
         "patches": "patches, K", "skill": "skill", "mae_raw": "absolute error before calibration, K"}  # fmt: skip
POOLS_ARE = {
    "lab": "pairs", "faces": "visible pictures: patch term, prior, landmarkers", "target": "unpaired frames of the patch term",
    "chooser": "choice of the patch term's weight", "calibration": "degrees of min-max pairs",
    "checker": "threshold of the landmarkers", "lab_test": "reading temperatures", "field": "reading temperatures",
    "outdoor": "reading temperatures", "frames": "reading landmarks",
}  # fmt: skip


def write_pages(out: Path, found: dict[str, Any], facts: dict[str, Any]) -> None:
    """Write tables.json, tables.md and, with two gaps or more, gain.png."""
    text = json.dumps({"facts": facts, "tables": found}, indent=1, allow_nan=True)
    (out / "tables.json").write_text(text + "\n", encoding="utf-8")
    drawn = len({row["gap"] for row in found["gap"]}) > 1
    if drawn:
        draw_gain(found["gap"], out / "gain.png")
    (out / "tables.md").write_text(page(found, facts, figure=drawn), encoding="utf-8")


def page(found: dict[str, Any], facts: dict[str, Any], *, figure: bool = False) -> str:
    """Return the tables as Markdown."""
    recipe = facts["recipe"]
    lines = [
        "# T-FAKE's tables on the synthetic world", "",
        "Reduced recipe, measured; published figures stand in `docs/tfake/published.md` and are of other data.", "",
        f"    {facts['command']}", "",
        f"Recipe {facts['digest']}, measured at {', '.join(facts['commits'])}, {facts['hardware']}. In brackets: 95 % bootstrap "
        "intervals over people and seeds.", "",
        f"Every thermalizer: {recipe['steps']} steps of {recipe['batch']} pictures of {recipe['size']} px, width "
        f"{recipe['width']}. Every landmarker: {recipe['landmark_steps']} steps of {recipe['landmark_batch']}, width "
        f"{recipe['landmark_width']}.", "",
    ]  # fmt: skip
    lines += _read(recipe)
    lines += _landmarks(found["landmarks"], recipe)
    lines += _joint(found["joint"])
    lines += _temperatures("Loss terms, radiometric pairs", found["loss"])
    lines += _temperatures("Loss terms, min-max pairs, calibrated on lab people", found["minmax"])
    lines += _gains("What each term takes off the error of `supervised` (K; above zero it helps)", found["effects"])
    lines += _reached(found["reached"])
    lines += _gap(found["gap"])
    if figure:
        lines += ["![Error that the full loss takes away, over the gap between domains](gain.png)", ""]
    lines += _controls(found["controls"])
    lines += _weights(found["weight"])
    lines += _seconds(found["seconds"])
    return "\n".join(lines)


def _read(recipe: dict[str, Any]) -> list[str]:
    """Say who is trained on and read, from the recipe's pools."""
    share, table = Recipe.model_validate(recipe), []
    for name, what in POOLS_ARE.items():
        pool = share.pool(name)
        people = f"{pool.people} from person {pool.first} on, {pool.views} views"
        table.append([name, what, f"`{pool.domain}`", pool.split, people])
    note = (
        f"Conditions: {', '.join(recipe['conditions'])}. Temperatures are compared with the world's apparent temperature, "
        "without a camera; pairs, frames of the patch term and frames with faces are what the domain's camera delivers. "
        "Skill is (MAE of the table of class and condition - MAE) / (that of the table - that of the oracle of true "
        "region means)."
    )
    if recipe["field"]:
        note += f" The test people of `field` are those of {recipe['field']}."
    return ["## Who is read", "", note, "", *markdown(["pool", "for", "domain", "split", "people"], table), ""]


def _joint(rows: Sequence[Table]) -> list[str]:
    table = [[r["row"], r["seeds"], *(show(r[s]) for s in SUBSETS), show(r["labels"])] for r in rows]
    head = ["minus joint, sparse", "seeds", *SUBSETS, "Full, noisy 72"]
    return ["Above zero, the joint landmarker is the better one:", "", *markdown(head, table), ""] if rows else []


def _landmarks(rows: Sequence[Table], recipe: dict[str, Any]) -> list[str]:
    if not rows:
        return []
    table = [
        [row["row"], row["seeds"], *(show(row[s]) for s in SUBSETS), show(row["labels"]), f"{row['answered']:.2f}"]
        for row in rows
    ]
    head = ["row", "seeds", *SUBSETS, "Full, noisy 72", "answered"]
    note = (
        'NME W/H of the surest window of every frame of the field camera, against the true 70 points; "noisy 72": against '
        "the contour labels with the annotators' noise, through a label adapter. A face counts 1 at most, and 1 when it is "
        f"missed. High: at least {recipe['high_px']:g} px tall in the frame. Side: yaw of {recipe['side_deg']:g} degrees or "
        "more. The limits are ours; the paper's are not public. `found only` leaves out what the threshold rejects."
    )
    return ["## Landmarks on `field`", "", note, "", *markdown(head, table), ""]


def _temperatures(title: str, rows: Sequence[Table]) -> list[str]:
    lines: list[str] = [f"## {title}", ""] if rows else []
    for domain in dict.fromkeys(row["domain"] for row in rows):
        mine = [row for row in rows if row["domain"] == domain]
        figures = ["skill", "mae", "mae_offset", "spectra", "patches"] + (["mae_raw"] if "mae_raw" in mine[0] else [])
        table = [[row["row"], row["seeds"] or "", *(show(row.get(name)) for name in figures)] for row in mine]
        lines += [f"`{domain}`", "", *markdown(["row", "seeds", *(NAMES[name] for name in figures)], table), ""]
    return lines


def _gains(title: str, rows: Sequence[Table]) -> list[str]:
    figures = ("mae", "mae_offset", "spectra", "patches")
    table = [[r["row"], r["domain"], r["seeds"], *(show(r[name]) for name in figures)] for r in rows]
    head = ["row", "domain", "seeds", *(NAMES[name] for name in figures)]
    return [f"## {title}", "", *markdown(head, table), ""] if rows else []


def _reached(rows: Sequence[Table]) -> list[str]:
    table = [[r["row"], r["seeds"], *(show(r[s]) for s in SUBSETS), show(r.get("gain"))] for r in rows]
    head = ["thermalizer trained with", "seeds", *SUBSETS, "gain over supervised"]
    title = "## NME that a joint landmarker reaches, by the loss of its thermalizer"
    return [title, "", *markdown(head, table), ""] if len(rows) > 1 else []


def _gap(rows: Sequence[Table]) -> list[str]:
    table = [
        [r["gap"], r["domain"], r["seeds"], show(r["skill_supervised"]), show(r["skill_full"]), show(r["mae"]),
         show(r["mae_offset"])]
        for r in rows
    ]  # fmt: skip
    head = ["gap", "domain", "seeds", "skill, supervised", "skill, full", "gain, K", "gain without image offset, K"]
    title = "## Over the gap between domains: error of `supervised` minus that of `full`"
    return [title, "", *markdown(head, table), ""] if rows else []


def _controls(rows: Sequence[Table]) -> list[str]:
    table = [
        [r["row"], r["against"], r["domain"], r["seeds"], show(_negative(r["mae"])), show(_negative(r["mae_offset"])),
         f"{r['parameters_apart']:.2g}" if "parameters_apart" in r else ""]
        for r in rows
    ]  # fmt: skip
    note = (
        "Gain in kelvin against the row named: a wrong prior or target must lose (below zero). The released code's patch "
        "term has no gradient, so its parameters must be those of `supervised` to the last digit (`apart`); only batch "
        "statistics, which have also seen `fake`, may differ. Gap 0 is in the table above."
    )
    head = ["control", "against", "domain", "seeds", "gain, K", "gain without image offset, K", "apart"]
    return ["## Controls that must fail", "", note, "", *markdown(head, table), ""] if rows else []


def _weights(found: dict[str, Any]) -> list[str]:
    table = [[row["row"], show(row["mae"]), show(row["patches"])] for row in found["rows"]]
    title = f"## Weight of the patch term, chosen on validation people of `field`: {found['chosen']}"
    return [title, "", *markdown(["weight", NAMES["mae"], NAMES["patches"]], table), ""] if table else []


def _seconds(found: dict[str, Any]) -> list[str]:
    order = [name for name in ("pools", *TABLES) if name in found]
    table = [[name, found[name]["cells"], f"{found[name]['each']:.0f}", f"{found[name]['all']:.0f}"] for name in order]
    total = sum(entry["all"] for entry in found.values())
    table.append(["all", sum(entry["cells"] for entry in found.values()), "", f"{total:.0f} ({total / 60:.0f} min)"])
    note = "A thermalizer that another table needs is paid for where it is first trained; `gap` stands under `loss`."
    return ["## Cost, processor seconds", "", note, "", *markdown(["table", "cells", "each", "all"], table), ""]


def markdown(head: Sequence[object], rows: Sequence[Sequence[object]]) -> list[str]:
    """Return the lines of a Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return ["| " + " | ".join(str(cell) for cell in line) + " |" for line in lines]


def show(estimate: dict[str, float] | None) -> str:
    """Return an estimate as `value [low, high]`, nothing for none."""
    if estimate is None or estimate["value"] != estimate["value"]:
        return ""
    return "{value:.3f} [{low:.3f}, {high:.3f}]".format(**estimate)


def _negative(estimate: dict[str, float]) -> dict[str, float]:
    """Gains are kept as `worse minus better`; a control stands on the left."""
    return {"value": -estimate["value"], "low": -estimate["high"], "high": -estimate["low"]}


def draw_gain(rows: Sequence[Table], path: Path) -> None:
    """Draw the gain of the full loss over the gap, with its intervals."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 3.2), layout="constrained")
    for axes, domain in zip(figure.subplots(1, 2), ("field", "outdoor"), strict=True):
        mine = sorted((r for r in rows if r["domain"] == domain), key=lambda r: r["gap"])
        for shift, name, label in ((-0.015, "mae", "absolute error"), (0.015, "mae_offset", "without image offset")):
            value, low, high = ([r[name][key] for r in mine] for key in ("value", "low", "high"))
            spread = [[v - a for v, a in zip(value, low)], [b - v for v, b in zip(value, high)]]
            at = [r["gap"] + shift for r in mine]
            axes.errorbar(at, value, spread, marker="o", markersize=4, capsize=3, label=label)
        axes.axhline(0, color="0.6", linewidth=0.8)
        axes.set(title=f"read on {domain}", xlabel="gap between domains", ylabel="supervised minus full, K")
    figure.axes[0].legend(frameon=False, fontsize=8)
    figure.savefig(path, dpi=120, metadata={"Software": None})
