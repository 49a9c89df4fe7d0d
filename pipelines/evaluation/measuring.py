"""What evaluations share: cells that are measured one after the other into a ledger that resumes, and tables of the whole ledger.

out/ledger.jsonl  tables.json  tables.md, and a folder `work` of what can be made again
"""

import json
import logging
import sys
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Generic, NamedTuple, TypeVar

import cv2
import numpy as np
import torch
from pydantic import BaseModel

from models.config import apply_edit, check
from models.errors import UserError
from models.stages import STAGES
from models.training.loop import Hooks
from models.weights.bundle import Bundle
from pipelines.evaluation.ledger import Ledger, Line, cell_of
from pipelines.run.interrupts import Signals
from pipelines.run.provenance import commit_of, hardware
from pipelines.storage.lease import Lease
from pipelines.storage.uri import Storage

log = logging.getLogger(__name__)

C = TypeVar("C", bound=NamedTuple)
R = TypeVar("R", bound=BaseModel)
Stop = Callable[[], bool]
Tables = dict[str, Any]


class Measuring(ABC, Generic[C]):
    """Measures the cells of one recipe into the ledger of the folder `out`.

    cell: the type of a cell, whose fields stand in its line of the ledger. digest: what tells this recipe's numbers from
    another's. work: folder of what can be made again. stop: whether a long step is to end, with what it has. apart: processor
    seconds within a cell that have a line of their own.
    """

    cell: type[C]

    def __init__(self, recipe: BaseModel, digest: str, out: Path, stop: Stop = lambda: False) -> None:
        self.recipe_facts, self.digest, self.stop = recipe.model_dump(mode="json"), digest, stop
        self.ledger, self.work = Ledger(out / "ledger.jsonl"), out / "work"
        self.commit, self.apart = commit_of(), 0.0

    # What an evaluation says

    @abstractmethod
    def cells(self, chosen: Sequence[str]) -> Iterable[C]:
        """Yield the cells of tables in order."""

    @abstractmethod
    def read(self, cell: C) -> dict[str, Any]:
        """Measure a cell; return what its line says, `measures` among it."""

    @abstractmethod
    def tables(self) -> Tables:
        """Return every table that the ledger allows."""

    @abstractmethod
    def render(self, found: Tables, facts: dict[str, Any]) -> str:
        """Return the tables as a page of Markdown."""

    def about(self) -> dict[str, Any]:
        """Return further facts for the page."""
        return {}

    def keeps(self, cell: C) -> bool:
        """Return whether something is kept of a cell beside its line: where that is gone the cell is measured again."""
        return False

    def place(self, cell: C) -> Path:
        """Return where that lies."""
        return self.work / f"{'-'.join(str(value).replace(' ', '_') for value in cell)}.npz"

    def digest_of(self, cell: C) -> str:
        """Return the digest that a cell's line stands under."""
        return self.digest

    # What follows from it

    def lines(self) -> list[Line]:
        """Return the finished lines of this recipe, the last of a cell: what is kept beside a line may be gone and made again."""
        return list({cell_of(line, self.cell): line for line in self.ledger.lines(self.digest)}.values())

    def missing(self, chosen: Sequence[str] = ()) -> list[C]:
        """Return the cells that the ledger lacks, or of which what was kept is gone, in order and each once."""
        done: dict[str, set[C]] = {}
        found = []
        for cell in dict.fromkeys(self.cells(chosen)):
            digest = self.digest_of(cell)
            if digest not in done:
                done[digest] = {cell_of(line, self.cell) for line in self.ledger.lines(digest)}
            if cell not in done[digest] or (self.keeps(cell) and not self.place(cell).exists()):
                found.append(cell)
        return found

    def measure(self, cell: C) -> Line:
        """Measure one cell, append its line with the processor seconds that it took, and return it."""
        before, self.apart = time.process_time(), 0.0
        facts = self.read(cell)
        return self.append(cell, time.process_time() - before - self.apart, facts)

    def append(self, cell: C, seconds: float, facts: dict[str, Any]) -> Line:
        """Append the line of a cell and return it."""
        line = {"digest": self.digest_of(cell), **cell._asdict(), "seconds": round(seconds, 2), "commit": self.commit}
        self.ledger.append(line | facts)
        return line | facts

    def facts(self) -> dict[str, Any]:
        """Return what a page says of its making: command, recipe, digest, commits, hardware, and `about`."""
        digests = {self.digest, *map(self.digest_of, self.cells(()))}
        commits = {line["commit"][:12] for digest in digests for line in self.ledger.lines(digest)}
        return {
            "command": " ".join(["thermapair", *sys.argv[1:]]),
            "recipe": self.recipe_facts,
            "digest": self.digest,
            **self.about(),
            "commits": sorted(commits),
            "hardware": hardware(),
        }

    def write(self, out: Path) -> Tables:
        """Write tables.json and tables.md of the whole ledger and return the tables."""
        found, facts = self.tables(), self.facts()
        text = json.dumps({"facts": facts, "tables": found}, indent=1, allow_nan=True)
        (out / "tables.json").write_text(text + "\n", encoding="utf-8")
        (out / "tables.md").write_text(self.render(found, facts), encoding="utf-8")
        return found


