"""From the ledger's lines to tables: nothing is computed here that the lines do not hold."""

from collections.abc import Callable
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
    TRUTH,
    ThermalRow,
    weight_row,
)
from models.evaluation.tfake.recipe import READ, Recipe
from models.thermal.baselines import Baselines

Line = dict[str, Any]
Table = dict[str, Any]
SUBSETS = ("High", "Low", "Side", "Front", "Full")
FIGURES = ("mae", "mae_offset", "spectra", "patches")
OUTSIDE = ("field", "outdoor")


class Lines:
    """Lines of one recipe, found by what they are of."""

    def __init__(self, lines: list[Line]) -> None:
        self.lines = lines

    def of(self, table: str, row: str, gap: float = 1.0) -> list[Line]:
        """Return the lines of a row, in the order of seeds."""
        chosen = [k for k in self.lines if (k["table"], k["row"], k["gap"]) == (table, row, gap)]
        return sorted(chosen, key=lambda line: line["seed"])

    def values(self, table: str, row: str, domain: str, figure: str, gap: float = 1.0) -> np.ndarray | None:
        """Return float [seeds, people], or None when nothing was measured."""
        found = [line["measures"][domain][figure] for line in self.of(table, row, gap) if domain in line["measures"]]
        return np.array(found, float) if found else None

    def baseline(self, name: str, domain: str, figure: str, gap: float = 1.0) -> np.ndarray | None:
        """Return float [1, people] of a baseline."""
        lines = self.of("baselines", TRUTH if name == TRUTH else "all", gap)
        if not lines or domain not in lines[0]["measures"]:
            return None
        return np.array([lines[0]["measures"][domain][name][figure]], float)


def best_weight(lines: list[Line], recipe: Recipe) -> float | None:
    """Return the weight of the patch term with the least error on validation people, None while one is missing."""
    kept, errors = Lines(lines), dict[float, float]()
    for weight in recipe.weights:
        values = kept.values("weight", weight_row(weight), "chooser", "mae")
        if values is None:
            return None
        errors[weight] = float(mean(values))
    return min(errors, key=lambda weight: (errors[weight], weight))


def tables(lines: list[Line], recipe: Recipe) -> dict[str, Any]:
    """Return every table that the lines allow, as plain values: estimates are {value, low, high}."""
    kept = Lines(lines)
    return {
        "weight": {
            "chosen": best_weight(lines, recipe),
            "rows": _temperature(kept, "weight", [weight_row(w) for w in recipe.weights], ("chooser",)),
        },
        "landmarks": landmarks(kept, recipe),
        "joint": joint(kept),
        "loss": _baselines(kept) + _temperature(kept, "loss", list(LOSSES), READ),
        "minmax": _temperature(kept, "minmax", list(MINMAX), READ),
        "effects": effects(kept, "loss", LOSSES) + over_statistics(kept) + effects(kept, "minmax", MINMAX),
        "gap": gap(kept, recipe),
        "controls": controls(kept),
        "reached": reached(kept),
        "seconds": seconds(lines),
    }


def landmarks(kept: Lines, recipe: Recipe) -> list[Table]:
    """Return "NME W/H" by subset against the true points, and over all against the noisy labels."""
    found = []
    for row in LANDMARKS:
        lines = kept.of("landmarks", row)
        if lines:
            found.append(_landmark_row(row, lines, missed=None))
        if row == JOINT and lines:
            found.append(_landmark_row(f"{row}, threshold, missed = 1", lines, missed=1.0))
            found.append(_landmark_row(f"{row}, threshold, found only", lines, missed=np.nan))
    return found


def _landmark_row(name: str, lines: list[Line], missed: float | None) -> Table:
    entry: Table = {"row": name, "seeds": len(lines), "answered": answered(lines) if missed is not None else 1.0}
    for subset in SUBSETS:
        entry[subset] = _estimate(mean, by_person(lines, "true", subset, missed))
    entry["labels"] = _estimate(mean, by_person(lines, "labels", "Full", missed))
    return entry


