"""The plan of a generate job: every sample with its id, seed, words and caption, cut into partitions.

A sample is (identity, view, draw). Ids and seeds hash the job's seed and those, never the configuration, and people come
in a stable order: a larger job starts with the same samples. All views of a person share a partition, unless a limit cut
them. Captions are written later, chunk by chunk, into `_plan/captions`.
"""

import itertools
import json
from collections.abc import Iterator, Sequence
from functools import lru_cache
from math import gcd, prod
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from models.attributes import ATTRIBUTES
from models.columns import COLUMNS
from models.errors import EnvironmentFault, UserError
from models.seeds import seed_of
from models.weights.bundle import Bundle, Part, licence_of
from pipelines.config.captions import writer_of
from pipelines.config.chain import ChainSpec
from pipelines.config.generate import BRINGS, chain_for
from pipelines.config.job import GenerateJob
from pipelines.config.recipe import Recipe, caption_recipe, chain_of, stage_recipes
from pipelines.plan.attributes import Vocabulary, draw_words
from pipelines.plan.identities import Identity, table_of
from pipelines.plan.people import People, people_of
from pipelines.plan.pieces import SAMPLES, Piece, Pieces, claim, read_pieces, read_recipe, read_run
from pipelines.rows.ids import hashed, noise_id
from pipelines.rows.record import RecordSpec
from pipelines.storage.uri import Storage, fault, remote

CAPTIONS = "_plan/captions"
IDENTITIES = "identities"
RAW_BYTES = 256 * 2**20
"""A partition's columns, uncompressed, at most."""
CHUNK_SAMPLES = 4096
PIECE_SAMPLES = 2**18
SAME = 1e-6
"""Two processors may differ so much in a number of a unit embedding."""


def sample_id(seed: int, identity: str, view: int, draw: int) -> str:
    """Return the id of one visible picture: 20 hex digits."""
    return hashed("sample", seed, identity, view, draw)


def recipe_for(job: GenerateJob, bundle: Bundle, chain: ChainSpec) -> Recipe:
    """Return everything that may change a byte of what the job makes."""
    writer = writer_of(bundle, job.captions, job.parts)
    return Recipe(
        kind="generate",
        seed=job.seed,
        source={
            "identities": job.identities.model_dump(mode="json", exclude={"count"}) | {"source": _address(job)},
            "views": job.views.model_dump(mode="json"),
        },
        size=bundle.size,
        layers=job.layers,
        stages=stage_recipes(chain),
        captions=caption_recipe(writer, bundle.folder, job.captions),
        encoding=job.encoding.model_dump(mode="json"),
        partition=identities_per_partition(job, bundle, chain),
        chunk=CHUNK_SAMPLES,
        licence=licence_of(parts_in_use(job, bundle, chain).values()),
    )


def _address(job: GenerateJob) -> str:
    """Return where people come from, a file by its whole path: the same file is the same source."""
    source = job.identities.source
    return source if source == "reference" else Storage(source).uri


def parts_in_use(job: GenerateJob, bundle: Bundle, chain: ChainSpec) -> dict[str, Part]:
    """Return the parts that the job runs by name: of captions if a model writes them, and of its chain."""
    writer = writer_of(bundle, job.captions, job.parts)
    names = [name for name, part in bundle.parts.items() if part is writer]
    return {name: bundle.parts[name] for name in names} | {link.name: link.part for link in chain.links}


