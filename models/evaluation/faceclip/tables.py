"""From the ledger's lines to tables: nothing is computed here that the lines do not hold."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from models.evaluation.bootstrap import difference, interval, mean
from models.evaluation.faceclip.ways import WAYS
from models.evaluation.judges_reach import by_person, columns_of, mean_of_ratios
from models.evaluation.lapig.tables import UNREAD, RowFigures, collect, count_words, list_estimates, share_words

Line = dict[str, Any]
Table = dict[str, Any]
TABLES = ("embedding", "pictures")
TRUE, KNOWN, BUNDLE = "true picture", "known picture", "part of the bundle"
"""Baselines: what a perfect generator draws, a copy of the picture that showed who is asked for; and the bundle's own visible
part, asked as a job asks it."""
ROWS = (TRUE, KNOWN, *WAYS, BUNDLE)
FIGURES = ("reference", "other_view", "copy_paste", "rank1", "words", "clip", "face_found")
COMPARED = ("reference", "other_view", "clip")
"""Figures of which the first way's lead over every other row is a table of its own, beside the balanced share of words."""


def tables(lines: Sequence[Line], embedding: Mapping[str, np.ndarray], person: np.ndarray) -> dict[str, Any]:
    """Return every table that the lines allow; estimates are {value, low, high}.

    embedding: what is found, by its name, float [N] of all pictures that are looked for; person: int [N].
    """
    rows = collect([line for line in lines if line["row"] in ROWS], "pictures")
    ordered = {name: rows[name] for name in ROWS if name in rows}
    costs = [line for line in lines if line["table"] == "trainings"]
    # Words are told by attribute in a table of their own, and by their mean beside the other figures.
    attributes = share_words(ordered)
    balanced = {entry["row"]: {"balanced": entry["mean"]} for entry in attributes}
    return {
        "embedding": [
            {"row": name, "value": interval(mean, [by_person(values, person)[None]])._asdict(), "pictures": len(values)}
            for name, values in embedding.items()
        ],
        "pictures": [entry | balanced.get(entry["row"], {}) for entry in list_estimates(ordered, FIGURES)],
        "leads": _leads(ordered),
        "attributes": attributes,
        "trainings": [{"row": line["row"], "seed": line["seed"], **line["measures"]} for line in costs],
    }


def _leads(rows: Mapping[str, RowFigures]) -> list[Table]:
    """Return by how much the first way is ahead of every other row, of the same people and captions."""
    first, entries = rows.get(WAYS[0]), []
    for name, found in rows.items() if first else ():
        assert first is not None
        if name == WAYS[0] or not np.array_equal(np.unique(found.person), np.unique(first.person)):
            continue
        # Paired by person, so that what is hard of a person or caption takes no part.
        entry: Table = {"row": name}
        for figure in COMPARED:
            own, other = first.figure(figure), found.figure(figure)
            if own is not None and other is not None:
                both = by_person(own, first.person), by_person(other, found.person)
                entry[figure] = interval(difference, [values[None] for values in both])._asdict()
        entries.append(entry | _lead_in_words(first, found))
    return entries


def _lead_in_words(first: RowFigures, found: RowFigures) -> dict[str, Any]:
    """Return by how much larger the balanced share of words of the first row is, over the attributes that the judge reads."""
    sides = [[sums for name, sums in count_words(row).items() if name not in UNREAD] for row in (first, found)]
    if not all(sides):
        return {}
    # One statistic of both rows' counts, so that people are drawn for both together.
    share = mean_of_ratios([above.shape[1] for above, _ in sides[0]])
    columns = [columns_of(side) for side in sides]

    def lead(*drawn: np.ndarray) -> np.ndarray:
        own, other = share(*drawn[: len(columns[0])]), share(*drawn[len(columns[0]) :])
        return own - other

    return {"balanced": interval(lead, [*columns[0], *columns[1]])._asdict()}