def measure_all(
    out: Path, begin: Callable[[Stop], Measuring[Any]], chosen: Sequence[str] = (), threads: int = 1
) -> Tables:
    """Measure the cells of tables that the ledger in `out` lacks, then write all tables anew; returns them.

    begin: returns the evaluation, given what says that it is to stop. A signal ends it between cells, or within one that asks.
    """
    torch.set_num_threads(threads)
    cv2.setNumThreads(threads)
    with Signals() as signals, Lease(Storage(out)) as lease:

        def stop() -> bool:
            lease.check()
            return bool(signals.name)

        # The cells that the ledger lacks, one after the other; each is kept as soon as it is measured.
        bench = begin(stop)
        missing = bench.missing(chosen)
        log.info("%d cells to measure", len(missing))
        for number, cell in enumerate(missing, 1):
            signals.check()
            lease.check()
            line = bench.measure(cell)
            log.info("%d of %d: %s, %.0f s", number, len(missing), " / ".join(map(str, cell)), line["seconds"])
        return bench.write(out)


def load_recipe(recipe: type[R], overrides: Sequence[str], name: str) -> R:
    """Return a recipe with `key=value` edits. name: of the evaluation, for messages."""
    content: dict[str, Any] = {}
    for edit in overrides:
        apply_edit(content, edit)
    return check(recipe, content, f"evaluate {name}")


def sort_edits(recipe: type[BaseModel], overrides: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return the edits of the recipe and those of the bundle (`thermal.weights=...`, or `bundle.thermal...`).

    Raises UserError for one that is neither.
    """
    # A value within one of the recipe's is the recipe's, unless a stage has that name.
    keys = {edit: edit.partition("=")[0].strip() for edit in overrides}
    heads = {edit: key.partition(".")[0] for edit, key in keys.items()}
    fields = recipe.model_fields
    own = [each for each in overrides if keys[each] in fields or (heads[each] in fields and heads[each] not in STAGES)]
    others = [edit.strip().removeprefix("bundle.") for edit in overrides if edit not in own]
    # Of a bundle are its own fields, stages whose part is chosen, parts that are given whole, and what lies within a part.
    for edit in others:
        key, _, text = edit.partition("=")
        known = {*Bundle.model_fields, *STAGES}
        if key.strip() not in known and "." not in key and not text.strip().startswith("{"):
            raise UserError(
                f"--set {edit}: the recipe has no {key.strip()}, nor has a bundle; it has {', '.join(recipe.model_fields)}"
            )
    return own, others


def choose_tables(chosen: Sequence[str], known: Sequence[str]) -> tuple[str, ...]:
    """Return the tables that were chosen, all where none was. Raises a UserError for one that there is not."""
    if unknown := sorted(set(chosen) - set(known)):
        raise UserError(f"no table {unknown[0]!r}; known: {', '.join(known)}")
    return tuple(chosen) or tuple(known)


@contextmanager
def scratch_hooks(stop: Stop) -> Iterator[Hooks]:
    """Give a block the hooks of a training that keeps nothing but its model."""
    with tempfile.TemporaryDirectory(prefix="evaluate-") as scratch:
        yield Hooks(Path(scratch), lambda *_: None, lambda _: None, stop=stop, checkpoint_seconds=1e9)


def keep(path: Path, **values: Any) -> None:
    """Write arrays under `path` once they are whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=path.parent, suffix=".npz", delete=False) as file:
        np.savez(file, **values)
    Path(file.name).rename(path)
