"""The tables of `evaluate tfake` as a page and as a figure."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from models.evaluation.tfake.cells import SIZES, TABLES
from models.evaluation.tfake.recipe import Recipe
from models.evaluation.tfake.subsets import SUBSETS
from pipelines.report.template import load_template

TEMPLATE = Path(__file__).parent / "templates" / "tables.md"
Table = dict[str, Any]
"""One row of a table: what stands in it, by name; figures are {value, low, high}."""
Cells = list[Any]
"""One row of a table as it is shown."""
NAMES = {"mae": "absolute error, K", "mae_offset": "without image offset, K", "spectra": "spectra, log10",
         "patches": "patches, K", "skill": "skill", "spectra_fine": "finer spectra, log10",
         "mae_raw": "absolute error before calibration, K"}  # fmt: skip
EFFECTS = ("mae", "mae_offset", "spectra", "patches")
AT_SIZES = ("mae", "mae_offset", "spectra", "spectra_fine", "patches")
POOLS_ARE = {
    "lab": "pairs", "faces": "visible pictures: patch term, prior, landmarkers", "target": "unpaired frames of the patch term",
    "chooser": "choice of the patch term's weight", "calibration": "degrees of min-max pairs",
    "checker": "threshold of the landmarkers", "lab_test": "reading temperatures", "field": "reading temperatures",
    "outdoor": "reading temperatures", "frames": "reading landmarks",
}  # fmt: skip


def has_gain(found: dict[str, Any]) -> bool:
    """Return whether two gaps or more were measured: a gain over them can be drawn."""
    return len({row["gap"] for row in found["gap"]}) > 1


def render_tables(found: dict[str, Any], facts: dict[str, Any], *, figure: bool = False) -> str:
    """Return the tables as Markdown, by `templates/tables.md`. figure: whether gain.png lies beside the page."""
    # The template holds titles and notes; rows are formatted here, a list of cells each.
    return load_template(TEMPLATE).render(
        **facts,
        figure=figure,
        subsets=list(SUBSETS),
        effect_names=[NAMES[name] for name in EFFECTS],
        weight_names=[NAMES["mae"], NAMES["patches"]],
        pools=_pools(Recipe.model_validate(facts["recipe"])),
        landmarks=[
            [row["row"], row["seeds"], *_intervals(row, (*SUBSETS, "labels")), f"{row['answered']:.2f}"]
            for row in found["landmarks"]
        ],
        joint=[[row["row"], row["seeds"], *_intervals(row, (*SUBSETS, "labels"))] for row in found["joint"]],
        loss=_temperatures(found["loss"]),
        minmax=_temperatures(found["minmax"]),
        sizes=_sizes(found.get("sizes", []), facts["recipe"]["size"]),
        sizes_cost=_sizes_cost(found.get("sizes_cost", []), facts["recipe"]["size"]),
        size_names=[NAMES[name] for name in AT_SIZES],
        effects=[[row["row"], row["domain"], row["seeds"], *_intervals(row, EFFECTS)] for row in found["effects"]],
        reached=[[row["row"], row["seeds"], *_intervals(row, (*SUBSETS, "gain"))] for row in found["reached"]],
        gap=[
            [
                row["gap"],
                row["domain"],
                row["seeds"],
                *_intervals(row, ("skill_supervised", "skill_full", "mae", "mae_offset")),
            ]
            for row in found["gap"]
        ],
        controls=_controls(found["controls"]),
        weights=[[row["row"], *_intervals(row, ("mae", "patches"))] for row in found["weight"]["rows"]],
        chosen_weight=found["weight"]["chosen"],
        costs=_costs(found["seconds"]),
    )


def format_interval(estimate: dict[str, float] | None) -> str:
    """Return an estimate as `value [low, high]`, nothing for none."""
    if estimate is None or estimate["value"] != estimate["value"]:
        return ""
    return "{value:.3f} [{low:.3f}, {high:.3f}]".format(**estimate)


def _intervals(row: Table, names: Iterable[str]) -> list[str]:
    return [format_interval(row.get(name)) for name in names]


def _pools(recipe: Recipe) -> list[Cells]:
    """Return who is trained on and read, from the recipe's pools."""
    rows: list[Cells] = []
    for name, purpose in POOLS_ARE.items():
        pool = recipe.pool(name)
        people = f"{pool.people} from person {pool.first} on, {pool.views} views"
        rows.append([name, purpose, f"`{pool.domain}`", pool.split, people])
    return rows


