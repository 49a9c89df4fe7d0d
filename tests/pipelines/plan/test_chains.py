"""Whether classes came with what a run read is known from its recipe alone."""

from types import SimpleNamespace
from typing import Any

import pytest

from pipelines.plan.chains import _lacks


def link(reads: str, writes: str) -> Any:
    return SimpleNamespace(flow=SimpleNamespace(reads=tuple(reads.split()), writes=tuple(writes.split())))


PAINTER, PARSER, LOOKER = link("visible classes", "thermal"), link("visible", "classes"), link("visible", "scores")


@pytest.mark.parametrize(
    ("links", "lacks"),
    [([PAINTER], True), ([PAINTER, LOOKER], True), ([LOOKER, PAINTER], True), ([PARSER, PAINTER], False),
     ([PARSER, LOOKER], False), ([LOOKER], False), ([], False)],
)  # fmt: skip
def test_a_column_that_is_read_and_not_written_came_with_the_source(links: list[Any], lacks: bool) -> None:
    assert _lacks(SimpleNamespace(links=links), "classes") is lacks  # type: ignore[arg-type]
