"""From the ledger's lines to tables: nothing is computed here that the lines do not hold."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from models.evaluation.bootstrap import Estimate, difference, interval, mean
from models.evaluation.tfake.cells import (
    CONTROLS,
    GAP_ROWS,
    JOINT,
    LANDMARKS,
    LOSSES,
    MINMAX,
    REACHED,
    SIZE_BASELINES,
    SIZES,
    TRUTH,
    ThermalRow,
    size_row,
    weight_row,
)
from models.evaluation.tfake.recipe import TEST_POOLS, Recipe
from models.evaluation.tfake.subsets import SUBSETS, count_missed, means_by_person
from models.thermal.baselines import Baselines

Line = dict[str, Any]
Table = dict[str, Any]
FIGURES = ("mae", "mae_offset", "spectra", "patches")
OUTSIDE = ("field", "outdoor")
WAYS = ("trained", "generated", "enlarged")
"""How pictures are made: at the training size; at a larger one; at the training size, then enlarged to that one."""


class Lines:
    """The ledger's lines of one recipe, found by table, row and gap."""

    def __init__(self, lines: list[Line]) -> None:
        self.lines = lines

    def of(self, table: str, row: str, gap: float = 1.0) -> list[Line]:
        """Return the lines of a row, in the order of seeds."""
        chosen = [k for k in self.lines if (k["table"], k["row"], k["gap"]) == (table, row, gap)]
        return sorted(chosen, key=lambda line: line["seed"])

    def values(self, table: str, row: str, domain: str, figure: str, gap: float = 1.0) -> np.ndarray | None:
        """Return float [seeds, people], or None when nothing was measured."""
        values = [line["measures"][domain][figure] for line in self.of(table, row, gap) if domain in line["measures"]]
        return np.array(values, float) if values else None

    def baseline(self, name: str, domain: str, figure: str, gap: float = 1.0) -> np.ndarray | None:
        """Return float [1, people] of a baseline."""
        lines = self.of("baselines", TRUTH if name == TRUTH else "all", gap)
        if not lines or domain not in lines[0]["measures"]:
            return None
        return np.array([lines[0]["measures"][domain][name][figure]], float)


def best_weight(lines: list[Line], recipe: Recipe) -> float | None:
    """Return the weight of the patch term with the least error on validation people, None while one is missing."""
    ledger, errors = Lines(lines), dict[float, float]()
    for weight in recipe.weights:
        values = ledger.values("weight", weight_row(weight), "chooser", "mae")
        if values is None:
            return None
        errors[weight] = float(mean(values))
    return min(errors, key=lambda weight: (errors[weight], weight))


def tables(lines: list[Line], recipe: Recipe) -> dict[str, Any]:
    """Return every table that the lines allow, as plain values: estimates are {value, low, high}."""
    ledger = Lines(lines)
    return {
        "weight": {
            "chosen": best_weight(lines, recipe),
            "rows": _temperature_table(ledger, "weight", [weight_row(w) for w in recipe.weights], ("chooser",)),
        },
        "landmarks": landmarks_table(ledger, recipe),
        "joint": joint_table(ledger),
        "loss": _baseline_table(ledger) + _temperature_table(ledger, "loss", list(LOSSES), TEST_POOLS),
        "minmax": _temperature_table(ledger, "minmax", list(MINMAX), TEST_POOLS),
        "sizes": sizes_table(ledger),
        "sizes_cost": sizes_cost_table(ledger),
        "effects": effects_table(ledger, "loss", LOSSES)
        + effects_over_statistics(ledger)
        + effects_table(ledger, "minmax", MINMAX),
        "gap": gap_table(ledger, recipe),
        "controls": controls_table(ledger),
        "reached": reached_table(ledger),
        "seconds": seconds_by_table(lines),
    }


def landmarks_table(ledger: Lines, recipe: Recipe) -> list[Table]:
    """Return "NME W/H" by subset against the true points, and over all against the noisy labels."""
    entries = []
    for row in LANDMARKS:
        lines = ledger.of("landmarks", row)
        if lines:
            entries.append(_landmark_row(row, lines, missed=None))
        # The joint landmarker also says which faces it is sure of: those alone, and all with the others as misses.
        if row == JOINT and lines:
            entries.append(_landmark_row(f"{row}, threshold, missed = 1", lines, missed=1.0))
            entries.append(_landmark_row(f"{row}, threshold, found only", lines, missed=np.nan))
    return entries


