"""How the plan of a generate job is written, and extended when the job asks for more people or samples.

People come in a stable order and none is held longer than their partition. All views of a person share a partition, unless
a limit cut them.
"""

import itertools
from collections.abc import Iterator

import numpy as np
import pyarrow as pa

from models.errors import UserError
from models.weights.bundle import Bundle
from pipelines.config.captions import LOOK
from pipelines.config.generate import OF_PEOPLE, TERMS, chain_for, recipe_for
from pipelines.config.job import GenerateJob
from pipelines.config.recipe import Recipe
from pipelines.plan.attributes import Vocabulary
from pipelines.plan.claim import claim
from pipelines.plan.generate import IDENTITIES, REFERENCE, GeneratePlan
from pipelines.plan.people.identities import Identity, people_table
from pipelines.plan.people.source import People, people_of
from pipelines.plan.pieces import SAMPLES, Piece, Pieces, read_pieces
from pipelines.plan.samples import sample_rows, samples_of
from pipelines.storage.uri import Storage

PIECE_SAMPLES = 2**18
"""Samples of a piece, at most."""
SAME = 1e-6
"""Two processors may differ so much in a number of a unit embedding."""


def write_generate_plan(job: GenerateJob, bundle: Bundle, out: Storage) -> GeneratePlan:
    """Return the plan that lies in `out`, written now if there is none, and extended if the job asks for more.

    Raises:
        UserError: `out` holds something else (what differs is named), people that are planned have changed, or fewer are
            asked for than are planned.
    """
    # The folder first: nobody is looked at for an output that belongs to another run.
    chain = chain_for(job, bundle)
    recipe = recipe_for(job, bundle, chain)
    claim(out, recipe, bundle, job.model_dump(mode="json"))
    # Then the people: those who are planned must still be who they were.
    pieces = read_pieces(out)
    looks = job.captions.mode == LOOK
    looked_at = [name for name in (*OF_PEOPLE, *TERMS) if name in chain.given or (looks and name == REFERENCE)]
    people = people_of(job.identities, bundle, job.seed, job.parts, looked_at)
    if looks and REFERENCE not in people.further:
        raise UserError(
            f"{job.identities.source} has no column {REFERENCE!r} (a picture of each person, as bytes), which captions.mode look "
            "looks at. Choose another mode."
        )
    _check_unchanged(pieces, job, people, out)
    return GeneratePlan(out, job, bundle, recipe, chain, _extend(pieces, job, recipe, people, out))


def _check_unchanged(pieces: Pieces, job: GenerateJob, people: People, out: Storage) -> None:
    """Raise a UserError where a person who is planned is not the one that is asked for now.

    A piece's digest says that nobody has changed without a look at anybody. Where it differs, what is planned decides: a
    file may have been written anew, or the piece be an earlier version's, with the same people.
    """
    # A run never shrinks.
    if len(people) < pieces.items:
        raise UserError(
            f"{out.uri} is planned for {pieces.items} people, and {len(people)} are asked for: a run can grow, not shrink. "
            "Choose another --out for fewer."
        )
    # Everybody who is planned is who they were.
    for piece in pieces.found:
        if people.digest(piece.start, piece.stop) == piece.digest:
            continue
        changed = _find_changed(
            pieces, piece, job, itertools.chain.from_iterable(people.blocks(piece.start, piece.stop))
        )
        if changed is not None:
            raise UserError(
                f"{out.uri}: person {changed!r}, who is planned, has changed in the source (another place, embedding or "
                "words). Choose another --out, or put the people back as they were and new ones after them."
            )


