"""People from a Parquet file or a folder of them, read a block at a time: embeddings, and words where there are any."""

import hashlib
import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds

from models.attributes import ATTRIBUTES
from models.config import parse_json
from models.errors import UserError
from models.visible.smirk import check_smirk
from models.weights.bundle import Bundle
from pipelines.config.generate import TERMS
from pipelines.plan.people.identities import HUGE, RECOGNISER, SIZE, Identity, Reference, check_embedding, recogniser_of
from pipelines.storage.tables import explain_damage, open_table, require_columns
from pipelines.storage.uri import Storage

log = logging.getLogger(__name__)

BLOCK = 1024
"""Rows that are read at a time."""
STRANGE = 0.5
"""Share of an embedding's distance from the mean that may lie outside of the reference's components: faces of the recogniser
have a tenth, those of any other nine tenths."""
COLUMNS = ("identity_id", "embedding", "attributes", "reason")
FURTHER = ("reference", "crop", "smirk")
"""Columns that are read where a stage of the job looks at them: a picture as bytes (or as `datasets` writes one), 55 numbers."""
SPACE = "space"
"""Column of a file by `embed`: the recogniser's digest of each embedding, which a copy keeps where it loses the metadata."""
DIGEST = 16
"""Bytes that stand for a person."""


class GivenPeople:
    """The people of a Parquet file (or folder of files): `identity_id`, `embedding` [512] and, where there is one,
    `attributes` (given words: JSON, a struct or a map).

    count: the first so many, all by default. bundle: whose recogniser a file of `embed` must come from. reference: reads
    further words off the embeddings.
    Rows with a `reason` column that is not empty (pictures in which `embed` found no face or several) are left out.

    Everything is read and checked once when this is made, and `DIGEST` bytes kept of each person; `blocks` reads again.

    Raises:
        UserError: no such file, an embedding of the wrong size, with NaN or of zero norm, a duplicate id, or too few.
    """

    def __init__(
        self,
        uri: str,
        count: int | None = None,
        bundle: Bundle | None = None,
        parts: Mapping[str, str] | None = None,
        reference: Reference | None = None,
        looked_at: Sequence[str] = (),
    ) -> None:
        self.uri, self.count, self.reference = uri, count, reference
        self.storage = Storage(uri)
        # The files, which must say who and by what embedding.
        self.files, schema = self._files()
        for column in ("identity_id", "embedding"):
            if column not in schema.names:
                raise UserError(f"{uri} has no column {column!r}; it has {', '.join(schema.names)}.")
        if not self.files:
            raise UserError(f"{uri} holds no Parquet file (identities.source).")
        # What else they hold that a stage looks at; what no stage does is said.
        self.further = tuple(name for name in looked_at if TERMS.get(name, name) in schema.names)
        further = (TERMS.get(name, name) for name in self.further)
        self.columns = [*(name for name in COLUMNS if name in schema.names), *further]
        idle = [name for name in FURTHER if name in schema.names and name not in looked_at]
        if idle and bundle is not None:
            log.warning("%s: bundle %s has no adapter that looks at %s.", uri, bundle.name, ", ".join(idle))
        # Embeddings of another recogniser are refused where something names it, and doubted where nothing does.
        told = bundle is not None and self._check_space(bundle, parts)
        self._digests = self._check_people()
        if reference and not told:
            self._compare(reference)

    def __len__(self) -> int:
        return len(self._digests) // DIGEST

    def digest(self, start: int, stop: int) -> str:
        """Return a digest of what was read of people [start, stop): ids, embeddings as they stand there, given words."""
        return hashlib.sha256(self._digests[start * DIGEST : stop * DIGEST]).hexdigest()[:16]

    def blocks(self, start: int, stop: int) -> Iterator[list[Identity]]:
        """Yield people [start, stop) in order."""
        for rows in self._rows():
            # The part of this block that lies in [start, stop).
            first, last = max(0, start - rows.first), stop - rows.first
            yield [
                Identity(
                    name,
                    embedding,
                    given,
                    self.reference.words(embedding) if self.reference else {},
                    reference=picture,
                    crop=crop,
                    smirk=numbers,
                    **terms,
                )
                for name, embedding, given, picture, crop, numbers, terms in list(
                    zip(rows.names, rows.embeddings, rows.given, rows.pictures, rows.crops, rows.numbers, rows.terms)
                )[first:last]
            ]
            if rows.first + len(rows.names) >= stop:
                return

    def _files(self) -> tuple[list[str], pa.Schema]:
        """Return the files and what columns they have. Raises a UserError where there is none, or one cannot be read."""
        try:
            with explain_damage(self.uri):
                found = ds.dataset(self.storage.path(), filesystem=self.storage.arrow, format="parquet")
                return [file.removeprefix(self.storage.path()).lstrip("/") for file in found.files], found.schema
        except FileNotFoundError:
            raise UserError(f"{self.uri} does not exist (identities.source).") from None

    def _check_space(self, bundle: Bundle, parts: Mapping[str, str] | None) -> bool:
        """Return whether every file says which recogniser its embeddings come from: the column `space`, or its metadata.

        Raises a UserError, which names the file, for another than `bundle`'s.
        """
        own, told = "", True
        for name in self.files:
            with open_table(self.storage, name) as file:
                facts = file.schema_arrow.metadata or {}
                found = {facts[RECOGNISER.encode()].decode()} if RECOGNISER.encode() in facts else set[str]()
                if SPACE in file.schema_arrow.names:
                    found |= {str(one) for one in pc.unique(file.read([SPACE])[SPACE]).to_pylist() if one}
            told &= bool(found)
            own = own or (recogniser_of(bundle, parts) if found else "")
            if found - {own}:
                theirs = facts.get(b"bundle", b"").decode()
                where = self.uri if len(self.files) == 1 else f"{self.uri}: {name}"
                raise UserError(
                    f"{where}: its embeddings were made with {f'bundle {theirs}' if theirs else 'another recogniser'}, and the "
                    f"recogniser of {bundle.name} is another: faces would come out as strangers. Embed the pictures again with "
                    f"--bundle {bundle.name}, or generate with the bundle that they were embedded with."
                )
        return told

    def _compare(self, reference: Reference) -> None:
        """Say so where the embeddings are spread as no embeddings of the bundle's recogniser are: nothing else tells them."""
        rows = next(iter(self._rows()), None)
        strange = 0.0 if rows is None else float(np.median(reference.strangeness(rows.embeddings)))
        if strange > STRANGE:
            log.warning(
                "WARNING: %s: nothing says which recogniser its embeddings come from, and %.0f %% of them lies where faces of "
                "this bundle's recogniser never do: they are probably another's, and faces would come out as strangers. Embed "
                "the pictures with this bundle (thermapair embed); pandas drops the metadata that names a recogniser.",
                self.uri,
                100 * strange,
            )

    def _check_people(self) -> bytes:
        """Return `DIGEST` bytes of each person. Raises a UserError where something is wrong with one, or with the number."""
        # Each person has a name of their own, and a digest that stands for them.
        names, digests = set[str](), bytearray()
        for rows in self._rows():
            own = zip(rows.names, rows.raw, rows.given, rows.pictures, rows.crops, rows.numbers, rows.terms)
            for row, (name, raw, given, picture, crop, numbers, terms) in enumerate(own, rows.first):
                if not name:
                    raise UserError(f"{self.uri}: row {row} has no identity_id.")
                if name in names:
                    raise UserError(
                        f"{self.uri}: identity {name!r} stands twice (again in row {row}); give each person one embedding."
                    )
                names.add(name)
                words = json.dumps(given, sort_keys=True) if given else ""
                content = raw.tobytes() + f"{name}\0{words}".encode()
                content += (
                    picture + (b"\0crop" + crop if crop else b"") + (b"" if numbers is None else numbers.tobytes())
                )
                content += json.dumps(terms, sort_keys=True).encode() if any(terms.values()) else b""
                digests += hashlib.blake2b(content, digest_size=DIGEST).digest()
        # There are as many as are wanted.
        if not names:
            raise UserError(f"{self.uri} holds no identity.")
        if self.count is not None and len(names) < self.count:
            raise UserError(
                f"{self.uri} holds {len(names)} identities, {self.count} were asked for; lower identities.count."
            )
        return bytes(digests)

    def _rows(self) -> Iterator["FileRows"]:
        """Yield the rows that are people, up to `count` of them, checked but for their names."""
        first = 0
        for name in self.files:
            with open_table(self.storage, name) as file:
                require_columns(file, self.columns, self.storage.path(name))
                for batch in file.iter_batches(BLOCK, columns=self.columns):
                    found = self._take_people(batch, first)
                    if found.names:
                        yield found
                    first += len(found.names)
                    if first == self.count:
                        return

    def _take_people(self, batch: pa.RecordBatch, first: int) -> "FileRows":
        """Return the rows of a batch that are people, no more than are still wanted."""
        # Rows with a reason against them are no people.
        if "reason" in self.columns:
            reason = batch.column("reason")
            batch = batch.filter(pc.or_(pc.is_null(reason), pc.equal(reason.cast(pa.string()), "")))
        if self.count is not None:
            batch = batch.slice(0, self.count - first)
        names = ["" if name is None else str(name) for name in batch.column("identity_id").to_pylist()]
        # The words that are given with each.
        texts = batch.column("attributes").to_pylist() if "attributes" in self.columns else [None] * len(names)
        given = [_parse_words(words, name) for words, name in zip(texts, names)]
        # What else they come with.
        where = [f"{self.uri}: identity {name!r} (row {row})" for row, name in enumerate(names, first)]
        read = {
            name: batch.column(name).to_pylist() if name in self.further else [None] * len(names) for name in FURTHER
        }
        pictures, crops = (
            [_picture(one, place, name) for one, place in zip(read[name], where)] for name in ("reference", "crop")
        )
        numbers = [None if one is None else check_smirk(one, place) for one, place in zip(read["smirk"], where)]
        said = {name: batch.column(TERMS[name]).to_pylist() for name in TERMS if name in self.further}
        terms = [{name: str(values[row] or "") for name, values in said.items()} for row in range(len(names))]
        # Their embeddings: all at once where nothing is wrong with any.
        raw = _read_vectors(batch.column("embedding"))
        if raw is not None and (abs(raw) <= HUGE).all():  # nor is NaN
            lengths = np.array([np.sqrt(row.dot(row)) for row in raw], np.float32)
            if (lengths >= 1e-6).all():
                return FileRows(first, names, raw, raw / lengths[:, None], given, pictures, crops, numbers, terms)
        # Else one by one, to say which is wrong.
        values = batch.column("embedding").to_pylist()
        embeddings = np.array([check_embedding(one, place) for one, place in zip(values, where)]).reshape(-1, SIZE)
        raw = np.array(values, np.float32).reshape(-1, SIZE)
        return FileRows(first, names, raw, embeddings, given, pictures, crops, numbers, terms)