def _landmark_row(name: str, lines: list[Line], missed: float | None) -> Table:
    """Return one row of the landmarks' table; missed: as `by_person` takes it."""
    entry: Table = {"row": name, "seeds": len(lines), "answered": answered_share(lines) if missed is not None else 1.0}
    for subset in SUBSETS:
        entry[subset] = _estimate(mean, by_person(lines, "true", subset, missed))
    entry["labels"] = _estimate(mean, by_person(lines, "labels", "Full", missed))
    return entry


def joint_table(ledger: Lines) -> list[Table]:
    """Return every other row's NME minus the joint landmarker's, on the seeds that both have: above zero joint is better."""
    entries = []
    for row in LANDMARKS:
        # Paired by seed and person, so that what both find hard takes no part.
        pair = _common_seeds(ledger.of("landmarks", row), ledger.of("landmarks", JOINT))
        if row != JOINT and pair[0]:
            entry: Table = {"row": row, "seeds": len(pair[0])}
            for subset in SUBSETS:
                entry[subset] = _estimate(difference, *(by_person(k, "true", subset, None) for k in pair))
            entry["labels"] = _estimate(difference, *(by_person(k, "labels", "Full", None) for k in pair))
            entries.append(entry)
    return entries


def answered_share(lines: list[Line]) -> float:
    """Return the share of faces whose uncertainty lies below the threshold of their landmarker."""
    shares = [np.mean(np.array(k["measures"]["frames"]["uncertainty"]) < k["threshold"]) for k in lines]
    return float(np.mean(shares))


def by_person(lines: list[Line], figure: str, subset: str, missed: float | None) -> np.ndarray:
    """Return each person's mean NME over the faces of `subset`, float [seeds, people], NaN where there is none.

    missed: what a face above the threshold counts (NaN: it is left out). None: the surest window counts, whatever it says of
    its variance.
    """
    means = []
    for line in lines:
        # A face above the threshold is missed; it counts as `missed` says.
        faces = {name: np.array(values) for name, values in line["measures"]["frames"].items()}
        values = np.array(faces[figure], float)
        if missed is not None:
            values = count_missed(values, faces["uncertainty"] < line["threshold"], missed)
        chosen = {
            "High": faces["high"], "Low": ~faces["high"], "Side": faces["side"], "Front": ~faces["side"],
            "Full": np.ones(len(values), bool),
        }[subset]  # fmt: skip
        means.append(means_by_person(values, chosen, faces["identity"]))
    return np.array(means)


def _temperature_table(ledger: Lines, table: str, rows: list[str], domains: tuple[str, ...]) -> list[Table]:
    """Return errors and skill of thermalizers by row and domain; of grey pairs also the error before calibration."""
    entries = []
    for row in rows:
        for domain in domains:
            values = {figure: ledger.values(table, row, domain, figure) for figure in FIGURES}
            if values["mae"] is None:
                continue
            # Errors as they are, then skill, which is placed between the class table and the oracle of the same people.
            known = ledger.baseline("class_condition", domain, "mae"), ledger.baseline("oracle", domain, "mae")
            entry: Table = {"row": row, "domain": domain, "seeds": len(values["mae"])}
            entry |= {figure: _estimate(mean, value) for figure, value in values.items()}
            entry["skill"] = _estimate(_skill, values["mae"], *known)
            # Min-max pairs have no degrees of their own before they are calibrated.
            raw = ledger.values(table, row, domain, "mae_raw") if table == "minmax" else None
            entries.append(entry | ({"mae_raw": _estimate(mean, raw)} if raw is not None else {}))
    return entries


def _baseline_table(ledger: Lines) -> list[Table]:
    """Return the same of the baselines, and of the truth itself."""
    entries = []
    for domain in TEST_POOLS:
        for name in (*Baselines.NAMES, TRUTH):
            values = {figure: ledger.baseline(name, domain, figure) for figure in FIGURES}
            if values["mae"] is not None:
                known = ledger.baseline("class_condition", domain, "mae"), ledger.baseline("oracle", domain, "mae")
                entry = {figure: _estimate(mean, value) for figure, value in values.items()}
                skilled = _estimate(_skill, values["mae"], *known)
                entries.append({"row": name, "domain": domain, "seeds": 0, **entry, "skill": skilled})
    return entries