def _temperatures(rows: Sequence[Table]) -> list[tuple[str, list[str], list[Cells]]]:
    """Return (domain, head, rows) of the errors in temperature, a table for each domain."""
    tables: list[tuple[str, list[str], list[Cells]]] = []
    for domain in dict.fromkeys(row["domain"] for row in rows):
        of_domain = [row for row in rows if row["domain"] == domain]
        names = ["skill", "mae", "mae_offset", "spectra", "patches"] + (
            ["mae_raw"] if "mae_raw" in of_domain[0] else []
        )
        cells = [[row["row"], row["seeds"] or "", *_intervals(row, names)] for row in of_domain]
        tables.append((domain, ["row", "seeds", *(NAMES[name] for name in names)], cells))
    return tables


def _sizes(rows: Sequence[Table], size: int) -> list[tuple[str, list[str], list[Cells]]]:
    """Return (domain, head, rows) of figures at the training size and at larger ones, a table for each domain."""
    tables: list[tuple[str, list[str], list[Cells]]] = []
    names = ("skill", *AT_SIZES)
    for domain in dict.fromkeys(row["domain"] for row in rows):
        cells = [
            [row["row"], _made_at(row["way"], row["factor"], size), row["seeds"] or "", *_intervals(row, names)]
            for row in rows
            if row["domain"] == domain
        ]
        tables.append((domain, ["row", "pictures", "seeds", *(NAMES[name] for name in names)], cells))
    return tables


def _sizes_cost(rows: Sequence[Table], size: int) -> list[Cells]:
    """Return what is generated at a larger size minus what it is compared with."""
    return [
        [
            row["row"],
            row["domain"],
            f"{_made_at('generated', row['factor'], size)} minus {_made_at(row['against'], row['factor'], size)}",
            row["seeds"] or "",
            *_intervals(row, AT_SIZES),
        ]
        for row in rows
    ]


def _made_at(way: str, factor: int, size: int) -> str:
    """Return in words at which side pictures were made."""
    large = f"{factor * size} px"
    return {"trained": f"{size} px", "generated": large, "enlarged": f"{size} px, enlarged"}[way]


def _controls(rows: Sequence[Table]) -> list[Cells]:
    """Return the controls: gains are kept as `worse minus better`, and a control stands on the left."""
    return [
        [
            row["row"],
            row["against"],
            row["domain"],
            row["seeds"],
            *(format_interval(_negate(row[name])) for name in ("mae", "mae_offset")),
            f"{row['parameters_apart']:.2g}" if "parameters_apart" in row else "",
        ]
        for row in rows
    ]


def _negate(estimate: dict[str, float]) -> dict[str, float]:
    return {"value": -estimate["value"], "low": -estimate["high"], "high": -estimate["low"]}


def _costs(seconds: dict[str, Any]) -> list[Cells]:
    """Return the processor seconds of each table, and of all together."""
    order = [name for name in ("pools", *TABLES, SIZES) if name in seconds]
    rows: list[Cells] = [
        [name, seconds[name]["cells"], f"{seconds[name]['each']:.0f}", f"{seconds[name]['all']:.0f}"] for name in order
    ]
    total = sum(entry["all"] for entry in seconds.values())
    cells = sum(entry["cells"] for entry in seconds.values())
    return [*rows, ["all", cells, "", f"{total:.0f} ({total / 60:.0f} min)"]]


def draw_gain(rows: Sequence[Table], path: Path) -> None:
    """Draw the gain of the full loss over the gap, with its intervals."""
    from matplotlib.figure import Figure

    # A panel for each domain; the two figures of a gap stand side by side.
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
