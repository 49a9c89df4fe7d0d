"""Rows of several sources that something is trained on, and of test people, for evaluations of what pairs are worth."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from models.columns import Columns
from models.errors import UserError
from pipelines.readers.sets.source import SOURCES
from pipelines.rows.halves import Halves, open_pairs
from pipelines.rows.shards import Shards

Stored = Shards | Halves
"""What rows are read from: those of a data set, or halves that are joined to pairs."""
CHUNK = 256
"""Rows that are decoded and prepared together."""


class Inputs(NamedTuple):
    """URIs of rows, "" where there are none. data: pairs of lab people, `test` those of others; without it the rows of `data` of
    the split `tested` are those others, and those of split train are trained on. field: test people of another camera and
    room."""

    data: str = ""
    generated: str = ""
    renders: str = ""
    translated: str = ""
    test: str = ""
    field: str = ""
    tested: str = "test"


class Sources:
    """training: rows that are trained on, by source; tests: rows of test people, by the name of the test set.

    names: source -> field of `inputs`; columns: what is trained on; tested: what is tested (both by default the same). apart:
    whether halves that no pixel joins are pairs, too.
    Raises a UserError for rows that are not there, for nobody to test, and for people who are trained on and tested.
    """

    def __init__(
        self,
        inputs: Inputs,
        names: Mapping[str, str],
        columns: Sequence[str],
        limit: int,
        reader: str,
        tested: Sequence[str] = (),
        optional: Sequence[str] = (),
        tests: int | None = None,
        apart: bool = False,
    ) -> None:
        if not inputs.test and not inputs.data:
            raise UserError(
                "nobody to test: name rows of test people by --test, or a data set with a test split by --data"
            )

        # Pairs of people, where no pixel need join the halves, or rows as they are.
        def open_rows(
            uri: str, wanted: Sequence[str], split: str | None, colour: bool, most: int | None, **how: Any
        ) -> Stored:
            how |= {"split": split, "memory": 0, "limit": most, "reader": reader}
            if apart:
                return open_pairs(uri, tuple(wanted), colour=colour, **how)
            return Shards(uri, wanted, optional=optional, colour=colour, **how)

        # Who is trained on: of a set that is tested, too, its training people; translations from their own source alone.
        own = None if inputs.test else "train"
        self.training: dict[str, Stored] = {
            source: open_rows(
                uri, columns, own if field == "data" else None, True, limit, translated=field == "translated"
            )
            for source, field in names.items()
            if (uri := getattr(inputs, field))
        }
        # Who is tested, always by pictures of a camera.
        wanted, most = tested or columns, tests or limit
        colour = "visible" in wanted
        split = None if inputs.test else inputs.tested
        self.tests: dict[str, Stored] = {"test": open_rows(inputs.test or inputs.data, wanted, split, colour, most)}
        if inputs.field:
            self.tests["field"] = open_rows(inputs.field, wanted, None, colour, most)
        self._refuse_trained_people()

    def _refuse_trained_people(self) -> None:
        """Raise a UserError where somebody is trained on and tested."""
        for name, rows in self.tests.items():
            tested = set(map(str, rows.values("identity_id")))
            for source, others in self.training.items():
                if both := sorted(tested & set(map(str, others.values("identity_id")))):
                    raise UserError(
                        f"{both[0]} is of {others.uri} ({source}) and of {rows.uri} ({name}): whoever is trained on tests nothing"
                    )

    def person(self, source: str) -> np.ndarray:
        """Return whom each row of a source shows, names [N]."""
        return self.training[source].values("identity_id").astype(str)


def test_split(uri: str, layout: str) -> str | None:
    """Return the split of test people that a published set has, whose rows of `layout` lie at `uri`: `validation` where its lists
    name none for tests (MCXFace's); None where the set publishes no splits: everybody may be tested."""
    if not SOURCES[layout].splits:
        return None
    return "test" if "test" in set(Shards(uri, ("split",), memory=0).values("split")) else "validation"


def by_published_splits(inputs: Inputs, layout: str) -> Inputs:
    """Return inputs whose `data` is a published set: its own test people are tested, and all of it where it publishes none, by
    which nobody of it is trained on. Where `test` names others, the set is trained on as it is."""
    if inputs.test:
        return inputs
    split = test_split(inputs.data, layout)
    return inputs._replace(tested=split) if split else inputs._replace(data="", test=inputs.data)


def read_rows(shards: Stored, rows: np.ndarray, prepare: Callable[[Columns], Columns]) -> Columns:
    """Return rows as `prepare` makes them, decoded a few at a time."""
    parts = [prepare(shards.rows(rows[begin : begin + CHUNK])) for begin in range(0, len(rows), CHUNK)]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