def sizes_table(ledger: Lines) -> list[Table]:
    """Return errors, spectra and skill of every row at the training size, at each larger one, and enlarged to that.

    Skill lies between the class table and the oracle at the same size.
    """
    entries = []
    for factor, domain, row, found in _by_size(ledger):
        known = {name: _values_by_way(ledger, name, domain, factor) for name in ("class_condition", "oracle")}
        for way in WAYS:
            values = found[way]
            entry: Table = {"factor": factor, "domain": domain, "row": row, "way": way, "seeds": _seeds(row, values)}
            entry |= {figure: _estimate(mean, value) for figure, value in values.items()}
            at = "trained" if way == "trained" else "generated"
            entry["skill"] = _estimate(_skill, values["mae"], *(k.get(at, {}).get("mae") for k in known.values()))
            entries.append(entry)
    return entries


def sizes_cost_table(ledger: Lines) -> list[Table]:
    """Return figures of what is generated at a larger size minus those at the training size, and minus those of that
    enlarged: above zero generating costs. Paired by seed and person.
    """
    entries = []
    for factor, domain, row, found in _by_size(ledger):
        for against in ("trained", "enlarged"):
            ours, theirs = found["generated"], found[against]
            entry: Table = {
                "factor": factor,
                "domain": domain,
                "row": row,
                "against": against,
                "seeds": _seeds(row, ours),
            }
            shared = [figure for figure in ours if figure in theirs]
            entries.append(entry | {name: _estimate(difference, ours[name], theirs[name]) for name in shared})
    return entries


def _by_size(ledger: Lines) -> Iterator[tuple[int, str, str, dict[str, dict[str, np.ndarray]]]]:
    """Yield factor, domain, row and the row's figures by way, of all that was measured at two sizes."""
    for factor in sorted({line["factor"] for line in ledger.lines if line["table"] == SIZES}):
        for domain in TEST_POOLS:
            for row in (*SIZE_BASELINES, *LOSSES):
                if found := _values_by_way(ledger, row, domain, factor):
                    yield factor, domain, row, found


def _values_by_way(ledger: Lines, row: str, domain: str, factor: int) -> dict[str, dict[str, np.ndarray]]:
    """Return a row's figures float [seeds, people] by way; {} if there are none."""
    lines = [line["measures"][domain] for line in ledger.of(SIZES, size_row(row, factor)) if domain in line["measures"]]
    if not lines:
        return {}
    figures = {way: [name for name in lines[0][way] if name != "identity"] for way in WAYS}
    return {way: {name: np.array([k[way][name] for k in lines], float) for name in figures[way]} for way in WAYS}


def _seeds(row: str, values: dict[str, np.ndarray]) -> int:
    """Return how many seeds a row was trained with: none for baselines."""
    return 0 if row in SIZE_BASELINES else len(values["mae"])


def effects_table(ledger: Lines, table: str, rows: dict[str, ThermalRow]) -> list[Table]:
    """Return how much error every added term takes away, in kelvin: above zero it helps."""
    entries = []
    for row in list(rows)[1:]:
        for domain in TEST_POOLS:
            entries += _gains(ledger, (table, "supervised", 1.0), (table, row, 1.0), domain, f"{table}: {row}")
    return entries


def effects_over_statistics(ledger: Lines) -> list[Table]:
    """Return what the terms' gradients take away beside the batch statistics: the released code's patch term moves these
    alone, for its networks see `fake` as those of every other row but `supervised` do.
    """
    (code,) = [row for row, entry in CONTROLS.items() if entry.defects]
    entries = []
    for row in list(LOSSES)[1:]:
        for domain in TEST_POOLS:
            name = f"loss: {row}, over batch statistics of `fake` alone"
            entries += _gains(ledger, ("controls", code, 1.0), ("loss", row, 1.0), domain, name)
    return entries