class Plan:
    """A plan that lies whole in `out`. Picklable and small: workers read their partition from storage."""

    def __init__(
        self, out: Storage, job: GenerateJob, bundle: Bundle, recipe: Recipe, chain: ChainSpec, pieces: Pieces
    ) -> None:
        self.out, self.job, self.bundle = out, job, bundle
        self.recipe, self.chain, self.pieces, self.digest = recipe, chain, pieces, recipe.digest

    @property
    def title(self) -> str:
        """What the run is called."""
        return self.job.name

    @property
    def partitions(self) -> int:
        """Number of partitions."""
        return self.pieces.partitions

    @property
    def samples(self) -> int:
        """Number of samples in all partitions."""
        return self.pieces.samples

    @property
    def record(self) -> RecordSpec:
        """What rows of the record need to know of this run."""
        visible = str(self.recipe.encoding["visible"])
        return RecordSpec(self.digest, self.recipe.layers, self.recipe.licence, self.chain, visible)

    def rows(self, partition: int) -> int:
        """Number of samples of `partition`."""
        return self.pieces.rows(partition)

    def sample_table(self, partition: int) -> pa.Table:
        """Return sample_id, identity_id, view, draw, seed, attributes and their sources (JSON) of `partition`."""
        return self.pieces.table(partition)

    def identity_table(self, partition: int) -> pa.Table:
        """Return identity_id, embedding of the people of `partition`."""
        return self.pieces.table(partition, IDENTITIES)

    def captions(self, partition: int) -> pa.Table:
        """Return caption and caption_source (llm | grammar | template) of `partition`, in the order of its samples."""
        number, place = self.pieces.home(partition)
        chunk, row_group = self.pieces.found[number].chunk_of(place)
        path = self.out.path(_captions(chunk))
        try:
            with pq.ParquetFile(path, filesystem=self.out.arrow) as file:
                return file.read_row_group(row_group)
        except (pa.ArrowException, OSError) as error:
            if remote(error):
                raise fault(error, path, "read") from error
            raise EnvironmentFault(
                f"{path} is damaged or missing: it holds the captions that pairs are made from. Restore it from a copy, or "
                "delete it and run the same command again: captions are written anew, and finished pairs keep theirs."
            ) from error

    def chunks(self) -> Iterator[tuple[int, range]]:
        """Yield (chunk, its partitions) of all chunks of captions, in order."""
        for piece in self.pieces.found:
            first = piece.first
            for chunk, partitions in enumerate(piece.chunks, piece.first_chunk):
                yield chunk, range(first, first + partitions)
                first += partitions

    def captioned(self) -> set[int]:
        """Return the chunks whose captions are committed."""
        there = set(self.out.list(CAPTIONS))
        return {chunk for chunk, _ in self.chunks() if _captions(chunk) in there}

    def uncaptioned(self) -> Iterator[tuple[int, pa.Table]]:
        """Yield (chunk, sample table) of the chunks that have no captions yet."""
        done = self.captioned()
        for chunk, partitions in self.chunks():
            if chunk not in done:
                yield chunk, pa.concat_tables(self.sample_table(k) for k in partitions)

    def save_captions(self, chunk: int, captions: list[str], sources: list[str], seconds: float = 0.0) -> None:
        """Commit the captions of `chunk`, who wrote them and the seconds it took, one per row of its table.

        The first to commit wins.
        """
        sizes = [self.rows(k) for k in dict(self.chunks())[chunk]]
        if len(captions) != sum(sizes):
            raise ValueError(f"chunk {chunk} has {sum(sizes)} samples, not {len(captions)}")
        columns = {"caption": pa.array(captions, pa.string()), "caption_source": pa.array(sources, pa.string())}
        table, sink, start = pa.table(columns), pa.BufferOutputStream(), 0
        with pq.ParquetWriter(sink, table.schema) as writer:
            for size in sizes:
                writer.write_table(table.slice(start, size), row_group_size=size)
                start += size
        if self.out.create(_captions(chunk), sink.getvalue().to_pybytes()):
            self.out.write(f"{CAPTIONS}/part-{chunk:05d}.json", json.dumps({"seconds": seconds}).encode())

    def caption_seconds(self) -> float:
        """Return how long the captions took to write, of all runs together. Raises EnvironmentFault for a damaged note."""
        seconds = 0.0
        for name in self.out.list(CAPTIONS):
            if name.endswith(".json"):
                try:
                    seconds += float(json.loads(self.out.read(name))["seconds"])
                except (ValueError, TypeError, KeyError):
                    raise EnvironmentFault(
                        f"{self.out.path(name)} is damaged. Delete it and run the same command again: it only says how long "
                        "captions took."
                    ) from None
        return seconds

    def partition(self, partition: int) -> dict[str, np.ndarray]:
        """Return the samples of `partition` as the columns that stages take, attempt 0, nothing rejected."""
        tables = self.sample_table(partition), self.identity_table(partition), self.captions(partition)
        return columns_of(*tables, partition)


def columns_of(samples: pa.Table, people: pa.Table, captions: pa.Table, partition: int) -> dict[str, np.ndarray]:
    """Return samples as the columns that stages take, attempt 0, nothing rejected.

    The tables are those that `Plan` keeps of a partition: `sample_table`, `identity_table` and `captions`.
    """
    embeddings = np.asarray(people["embedding"].combine_chunks().flatten(), np.float32).reshape(len(people), -1)
    order = {name: row for row, name in enumerate(people["identity_id"].to_pylist())}
    rows = np.array([order[name] for name in samples["identity_id"].to_pylist()])
    return {
        **{name: _numpy(samples[name]) for name in samples.column_names},
        **{name: _numpy(captions[name]) for name in captions.column_names},
        "embedding": embeddings[rows],
        "partition": np.full(len(rows), partition, np.int32),
        "attempt": np.zeros(len(rows), np.int32),
        "noise_id": _strings([noise_id(name, 0) for name in samples["sample_id"].to_pylist()]),
        "reject": _strings([""] * len(rows)),
    }


