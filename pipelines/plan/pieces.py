"""A plan's pieces: what a run was to make when it began, and what it was extended by, each written once.

    _plan/run.json                     whose output this is: version, recipe and its digest, bundle, the job as first asked
    _plan/pieces/00000-samples.parquet one row group per partition, and further tables beside it
    _plan/pieces/00000.json            the piece: its partitions, items and their digest; with it the piece is whole

A run is extended when its old items are unchanged: new ones come in a new piece, after them, in partitions and caption
chunks of their own, so what was there stays byte for byte. Fewer than planned is refused.
"""

import contextlib
import itertools
import json
from bisect import bisect_right
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from models.errors import EnvironmentFault, UserError
from models.weights.bundle import Bundle
from pipelines.config.recipe import VERSION, Recipe, check_same
from pipelines.storage import Storage

WRITTEN = {"compression": "zstd", "use_dictionary": False, "write_statistics": False}
"""How tables are written: a row group is small, and read whole: no dictionaries and no bounds."""
RUN, FOLDER, SAMPLES = "_plan/run.json", "_plan/pieces", "samples"


@dataclass(frozen=True)
class Piece:
    """One piece of a plan: partitions [first, first + partitions) of the run, made of items [start, stop) of its source."""

    first: int
    partitions: int
    samples: int
    start: int
    stop: int
    digest: str
    """Of what was read for it."""
    first_chunk: int = 0
    partitions_per_chunk: int = 1
    """Partitions whose captions share a file."""
    extent: dict[str, Any] = field(default_factory=dict)
    """What was asked for when it was written; nothing is made of it."""

    @property
    def chunks(self) -> int:
        """Files that the captions of its samples take."""
        return -(-self.partitions // self.partitions_per_chunk)


class Pieces:
    """The pieces of the plan in `out`. Picklable and small: workers read their partition's tables from storage."""

    def __init__(self, out: Storage, found: Sequence[Piece]) -> None:
        self.out, self.found = out, tuple(found)

    def __getstate__(self) -> dict[str, Any]:
        return {"out": self.out, "found": self.found}

    @property
    def partitions(self) -> int:
        """Number of partitions."""
        return sum(piece.partitions for piece in self.found)

    @property
    def samples(self) -> int:
        """Number of samples in all partitions."""
        return sum(piece.samples for piece in self.found)

    @property
    def items(self) -> int:
        """Number of items of the source that are planned."""
        return self.found[-1].stop if self.found else 0

    def home(self, partition: int) -> tuple[int, int]:
        """Return (piece, place in it) of a partition."""
        number = bisect_right([piece.first for piece in self.found], partition) - 1
        return number, partition - self.found[number].first

    def table(self, partition: int, name: str = SAMPLES) -> pa.Table:
        """Return the rows of table `name` of a partition."""
        number, place = self.home(partition)
        return self._file(number, name).read_row_group(place)

    def whole_table(self, number: int, name: str) -> pa.Table:
        """Return table `name` of a whole piece."""
        return self._file(number, name).read()

    def rows(self, partition: int) -> int:
        """Number of samples of a partition."""
        number, place = self.home(partition)
        return int(self._file(number, SAMPLES).metadata.row_group(place).num_rows)

    @cached_property
    def _files(self) -> dict[tuple[int, str], pq.ParquetFile]:
        return {}

    def _file(self, number: int, name: str) -> pq.ParquetFile:
        if (number, name) not in self._files:
            path = self.out.path(_table(number, name))
            try:
                self._files[number, name] = pq.ParquetFile(path, filesystem=self.out.arrow)
            except (pa.ArrowException, FileNotFoundError) as error:
                raise EnvironmentFault(
                    f"{path} is damaged or missing: without it nothing tells what was to be made. Restore it from a copy, or "
                    "make the output anew in another --out."
                ) from error
        return self._files[number, name]

    def extended(
        self,
        tables: Mapping[str, Iterable[pa.Table]],
        *,
        start: int,
        stop: int | Callable[[], int],
        digest: str | Callable[[], str],
        chunk_samples: int = 0,
        extent: Mapping[str, Any] | None = None,
    ) -> "Pieces":
        """Write a further piece and return all of them; the same without a new item.

        tables: name -> a table for every partition, `samples` among them. stop, digest: where they are only known once the
        tables are written, what returns them.
        """
        number, sizes = len(self.found), list[int]()
        # All tables at once, a row group as it comes: what was read for a partition is let go before the next.
        partitions = zip(*tables.values(), strict=True)
        first = next(partitions, None)
        if first is None:
            return self
        with contextlib.ExitStack() as stack:
            writers = []
            for name, part in zip(tables, first):
                file = stack.enter_context(self.out.stream(_table(number, name)))
                writers.append(stack.enter_context(pq.ParquetWriter(file, part.schema, **WRITTEN)))
            for parts in itertools.chain([first], partitions):
                for writer, part in zip(writers, parts):
                    writer.write_table(part, row_group_size=len(part))
                sizes.append(len(parts[list(tables).index(SAMPLES)]))
        # With the piece's own file it is whole.
        last = self.found[-1] if self.found else Piece(0, 0, 0, 0, 0, "")
        piece = Piece(
            first=self.partitions,
            partitions=len(sizes),
            samples=sum(sizes),
            start=start,
            stop=stop if isinstance(stop, int) else stop(),
            digest=digest if isinstance(digest, str) else digest(),
            first_chunk=last.first_chunk + last.chunks if self.found else 0,
            partitions_per_chunk=max(1, chunk_samples // sizes[0]),
            extent=dict(extent or {}),
        )
        self.out.create(f"{FOLDER}/{number:05d}.json", (json.dumps(asdict(piece), indent=1) + "\n").encode())
        return Pieces(self.out, [*self.found, piece])


def read_pieces(out: Storage) -> Pieces:
    """Return the pieces that lie in `out`. Raises EnvironmentFault for one that is damaged, or missing before another."""
    names = [name for name in out.list(FOLDER) if name.endswith(".json")]
    found = []
    for number, name in enumerate(names):
        try:
            if name != f"{FOLDER}/{number:05d}.json":
                raise ValueError(f"piece {number} is missing")
            found.append(Piece(**json.loads(out.read(name))))
        except (ValueError, TypeError) as error:
            raise EnvironmentFault(
                f"{out.path(name)}: a piece of the plan is damaged or missing ({error}). Restore it from a copy, or make the "
                "output anew in another --out."
            ) from None
    return Pieces(out, found)


def claim(out: Storage, recipe: Recipe, bundle: Bundle | None, job: Mapping[str, Any]) -> None:
    """Make `out` the output of `recipe`, or check that it is.

    Raises:
        UserError: `out` holds something else: another recipe (what differs is named), another version, or files of others.
    """
    if not out.exists(RUN):
        occupied = [name for name in out.list() if not name.startswith(("_plan/", "_lease/"))]
        if occupied:
            raise UserError(f"{out.uri} is not empty ({occupied[0]}, ...) and no output of ours; choose another --out.")
        run = {
            "version": VERSION,
            "digest": recipe.digest,
            "recipe": recipe.model_dump(mode="json"),
            "job": dict(job),
            "bundle": bundle.model_dump(mode="json") if bundle else None,
            "bundle_folder": bundle.folder if bundle else "",
        }
        out.create(RUN, (json.dumps(run, indent=1) + "\n").encode())
    before = read_run(out)
    if before["job"]["kind"] != recipe.kind:
        raise UserError(f"{out.uri} is the output of `thermapair {before['job']['kind']}`, not of {recipe.kind}.")
    check_same(before.get("recipe") or {}, recipe, out.uri)


def read_run(out: Storage) -> dict[str, Any]:
    """Return what `_plan/run.json` says, among it `digest` and `job` with its `kind`.

    Raises:
        UserError: there is none. EnvironmentFault: it is damaged.
    """
    try:
        run = json.loads(out.read(RUN))
        _ = run["digest"], run["job"]["kind"]  # what all readers rely on
        return dict(run)
    except FileNotFoundError:
        raise UserError(f"{out.uri} holds no run ({RUN} is missing).") from None
    except (ValueError, TypeError, KeyError):
        raise EnvironmentFault(
            f"{out.path(RUN)} is damaged: without it nothing tells what this output is. Restore it from a copy, or make "
            "the output anew in another --out."
        ) from None


def read_recipe(out: Storage) -> tuple[Recipe, Bundle]:
    """Return the recipe of the run in `out`, and its bundle with weights where they were then (without parts for none).

    Raises:
        UserError: there is no run, or another version's. EnvironmentFault: it is damaged.
    """
    run = read_run(out)
    if run.get("recipe", {}).get("version") != VERSION:
        raise UserError(f"{out.uri} was made by another version: read it with the version that made it.")
    recipe = Recipe.model_validate(run["recipe"])
    bundle = Bundle.model_validate(run["bundle"] or {"name": "none", "size": recipe.size, "parts": {}})
    bundle._folder = run["bundle_folder"]
    return recipe, bundle


def _table(number: int, name: str) -> str:
    return f"{FOLDER}/{number:05d}-{name}.parquet"
