"""From the ledger's lines to tables: nothing is computed here that the lines do not hold."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from models.evaluation.bootstrap import difference, interval, mean
from models.evaluation.faceclip.ways import WAYS
from models.evaluation.lapig.tables import RowFigures, by_person, collect, list_estimates, share_words

Line = dict[str, Any]
Table = dict[str, Any]
TABLES = ("embedding", "pictures")
TRUE, KNOWN, BUNDLE = "true picture", "known picture", "part of the bundle"
"""Baselines: what a perfect generator draws, a copy of the picture that showed who is asked for; and the bundle's own visible
part, asked as a job asks it."""
ROWS = (TRUE, KNOWN, *WAYS, BUNDLE)
FIGURES = ("reference", "other_view", "copy_paste", "rank1", "words", "clip", "face_found")
COMPARED = ("reference", "other_view", "words", "clip")
"""Figures of which the first way's lead over every other row is a table of its own."""


def tables(lines: Sequence[Line], embedding: Mapping[str, np.ndarray], person: np.ndarray) -> dict[str, Any]:
    """Return every table that the lines allow; estimates are {value, low, high}.

    embedding: what is found, by its name, float [N] of all pictures that are looked for; person: int [N].
    """
    rows = collect([line for line in lines if line["row"] in ROWS], "pictures")
    ordered = {name: rows[name] for name in ROWS if name in rows}
    costs = [line for line in lines if line["table"] == "trainings"]
    return {
        "embedding": [
            {"row": name, "value": interval(mean, [by_person(values, person)[None]])._asdict(), "pictures": len(values)}
            for name, values in embedding.items()
        ],
        "pictures": list_estimates(ordered, FIGURES),
        "leads": _leads(ordered),
        "attributes": share_words(ordered),
        "trainings": [{"row": line["row"], "seed": line["seed"], **line["measures"]} for line in costs],
    }


def _leads(rows: Mapping[str, RowFigures]) -> list[Table]:
    """Return by how much the first way is ahead of every other row, of the same people and captions."""
    first, entries = rows.get(WAYS[0]), []
    for name, found in rows.items() if first else ():
        assert first is not None
        if name == WAYS[0] or not np.array_equal(np.unique(found.person), np.unique(first.person)):
            continue
        entry: Table = {"row": name}
        for figure in COMPARED:
            own, other = first.figure(figure), found.figure(figure)
            if own is not None and other is not None:
                both = by_person(own, first.person), by_person(other, found.person)
                entry[figure] = interval(difference, [values[None] for values in both])._asdict()
        entries.append(entry)
    return entries