def write_plan(job: GenerateJob, bundle: Bundle, out: Storage) -> Plan:
    """Return the plan that lies in `out`, written now if there is none, and extended if the job asks for more.

    Raises:
        UserError: `out` holds something else (what differs is named), people that are planned have changed, or fewer are
            asked for than are planned.
    """
    chain = chain_for(job, bundle)
    recipe = recipe_for(job, bundle, chain)
    claim(out, recipe, bundle, job.model_dump(mode="json"))
    pieces = read_pieces(out)
    people = people_of(job.identities, bundle, job.seed, job.parts)
    _check_unchanged(pieces, job, people, out)
    return Plan(out, job, bundle, recipe, chain, _extended(pieces, job, recipe, people, out))


def read_plan(out: Storage) -> Plan:
    """Return the plan in `out`, with the recipe that it was made from.

    Raises:
        UserError: there is none, or it is another job's or another version's.
    """
    run = read_run(out)
    if run["job"]["kind"] != "generate":
        raise UserError(f"{out.uri} is the output of `thermapair {run['job']['kind']}`, not of generate.")
    recipe, bundle = read_recipe(out)
    job, chain = GenerateJob.model_validate(run["job"]), chain_of(recipe, bundle, BRINGS)
    pieces = read_pieces(out)
    if not pieces.found:
        raise UserError(f"{out.uri} has no whole plan yet: the command that began it was stopped. Run it again.")
    return Plan(out, job, bundle, recipe, chain, pieces)