def joint(kept: Lines) -> list[Table]:
    """Return every other row's NME minus the joint landmarker's, on the seeds that both have: above zero joint is better."""
    found = []
    for row in LANDMARKS:
        pair = _shared(kept.of("landmarks", row), kept.of("landmarks", JOINT))
        if row != JOINT and pair[0]:
            entry: Table = {"row": row, "seeds": len(pair[0])}
            for subset in SUBSETS:
                entry[subset] = _estimate(difference, *(by_person(k, "true", subset, None) for k in pair))
            entry["labels"] = _estimate(difference, *(by_person(k, "labels", "Full", None) for k in pair))
            found.append(entry)
    return found


def answered(lines: list[Line]) -> float:
    """Return the share of faces whose uncertainty lies below the threshold of their landmarker."""
    shares = [np.mean(np.array(k["measures"]["frames"]["uncertainty"]) < k["threshold"]) for k in lines]
    return float(np.mean(shares))


def by_person(lines: list[Line], figure: str, subset: str, missed: float | None) -> np.ndarray:
    """Return each person's mean NME over the faces of `subset`, float [seeds, people], NaN where there is none.

    missed: what a face above the threshold counts (NaN: it is left out); None: whatever is surest is the answer.
    """
    found = []
    for line in lines:
        faces = {name: np.array(values) for name, values in line["measures"]["frames"].items()}
        values = np.array(faces[figure], float)
        if missed is not None:
            answered = faces["uncertainty"] < line["threshold"]
            values = np.where(answered | np.isnan(values), values, missed)  # NaN: nothing to compare with
        chosen = {
            "High": faces["high"], "Low": ~faces["high"], "Side": faces["side"], "Front": ~faces["side"],
            "Full": np.ones(len(values), bool),
        }[subset]  # fmt: skip
        people = np.unique(faces["identity"])
        found.append([float(mean(values[None, chosen & (faces["identity"] == who)])) for who in people])
    return np.array(found)


def _temperature(kept: Lines, table: str, rows: list[str], domains: tuple[str, ...]) -> list[Table]:
    found = []
    for row in rows:
        for domain in domains:
            values = {figure: kept.values(table, row, domain, figure) for figure in FIGURES}
            if values["mae"] is None:
                continue
            known = kept.baseline("class_condition", domain, "mae"), kept.baseline("oracle", domain, "mae")
            entry: Table = {"row": row, "domain": domain, "seeds": len(values["mae"])}
            entry |= {figure: _estimate(mean, value) for figure, value in values.items()}
            entry["skill"] = _estimate(_skill, values["mae"], *known)
            raw = kept.values(table, row, domain, "mae_raw") if table == "minmax" else None
            found.append(entry | ({"mae_raw": _estimate(mean, raw)} if raw is not None else {}))
    return found


def _baselines(kept: Lines) -> list[Table]:
    found = []
    for domain in READ:
        for name in (*Baselines.NAMES, TRUTH):
            values = {figure: kept.baseline(name, domain, figure) for figure in FIGURES}
            if values["mae"] is not None:
                known = kept.baseline("class_condition", domain, "mae"), kept.baseline("oracle", domain, "mae")
                entry = {figure: _estimate(mean, value) for figure, value in values.items()}
                skilled = _estimate(_skill, values["mae"], *known)
                found.append({"row": name, "domain": domain, "seeds": 0, **entry, "skill": skilled})
    return found


def effects(kept: Lines, table: str, rows: dict[str, ThermalRow]) -> list[Table]:
    """Return how much error every added term takes away, in kelvin: above zero it helps."""
    found = []
    for row in list(rows)[1:]:
        for domain in READ:
            found += _gains(kept, (table, "supervised", 1.0), (table, row, 1.0), domain, f"{table}: {row}")
    return found


def over_statistics(kept: Lines) -> list[Table]:
    """Return what the terms' gradients take away beside the batch statistics: the released code's patch term moves these
    alone, for its networks see `fake` as those of every other row but `supervised` do.
    """
    (code,) = [row for row, entry in CONTROLS.items() if entry.fidelity == "code"]
    found = []
    for row in list(LOSSES)[1:]:
        for domain in READ:
            name = f"loss: {row}, over batch statistics of `fake` alone"
            found += _gains(kept, ("controls", code, 1.0), ("loss", row, 1.0), domain, name)
    return found