def _find_changed(pieces: Pieces, piece: Piece, job: GenerateJob, now: Iterator[Identity]) -> str | None:
    """Return the first person of a piece in whose place another stands now, or whose embedding or words are others."""
    names = ("sample_id", "attributes", "attributes_source")
    for partition in range(piece.first, piece.first + piece.partitions):
        # Who and what is planned for the partition; a limit may have cut the samples of the last person.
        people, rows = pieces.table(partition, IDENTITIES), pieces.table(partition)
        planned = set(zip(*(rows[name].to_pylist() for name in names)))
        samples = {sample for sample, _, _ in planned}
        embeddings = np.asarray(people["embedding"].combine_chunks().flatten()).reshape(len(people), -1)
        # The people who stand in the same places now, and what they come with.
        rows_of = people.select([name for name in people.column_names if name in (*OF_PEOPLE, *TERMS)]).to_pylist()
        for name, embedding, further, person in zip(people["identity_id"].to_pylist(), embeddings, rows_of, now):
            own = {tuple(row[key] for key in names) for row in samples_of(job, person) if row["sample_id"] in samples}
            pictures = all((further.get(name) or b"") == getattr(person, name) for name in ("reference", "crop"))
            terms = all((further.get(name) or "") == getattr(person, name) for name in TERMS)
            same = pictures and terms and _same_numbers(further.get("smirk"), person.smirk)
            if person.id != name or abs(embedding - person.embedding).max() > SAME or not own <= planned or not same:
                return str(name)
    return None


def _same_numbers(planned: list[float] | None, now: np.ndarray | None) -> bool:
    """Return whether two expressions are the same, or neither is one."""
    if planned is None or now is None:
        return planned is None and now is None
    return np.array_equal(np.array(planned, np.float32), now)


def _extend(pieces: Pieces, job: GenerateJob, recipe: Recipe, people: People, out: Storage) -> Pieces:
    """Return the pieces with further ones where the job asks for samples that are not planned yet.

    A piece holds some `PIECE_SAMPLES` at most. Of a run that is stopped between two, the same ones follow.
    """
    each = job.views.per_identity * job.views.draws
    # How many samples are wanted and how many are planned.
    wanted, planned = min(len(people) * each, job.limit or len(people) * each), pieces.samples
    if wanted < planned:
        raise UserError(
            f"{out.uri} is planned for {planned} samples, and {wanted} are asked for: a run can grow, not shrink. Choose "
            "another --out for fewer."
        )
    if wanted == planned:
        return pieces
    # How many people a piece may hold: whole partitions.
    extent = {"name": job.name, "count": job.identities.count, "limit": job.limit, "stop": job.stop.model_dump()}
    most = max(1, PIECE_SAMPLES // (each * recipe.partition)) * recipe.partition
    first, end = planned // each, -(-wanted // each)
    # Piece after piece, all off one stream of people, none of whom is held longer than their partition.
    source, words = itertools.chain.from_iterable(people.blocks(first, end)), Vocabulary(job.views.attributes)
    for start in range(first, end, most):
        stop = min(start + most, end)
        groups, same = itertools.tee(_groups(source, start, stop, recipe.partition))
        pieces = pieces.extend(
            {
                IDENTITIES: (people_table(group, people.further) for _, group in groups),
                # Those samples of a partition's people that lie between what is planned and what is wanted.
                SAMPLES: (_cut(sample_rows(job, group, words), at * each, planned, wanted) for at, group in same),
            },
            start=start,
            stop=stop,
            digest=people.digest(start, stop),
            chunk_samples=recipe.chunk,
            extent=extent,
        )
    return pieces


def _groups(people: Iterator[Identity], start: int, stop: int, size: int) -> Iterator[tuple[int, list[Identity]]]:
    """Yield (number of the first, people) of the partitions of people [start, stop), taken off `people`."""
    for first in range(start, stop, size):
        yield first, list(itertools.islice(people, min(size, stop - first)))


def _cut(rows: pa.Table, first: int, start: int, stop: int) -> pa.Table:
    """Return those of `rows`, of which the first has number `first`, whose numbers lie in [start, stop)."""
    return rows.slice(max(0, start - first), stop - max(start, first))
