"""From SMIRK's numbers of known expressions to the map beside an adapter, by the command."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cluster import cli
from models.attributes import EXPRESSIONS
from models.errors import UserError
from models.visible.smirk import MAP, ExpressionMap
from models.weights.store import verify
from pipelines import fit_expressions

NUMBERS = {word: np.random.default_rng(k).normal(0, 1, 50) for k, word in enumerate(EXPRESSIONS)}
"""Of each expression at full strength; a face at rest has zeros."""


def write(path: Path, **columns: list) -> str:
    """Write six pairs of each expression and one row without numbers; columns may be overwritten, None leaves one out."""
    words = list(EXPRESSIONS) * 6
    rng = np.random.default_rng(0)
    strengths = rng.uniform(0.3, 1, len(words)).tolist()
    smirk = []
    for word, strength in zip(words, strengths):
        found = (0 if word == "neutral" else strength) * NUMBERS[word] + rng.normal(0, 0.1, 50)
        smirk.append([*found.tolist(), *[0.0] * 5])
    table = {"expression": [*words, "smile"], "strength": [*strengths, 1.0], "smirk": [*smirk, None], **columns}
    pq.write_table(pa.table({name: values for name, values in table.items() if values is not None}), path)
    return str(path)


def test_the_command_writes_the_map_and_says_its_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data, adapter = write(tmp_path / "pairs.parquet"), tmp_path / "adapter"
    adapter.mkdir()
    assert cli.main(["fit-expressions", "--data", data, "--adapter", str(adapter)]) == 0
    found = ExpressionMap.load(adapter / MAP)
    assert set(found.names) == set(EXPRESSIONS) - {"neutral"} and found.pairs == 60
    assert abs(found([{"smile": 0.5}])[0][:50] - 0.5 * NUMBERS["smile"]).max() < 0.3
    assert f"error {found.error:.4g} on pairs that were left out; {found.error_of_mean:.4g}" in capsys.readouterr().out
    assert found.error < 0.4 * found.error_of_mean
    verify(adapter)


def test_rows_of_an_output_say_the_expression_in_their_attributes(tmp_path: Path) -> None:
    words = [*list(EXPRESSIONS) * 6, "smile"]
    attributes = [json.dumps({"sex": "man", "expression": word}) for word in words]
    pairs = fit_expressions.read_pairs(
        write(tmp_path / "pairs.parquet", expression=None, strength=None, attributes=attributes)
    )
    assert [strengths for strengths, _ in pairs] == [{} if word == "neutral" else {word: 1.0} for word in words[:-1]]


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"smirk": None}, "has no column smirk"),
        ({"expression": None}, "has no column attributes"),
        ({"expression": ["grin"] * 61}, "row 0: no expression 'grin'; known: neutral"),
        ({"expression": ["neutral", *["smile"] * 60]}, "no pairs of angry, disgusted, laugh"),
        ({"strength": [1.5] * 61}, "row 0: strength 1.5 is not between 0 and 1"),
        ({"smirk": [[0.0] * 53] * 61}, "pair 0: smirk has 53 numbers"),
    ],
)
def test_pairs_that_cannot_be_are_refused(tmp_path: Path, columns: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        fit_expressions.run(write(tmp_path / "pairs.parquet", **columns), str(tmp_path))
    assert not (tmp_path / MAP).exists()
