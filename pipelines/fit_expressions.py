"""`thermapair fit-expressions`: SMIRK's numbers of known expressions in, the map from words to numbers of an adapter out."""

import json
from pathlib import Path
from typing import Any

from models.attributes import EXPRESSIONS
from models.errors import UserError
from models.visible.smirk import MAP, ExpressionMap, fit
from models.weights.store import seal
from pipelines.storage.tables import open_table, require_columns
from pipelines.storage.uri import Storage

SMIRK, EXPRESSION, STRENGTH, ATTRIBUTES = "smirk", "expression", "strength", "attributes"
NEUTRAL = "neutral"
Pair = tuple[dict[str, float], list[float]]


def run(data: str, adapter: str) -> ExpressionMap:
    """Fit the map to the pairs of the Parquet file `data`, write it into the folder `adapter` and seal that.

    Columns of `data`: `smirk` (55 numbers), the word as `expression` or in `attributes` (JSON, as outputs of ours have it) and,
    where there is one, `strength` (0 to 1; 1 by default). Rows without numbers are left out.

    Raises:
        UserError: a column, an expression or numbers that cannot be, an expression without pairs, or what `fit` refuses.
    """
    folder = Path(adapter)
    if not folder.is_dir():
        raise UserError(f"{adapter} is no folder: name that of the expression adapter's weights.")
    pairs = read_pairs(data)
    # The stage draws every expression, so a map that lacks one is of no use to it.
    if lacking := sorted(set(EXPRESSIONS) - {NEUTRAL} - {name for strengths, _ in pairs for name in strengths}):
        raise UserError(f"{data} has no pairs of {', '.join(lacking)}: the map needs some of every expression.")
    found = fit(pairs)
    found.save(folder / MAP)
    seal(folder)
    return found


def read_pairs(uri: str) -> list[Pair]:
    """Return expressions by name and strength, and SMIRK's numbers, of the rows of a Parquet file that have numbers."""
    folder, _, name = uri.rpartition("/")
    with open_table(Storage(folder or "."), name) as file:
        there = file.schema_arrow.names
        word = EXPRESSION if EXPRESSION in there else ATTRIBUTES
        columns = [SMIRK, word, *([STRENGTH] if STRENGTH in there else [])]
        require_columns(file, columns, uri)
        rows = file.read(columns).to_pylist()
    return [
        (_strengths(row, f"{uri}, row {number}"), row[SMIRK])
        for number, row in enumerate(rows)
        if row[SMIRK] is not None
    ]


def _strengths(row: dict[str, Any], where: str) -> dict[str, float]:
    """Return the expression of a row by name and strength; nothing for a face at rest."""
    try:
        word = row[EXPRESSION] if EXPRESSION in row else json.loads(row[ATTRIBUTES]).get(EXPRESSION)
    except (ValueError, TypeError, AttributeError):
        raise UserError(f"{where}: attributes is no JSON object.") from None
    strength = row.get(STRENGTH, 1.0)
    if word not in EXPRESSIONS:
        raise UserError(f"{where}: no expression {word!r}; known: {', '.join(EXPRESSIONS)}.")
    if not isinstance(strength, int | float) or not 0 <= strength <= 1:
        raise UserError(f"{where}: strength {strength!r} is not between 0 and 1.")
    return {} if word == NEUTRAL else {str(word): float(strength)}