def gap(kept: Lines, recipe: Recipe) -> list[Table]:
    """Return supervised minus full, and full's skill minus supervised's, at every gap."""
    plain, full = (("loss", row) for row in GAP_ROWS)
    found = []
    for at in sorted({1.0, *recipe.gaps}):
        for domain in OUTSIDE:
            for entry in _gains(kept, (*plain, at), (*full, at), domain, "full"):
                one, two = (kept.values(*row, domain, "mae", at) for row in (plain, full))
                known = [kept.baseline(name, domain, "mae", at) for name in ("class_condition", "oracle")]
                entry["skill_supervised"], entry["skill_full"] = (_estimate(_skill, v, *known) for v in (one, two))
                found.append(entry | {"gap": at})
    return found


def controls(kept: Lines) -> list[Table]:
    """Return what each control costs: its error minus the full loss's; `parameters_apart` of the released code's patch term."""
    found = []
    for row in CONTROLS:
        against = ("loss", "supervised" if CONTROLS[row].fidelity == "code" else "full", 1.0)
        for domain in OUTSIDE:
            for entry in _gains(kept, ("controls", row, 1.0), against, domain, row):
                apart = [k["parameters_apart"] for k in kept.of("controls", row) if "parameters_apart" in k]
                found.append(entry | {"against": against[1]} | ({"parameters_apart": max(apart)} if apart else {}))
    return found


def reached(kept: Lines) -> list[Table]:
    """Return the NME of joint landmarkers by the loss of the thermalizer that made their thermal rows."""
    named = {row: ("reached", row) for row in REACHED} | {"full": ("landmarks", JOINT)}
    base, found = kept.of(*named["supervised"]), []
    for row, key in named.items():
        lines, shared = _shared(kept.of(*key), base)
        if not lines:
            continue
        entry: Table = {"row": row, "seeds": len(lines)}
        entry |= {subset: _estimate(mean, by_person(lines, "true", subset, None)) for subset in SUBSETS}
        if row != "supervised":
            pair = [by_person(k, "true", "Full", None) for k in (shared, lines)]
            entry["gain"] = _estimate(difference, *pair)
        found.append(entry)
    return found


def _gains(
    kept: Lines, worse: tuple[str, str, float], better: tuple[str, str, float], domain: str, name: str
) -> list[Table]:
    """Return one row: errors of `worse` minus those of `better` on the seeds that both have; none if there are none."""
    pair = _shared(kept.of(*worse), kept.of(*better))
    if not pair[0] or domain not in pair[0][0]["measures"]:
        return []
    entry: Table = {"row": name, "domain": domain, "seeds": len(pair[0])}
    for figure in FIGURES:
        values = [np.array([k["measures"][domain][figure] for k in lines], float) for lines in pair]
        entry[figure] = _estimate(difference, *values)
    return [entry]


def _shared(one: list[Line], two: list[Line]) -> tuple[list[Line], list[Line]]:
    """Return the lines of the seeds that both rows have."""
    seeds = {line["seed"] for line in one} & {line["seed"] for line in two}
    return [line for line in one if line["seed"] in seeds], [line for line in two if line["seed"] in seeds]


def seconds(lines: list[Line]) -> dict[str, Any]:
    """Return processor seconds by table: cells, mean of one, all."""
    found: dict[str, Any] = {}
    for table in sorted({line["table"] for line in lines}):
        spent = [line["seconds"] for line in lines if line["table"] == table]
        found[table] = {"cells": len(spent), "each": float(np.mean(spent)), "all": float(np.sum(spent))}
    return found


def _skill(mae: np.ndarray, table: np.ndarray, oracle: np.ndarray) -> np.ndarray:
    above, below = mean(table) - mean(mae), mean(table) - mean(oracle)
    return np.asarray(above / below)


def _estimate(statistic: Callable[..., np.ndarray], *samples: np.ndarray | None) -> dict[str, float] | None:
    if any(sample is None for sample in samples):
        return None
    found: Estimate = interval(statistic, [sample for sample in samples if sample is not None])
    return found._asdict()