def gap_table(ledger: Lines, recipe: Recipe) -> list[Table]:
    """Return supervised minus full, and full's skill minus supervised's, at every gap."""
    plain, full = (("loss", row) for row in GAP_ROWS)
    entries = []
    for at in sorted({1.0, *recipe.gaps}):
        for domain in OUTSIDE:
            for entry in _gains(ledger, (*plain, at), (*full, at), domain, "full"):
                # Beside the errors, the skill of either: a wider gap also makes the baselines worse.
                one, two = (ledger.values(*row, domain, "mae", at) for row in (plain, full))
                known = [ledger.baseline(name, domain, "mae", at) for name in ("class_condition", "oracle")]
                entry["skill_supervised"], entry["skill_full"] = (_estimate(_skill, v, *known) for v in (one, two))
                entries.append(entry | {"gap": at})
    return entries


def controls_table(ledger: Lines) -> list[Table]:
    """Return what each control costs: its error minus the full loss's; `parameters_apart` of the released code's patch term."""
    entries = []
    for row in CONTROLS:
        # The released code's patch term teaches nothing, so it is compared with a row that has none.
        against = ("loss", "supervised" if CONTROLS[row].defects else "full", 1.0)
        for domain in OUTSIDE:
            for entry in _gains(ledger, ("controls", row, 1.0), against, domain, row):
                apart = [k["parameters_apart"] for k in ledger.of("controls", row) if "parameters_apart" in k]
                entries.append(entry | {"against": against[1]} | ({"parameters_apart": max(apart)} if apart else {}))
    return entries


def reached_table(ledger: Lines) -> list[Table]:
    """Return the NME of joint landmarkers by the loss of the thermalizer that made their thermal rows."""
    # The landmarker of the full loss is the joint one of the landmarks' table.
    named = {row: ("reached", row) for row in REACHED} | {"full": ("landmarks", JOINT)}
    base, entries = ledger.of(*named["supervised"]), []
    for row, key in named.items():
        lines, shared = _common_seeds(ledger.of(*key), base)
        if not lines:
            continue
        # The row's own errors on all its seeds; its gain over `supervised` on those that both have.
        entry: Table = {"row": row, "seeds": len(lines)}
        entry |= {subset: _estimate(mean, by_person(lines, "true", subset, None)) for subset in SUBSETS}
        if row != "supervised":
            pair = [by_person(k, "true", "Full", None) for k in (shared, lines)]
            entry["gain"] = _estimate(difference, *pair)
        entries.append(entry)
    return entries


def _gains(
    ledger: Lines, worse: tuple[str, str, float], better: tuple[str, str, float], domain: str, name: str
) -> list[Table]:
    """Return one row: errors of `worse` minus those of `better` on the seeds that both have; none if there are none."""
    pair = _common_seeds(ledger.of(*worse), ledger.of(*better))
    if not pair[0] or domain not in pair[0][0]["measures"]:
        return []
    entry: Table = {"row": name, "domain": domain, "seeds": len(pair[0])}
    for figure in FIGURES:
        values = [np.array([k["measures"][domain][figure] for k in lines], float) for lines in pair]
        entry[figure] = _estimate(difference, *values)
    return [entry]


def _common_seeds(one: list[Line], two: list[Line]) -> tuple[list[Line], list[Line]]:
    """Return the lines of the seeds that both rows have."""
    seeds = {line["seed"] for line in one} & {line["seed"] for line in two}
    return [line for line in one if line["seed"] in seeds], [line for line in two if line["seed"] in seeds]


def seconds_by_table(lines: list[Line]) -> dict[str, Any]:
    """Return processor seconds by table: cells, mean of one, all."""
    entries: dict[str, Any] = {}
    for table in sorted({line["table"] for line in lines}):
        spent = [line["seconds"] for line in lines if line["table"] == table]
        entries[table] = {"cells": len(spent), "each": float(np.mean(spent)), "all": float(np.sum(spent))}
    return entries


def _skill(mae: np.ndarray, table: np.ndarray, oracle: np.ndarray) -> np.ndarray:
    """Return `models.thermal.baselines.skill` of the means of samples [..., seeds, people]."""
    above, below = mean(table) - mean(mae), mean(table) - mean(oracle)
    return np.asarray(above / below)


def _estimate(statistic: Callable[..., np.ndarray], *samples: np.ndarray | None) -> dict[str, float] | None:
    """Return value, low and high of `statistic` over the samples, None while one of them was not measured."""
    if any(sample is None for sample in samples):
        return None
    estimate: Estimate = interval(statistic, [sample for sample in samples if sample is not None])
    return estimate._asdict()