class FileRows(NamedTuple):
    """Rows of a file from person `first` on: names, embeddings float32 [N, 512] as they stand there and at length one."""

    first: int
    names: list[str]
    raw: np.ndarray
    embeddings: np.ndarray
    given: list[dict[str, str]]
    pictures: list[bytes]
    crops: list[bytes]
    numbers: list[np.ndarray | None]
    terms: list[dict[str, str]]


def _picture(value: Any, where: str, column: str) -> bytes:
    """Return the encoded picture in a cell of `column`, empty for none. Raises a UserError for another cell."""
    data = value.get("bytes") if isinstance(value, dict) else value
    if data is None or (isinstance(data, bytes) and not data):
        return b""
    if not isinstance(data, bytes):
        raise UserError(f"{where}: its {column} is no encoded picture: give the bytes of a PNG or JPEG.")
    return data


def _read_vectors(column: pa.Array) -> np.ndarray | None:
    """Return float32 [N, 512] of a column of lists of 512 numbers; None where it, or a value in it, is something else."""
    # The column must hold lists, as many numbers in all as they would have, and none empty.
    kind = column.type
    if not (pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)):
        return None
    values = column.flatten()
    whole = not column.null_count and not values.null_count and len(values) == len(column) * SIZE
    if not whole or not (pa.types.is_floating(values.type) or pa.types.is_integer(values.type)):
        return None
    # Then no list is shorter than another either.
    if len(column) and pc.min(pc.list_value_length(column)).as_py() != SIZE:
        return None
    return np.asarray(values.to_numpy(zero_copy_only=False), np.float32).reshape(-1, SIZE)


def _parse_words(value: Any, name: str) -> dict[str, str]:
    """Return the words of `value`: JSON text, a struct as a dict or a map as pairs; what is null is not given."""
    try:
        found = parse_json(value) if isinstance(value, str) and value else dict(value or {})
        words = {key: word for key, word in found.items() if word is not None}
        wrong = {key: word for key, word in words.items() if word not in ATTRIBUTES.get(key, ("", "", ()))[2]}
    except (ValueError, AttributeError, TypeError):
        raise UserError(f"identity {name!r}: its attributes are not a JSON object (or a struct) of words.") from None
    if wrong:
        raise UserError(f"identity {name!r}: no such attribute or word: {wrong}.")
    return {key: word for key, word in words.items() if ATTRIBUTES[key][0] == "identity"}