def identities_per_partition(job: GenerateJob, bundle: Bundle, chain: ChainSpec) -> int:
    """Return how many whole people a partition holds.

    As many as `partition_samples` and `RAW_BYTES` of columns, attempts included, allow, at least one, and if possible so
    that the samples fill the first stage's batches.
    """
    each = job.views.per_identity * job.views.draws
    count = max(1, min(job.partition_samples // each, RAW_BYTES // (sample_bytes(job, bundle, chain) * each)))
    batch = chain.links[0].part.batch
    full = batch // gcd(batch, each)
    return count // full * full or count


def sample_bytes(job: GenerateJob, bundle: Bundle, chain: ChainSpec) -> int:
    """Return the bytes of one sample's columns in a block, uncompressed, its failed attempts among them."""
    sizes, layers, total = {"S": bundle.size, "stages": len(chain.links)}, len(job.layers), 0
    for name in (*chain.given, *chain.tracked):
        column = COLUMNS[name]
        if column.dtype not in ("text", "bytes"):
            values = prod(sizes[side] if isinstance(side, str) else side for side in column.shape)
            total += np.dtype(column.dtype).itemsize * values * (layers if column.per == "layer" else 1)
    return total * job.gates.attempts


def _check_unchanged(pieces: Pieces, job: GenerateJob, people: People, out: Storage) -> None:
    """Raise a UserError where a person who is planned is not the one that is asked for now.

    A piece's digest says that nobody has changed without a look at anybody. Where it differs, what is planned decides: a
    file may have been written anew, or the piece be an earlier version's, with the same people.
    """
    if len(people) < pieces.items:
        raise UserError(
            f"{out.uri} is planned for {pieces.items} people, and {len(people)} are asked for: a run can grow, not shrink. "
            "Choose another --out for fewer."
        )
    for piece in pieces.found:
        if people.digest(piece.start, piece.stop) == piece.digest:
            continue
        changed = _changed(pieces, piece, job, itertools.chain.from_iterable(people.blocks(piece.start, piece.stop)))
        if changed is not None:
            raise UserError(
                f"{out.uri}: person {changed!r}, who is planned, has changed in the source (another place, embedding or "
                "words). Choose another --out, or put the people back as they were and new ones after them."
            )


def _changed(pieces: Pieces, piece: Piece, job: GenerateJob, now: Iterator[Identity]) -> str | None:
    """Return the first person of a piece in whose place another stands now, or whose embedding or words are others."""
    told = ("sample_id", "attributes", "attributes_source")
    for partition in range(piece.first, piece.first + piece.partitions):
        people, rows = pieces.table(partition, IDENTITIES), pieces.table(partition)
        planned = set(zip(*(rows[name].to_pylist() for name in told)))
        samples = {sample for sample, _, _ in planned}
        embeddings = np.asarray(people["embedding"].combine_chunks().flatten()).reshape(len(people), -1)
        for name, embedding, person in zip(people["identity_id"].to_pylist(), embeddings, now):
            own = {tuple(row[key] for key in told) for row in samples_of(job, person) if row["sample_id"] in samples}
            if person.id != name or abs(embedding - person.embedding).max() > SAME or not own <= planned:
                return str(name)
    return None


def _extended(pieces: Pieces, job: GenerateJob, recipe: Recipe, people: People, out: Storage) -> Pieces:
    """Return the pieces with further ones where the job asks for samples that are not planned yet.

    A piece holds some `PIECE_SAMPLES` at most. Of a run that is stopped between two, the same ones follow.
    """
    each = job.views.per_identity * job.views.draws
    # From where to where.
    wanted, planned = min(len(people) * each, job.limit or len(people) * each), pieces.samples
    if wanted < planned:
        raise UserError(
            f"{out.uri} is planned for {planned} samples, and {wanted} are asked for: a run can grow, not shrink. Choose "
            "another --out for fewer."
        )
    if wanted == planned:
        return pieces
    extent = {"name": job.name, "count": job.identities.count, "limit": job.limit, "stop": job.stop.model_dump()}
    most = max(1, PIECE_SAMPLES // (each * recipe.partition)) * recipe.partition
    first, end = planned // each, -(-wanted // each)
    source, words = itertools.chain.from_iterable(people.blocks(first, end)), Vocabulary(job.views.attributes)
    # Piece after piece, all off one stream of people, none of whom is held longer than their partition.
    for start in range(first, end, most):
        stop = min(start + most, end)
        groups, same = itertools.tee(_groups(source, start, stop, recipe.partition))
        pieces = pieces.extended(
            {
                IDENTITIES: (table_of(group) for _, group in groups),
                # Those samples of a partition's people that lie between what is planned and what is wanted.
                SAMPLES: (_between(sample_rows(job, group, words), at * each, planned, wanted) for at, group in same),
            },
            start=start,
            stop=stop,
            digest=people.digest(start, stop),
            chunk_samples=CHUNK_SAMPLES,
            extent=extent,
        )
    return pieces


def _groups(people: Iterator[Identity], start: int, stop: int, size: int) -> Iterator[tuple[int, list[Identity]]]:
    """Yield (number of the first, people) of the partitions of people [start, stop), taken off `people`."""
    for first in range(start, stop, size):
        yield first, list(itertools.islice(people, min(size, stop - first)))


def _between(rows: pa.Table, first: int, start: int, stop: int) -> pa.Table:
    """Return those of `rows`, of which the first has number `first`, whose numbers lie in [start, stop)."""
    return rows.slice(max(0, start - first), stop - max(start, first))


SAMPLE_SCHEMA = pa.schema(
    {
        "sample_id": pa.string(),
        "identity_id": pa.string(),
        "view": pa.int32(),
        "draw": pa.int32(),
        "seed": pa.int64(),
        "attributes": pa.string(),
        "attributes_source": pa.string(),
    }
)


def sample_rows(job: GenerateJob, people: Sequence[Identity], vocabulary: Vocabulary) -> pa.Table:
    """Return the samples of some people as rows of `SAMPLE_SCHEMA`. vocabulary: of the job's words."""
    columns: dict[str, list[Any]] = {name: [] for name in SAMPLE_SCHEMA.names}
    draws = range(job.views.draws)
    # A row for every view and draw, those of a person together.
    places = [(view, draw) for view in range(job.views.per_identity) for draw in draws]
    for person, said in zip(people, draw_words(job.seed, people, job.views.per_identity, vocabulary)):
        sources = _sources(tuple(said[0]), tuple(person.given), tuple(person.estimated))
        columns["sample_id"] += [sample_id(job.seed, person.id, view, draw) for view, draw in places]
        columns["seed"] += [seed_of(job.seed, person.id, view, draw) for view, draw in places]
        columns["attributes"] += [text for words in said for text in [json.dumps(words)] * len(draws)]
        columns["attributes_source"] += [sources] * len(places)
        columns["identity_id"] += [person.id] * len(places)
    columns["view"], columns["draw"] = map(list, zip(*places * len(people)))
    return pa.table(columns, schema=SAMPLE_SCHEMA)


@lru_cache(64)
def _sources(said: tuple[str, ...], given: tuple[str, ...], estimated: tuple[str, ...]) -> str:
    """Return (JSON) where the word of each attribute comes from: given with the person, estimated, asked for by the job."""
    where = {name: "given" if name in given else "estimated" if name in estimated else "asked" for name in said}
    return json.dumps({name: where.get(name, "none") for name in ATTRIBUTES})


def samples_of(job: GenerateJob, person: Identity) -> list[dict[str, Any]]:
    """Return the samples of one person as rows of `SAMPLE_SCHEMA`."""
    return list(sample_rows(job, [person], Vocabulary(job.views.attributes)).to_pylist())


def _captions(chunk: int) -> str:
    return f"{CAPTIONS}/part-{chunk:05d}.parquet"


def _strings(values: list[str]) -> np.ndarray:
    return np.array(values, dtype=object)


def _numpy(column: pa.ChunkedArray) -> np.ndarray:
    if pa.types.is_string(column.type):
        return _strings(column.to_pylist())
    return column.to_numpy()
