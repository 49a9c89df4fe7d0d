"""From the ledger's lines to tables: nothing is computed here that the lines do not hold."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from models.attributes import ATTRIBUTES
from models.evaluation.bootstrap import interval, mean
from models.evaluation.judges_reach import by_person, columns_of, estimate_ratio, mean_of_ratios, sum_by_person
from models.thermal.baselines import skill

Line = dict[str, Any]
Table = dict[str, Any]
UNREAD = ("expression", "iris")
"""Attributes that the judge reads hardly above chance even on true renders (docs/evaluate.md): in no mean."""
TABLES = ("pairs", "degrees", "people")
SPEED = "speed"


class RowFigures:
    """The figures of one row of a table, over all of its parts."""

    def __init__(self, lines: Sequence[Line]) -> None:
        self.lines = sorted(lines, key=lambda line: line["part"])
        self.person = np.concatenate([line["measures"]["person"] for line in self.lines])

    def figure(self, name: str) -> np.ndarray | None:
        """Return a figure of every picture, float [N], None where a part has none."""
        if any(name not in line["measures"] for line in self.lines):
            return None
        return np.concatenate([np.asarray(line["measures"][name], float) for line in self.lines])

    def estimate(self, name: str, where: np.ndarray | None = None) -> dict[str, float] | None:
        """Return the mean over people of each person's mean, with its interval; where: bool [N], pictures that count."""
        values = self.figure(name)
        if values is None:
            return None
        values = values if where is None else np.where(where, values, np.nan)
        return interval(mean, [by_person(values, self.person)[None]])._asdict()


def collect(lines: Sequence[Line], table: str) -> dict[str, RowFigures]:
    """Return the rows of a table, in the order of the ledger."""
    names = dict.fromkeys(line["row"] for line in lines if line["table"] == table)
    return {
        name: RowFigures([line for line in lines if (line["table"], line["row"]) == (table, name)]) for name in names
    }


def tables(lines: Sequence[Line], sizes: Sequence[int]) -> dict[str, Any]:
    """Return every table that the lines allow; estimates are {value, low, high}. sizes: of the galleries."""
    pairs, degrees = collect(lines, "pairs"), collect(lines, "degrees")
    kinds = [f"{prefix}rank1_{size}" for size in sizes for prefix in ("", "grey_")]
    return {
        "identity": list_estimates(pairs, (*kinds, "cosine", "judge_cosine", "other_view", "copy_paste", "face_found")),
        "tones": _tones(pairs, f"rank1_{sizes[0]}"),
        "views": list_estimates(pairs, ("yaw", "pitch", "roll")),
        "attributes": share_words(pairs),
        "agreement": list_estimates(pairs, ("agreement", "apart")),
        "made_degrees": list_estimates(pairs, _names(pairs, "degrees_")),
        "regions": list_estimates(pairs, _names(pairs, "mean_")),
        "diversity": list_estimates(pairs, ("variety", "variety_features", "consistency")),
        "degrees": _degrees(degrees),
        SPEED: _speed(pairs),
    }


def list_estimates(rows: dict[str, RowFigures], names: Iterable[str]) -> list[Table]:
    """Return the estimates `names` of every row that has one of them."""
    entries = []
    for name, found in rows.items():
        values = {figure: found.estimate(figure) for figure in names}
        if any(known(value) for value in values.values()):
            entries.append({"row": name, **values})
    return entries


def known(estimate: dict[str, float] | None) -> bool:
    """Return whether there is an estimate, and a number in it."""
    return estimate is not None and bool(np.isfinite(estimate["value"]))


def _names(rows: dict[str, RowFigures], prefix: str) -> list[str]:
    return list(
        dict.fromkeys(name for found in rows.values() for name in found.lines[0]["measures"] if name.startswith(prefix))
    )


def _tones(rows: dict[str, RowFigures], figure: str) -> list[Table]:
    """Return rank-1 by the word of skin tone that was asked for."""
    place, words = list(ATTRIBUTES).index("skin_tone"), ATTRIBUTES["skin_tone"][2]
    entries = []
    for name, found in rows.items():
        asked = found.figure("asked_words")
        if asked is not None and found.figure(figure) is not None:
            entries.append(
                {"row": name, **{word: found.estimate(figure, asked[:, place] == k) for k, word in enumerate(words)}}
            )
    return entries


def share_words(rows: dict[str, RowFigures]) -> list[Table]:
    """Return the share of asked words that the judge finds, balanced over an attribute's words, and the mean over attributes."""
    entries = []
    for name, found in rows.items():
        # Attributes that the judge hardly reads have their share, and are in no mean.
        if counts := count_words(found):
            shares = {attribute: estimate_ratio(*sums)._asdict() for attribute, sums in counts.items()}
            read = [sums for attribute, sums in counts.items() if attribute not in UNREAD]
            entries.append({"row": name, **dict.fromkeys(ATTRIBUTES), **shares, "mean": _estimate_mean(read)})
    return entries


def count_words(found: RowFigures) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Return, for each attribute that was asked for, how often each word was found and asked, float [people, words] each."""
    asked, seen = found.figure("asked_words"), found.figure("found_words")
    if asked is None or seen is None:
        return {}
    counts = {}
    for place, (attribute, (_, _, words)) in enumerate(ATTRIBUTES.items()):
        truth = asked[:, place, None] == np.arange(len(words))  # nothing where no word was asked for (-1)
        right = truth & (asked[:, place] == seen[:, place])[:, None]
        if truth.any():
            counts[attribute] = sum_by_person(right, found.person), sum_by_person(truth, found.person)
    return counts


def _estimate_mean(groups: Sequence[tuple[np.ndarray, np.ndarray]]) -> dict[str, float] | None:
    """Return the mean over attributes of their balanced share, of counts as `count_words` has them; None of no attribute."""
    if not groups:
        return None
    return interval(mean_of_ratios([above.shape[1] for above, _ in groups]), columns_of(groups))._asdict()


def _degrees(rows: dict[str, RowFigures]) -> list[Table]:
    """Return the errors on true pictures, and skill between the table of class and condition and the oracle."""
    names = ["mae", "mae_one", "crps", "spread_skill", "spectrum", *_names(rows, "mae_")]
    entries = list_estimates(rows, dict.fromkeys(name for name in names if name != "mae_mean"))
    sides = {entry["row"]: entry["mae"]["value"] for entry in entries if entry["mae"]}
    if {"class_condition", "oracle"} <= set(sides):
        for entry in entries:
            entry["skill"] = skill(sides[entry["row"]], sides["class_condition"], sides["oracle"])
    return entries


def _speed(rows: dict[str, RowFigures]) -> list[Table]:
    """Return pairs a second of the rows that are made, and the share of time of each stage."""
    entries = []
    for name, found in rows.items():
        spent = [line["stages"] for line in found.lines if "stages" in line]
        if spent:
            total = sum(sum(one.values()) for one in spent)
            shares = {stage: sum(one[stage] for one in spent) / max(total, 1e-9) for stage in spent[0]}
            entries.append({"row": name, "pairs_per_second": len(found.person) / max(total, 1e-9), "shares": shares})
    return entries
