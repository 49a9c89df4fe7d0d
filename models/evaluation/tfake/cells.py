"""The rows of the tables, each trained and measured for itself: a cell is one row at one gap with one seed."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, NamedTuple

from models.evaluation.tfake.recipe import SELECTION_SEED, Recipe
from models.thermal.losses import Defect

TABLES = ("baselines", "weight", "loss", "gap", "landmarks", "controls", "minmax", "reached")
"""In the order in which a seed's cells are run."""
SIZES = "sizes"
"""Rows of `loss` and `baselines` once more, at larger sides than were trained: `Recipe.generated` chooses it."""
TRUTH = "truth"
"""The true pictures measured as a prediction: patches are drawn at random, so even these are some way from each other."""


@dataclass(frozen=True)
class ThermalRow:
    """What a thermalizer is trained with beside the pairs' squared error."""

    patches: bool = False
    prior: bool = False
    pairs: Literal["radiometric", "affine"] = "radiometric"
    reference: Literal["paper", "warmer", "permuted"] = "paper"
    target: Literal["field", "mirrored"] = "field"
    defects: tuple[Defect, ...] = ()


LOSSES = {
    "supervised": ThermalRow(),
    "+ Wasserstein": ThermalRow(patches=True),
    "+ prior": ThermalRow(prior=True),
    "full": ThermalRow(patches=True, prior=True),
}
MINMAX = {name: ThermalRow(row.patches, row.prior, "affine") for name, row in LOSSES.items()}
CONTROLS = {
    "prior +2 degC": ThermalRow(patches=True, prior=True, reference="warmer"),
    "prior permuted": ThermalRow(patches=True, prior=True, reference="permuted"),
    "patches mirrored": ThermalRow(patches=True, prior=True, target="mirrored"),
    "released code, patches": ThermalRow(
        patches=True, defects=("patches_without_gradient", "person_masked", "mask_interpolated")
    ),
}
GAP_ROWS = ("supervised", "full")
SIZE_BASELINES = ("class_condition", "regression", "oracle", TRUTH)
"""What stands beside the thermalizers at a larger side."""


@dataclass(frozen=True)
class LandmarkRow:
    """What a landmarker's thermal rows are (share of `thermal`), and its points.

    made: by the full thermalizer; grey: the visible pictures in grey; true: the world's own temperature (upper bound).
    """

    thermal: float
    source: Literal["made", "grey", "true"] = "made"
    standard: Literal[70, 478] = 70
    heavy: bool = False


LANDMARKS = {
    "RGB only, grey": LandmarkRow(0.0),
    "RGB only, heavily augmented": LandmarkRow(0.4, "grey", heavy=True),
    "thermal only": LandmarkRow(1.0),
    "joint, sparse": LandmarkRow(0.4),
    "joint, dense": LandmarkRow(0.4, standard=478),
    "upper bound: true thermal": LandmarkRow(0.4, "true"),
}
JOINT = "joint, sparse"
REACHED = ("supervised", "+ Wasserstein", "+ prior")
"""Thermalizers from which a landmarker is trained besides the full one, whose landmarker is the joint one."""


class Cell(NamedTuple):
    """One line of the ledger."""

    table: str
    row: str
    gap: float
    seed: int


def cells(recipe: Recipe, tables: tuple[str, ...]) -> Iterator[Cell]:
    """Yield the cells of `tables`, seed by seed, so that a run cut short has fewer seeds and whole tables.

    The weight is always chosen: every other row with a patch term needs it. `gap` rows stand in the ledger as `loss` rows.
    Larger sides are read of the rows that `baselines` and `loss` have.
    """
    for weight in recipe.weights:
        yield Cell("weight", weight_row(weight), 1.0, SELECTION_SEED)
    if "baselines" in tables:
        yield from (Cell("baselines", "all", gap, 0) for gap in sorted({1.0, *recipe.gaps}))
        yield Cell("baselines", TRUTH, 1.0, 0)
        yield from (Cell(SIZES, size_row(row, by), 1.0, 0) for by in recipe.generated for row in SIZE_BASELINES)
    for seed in sorted({*recipe.seeds, *recipe.few_seeds}):
        yield from (cell for table in TABLES if table in tables for cell in _cells_of(table, seed, recipe))


def _cells_of(table: str, seed: int, recipe: Recipe) -> Iterator[Cell]:
    """Yield the cells of one table with one seed, if the table has that seed."""
    if seed in recipe.seeds:
        # Tables of all seeds.
        if table == "loss":
            yield from (Cell("loss", row, 1.0, seed) for row in LOSSES)
            yield from (Cell(SIZES, size_row(row, by), 1.0, seed) for by in recipe.generated for row in LOSSES)
        if table == "gap":
            yield from (Cell("loss", row, gap, seed) for gap in recipe.gaps if gap != 1.0 for row in GAP_ROWS)
        if table == "controls":
            yield from (Cell("controls", row, 1.0, seed) for row in CONTROLS)
        if table == "landmarks":
            yield from (Cell("landmarks", row, 1.0, seed) for row in LANDMARKS)
    if seed in recipe.few_seeds:
        # Tables of a few.
        if table == "minmax":
            yield from (Cell("minmax", row, 1.0, seed) for row in MINMAX)
        if table == "reached":
            yield from (Cell("reached", row, 1.0, seed) for row in REACHED)


def weight_row(weight: float) -> str:
    """Return the name of the row that tries a weight of the patch term."""
    return f"patches {weight:g}"


def size_row(row: str, factor: int) -> str:
    """Return the name of the row that reads another one at `factor` times the training size."""
    return f"{row}, {factor}x"


def thermal_row(table: str, row: str) -> ThermalRow:
    """Return what a row of a temperature table is trained with."""
    if table == "weight":
        return LOSSES["full"]
    return {"loss": LOSSES, "minmax": MINMAX, "controls": CONTROLS}[table][row]
