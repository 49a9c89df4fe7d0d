"""The people of a job: embeddings from a Parquet file, or sampled from the distribution that a bundle's recogniser showed."""

import hashlib
import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from models.attributes import ATTRIBUTES
from models.errors import EnvironmentFault, UserError
from models.seeds import generator, seed_of
from models.stages import light, package_of, parsed
from models.weights.bundle import Bundle, fetch
from pipelines.config.job import Identities
from pipelines.storage import Storage, fault, remote

SIZE = 512
HUGE = 1e15
"""The squares of larger values overflow in float32, and with them the length of the embedding."""
RECOGNISER = "recogniser"
"""Metadata of a Parquet file by `embed`: which recogniser the embeddings belong to (`recogniser_digest`)."""
BLOCK = 256
PATIENCE = 400
"""Candidates in a row that may be too near to somebody before sampling gives up."""


@dataclass(frozen=True)
class Identity:
    """One person: unit `embedding` float32 [512] and what is known of them in words, by where it is known from."""

    id: str
    embedding: np.ndarray
    given: dict[str, str] = field(default_factory=dict)
    estimated: dict[str, str] = field(default_factory=dict)
    sampled: bool = False
    """Drawn from a distribution: nobody who exists, of whom further words may be drawn, too."""

    @property
    def words(self) -> dict[str, str]:
        """What is known, given words first."""
        return self.estimated | self.given

    def source_of(self, name: str) -> str:
        """Return where the word of an attribute comes from: given with the person, estimated, else asked for by the job."""
        return "given" if name in self.given else "estimated" if name in self.estimated else "asked"


def identities(wanted: Identities, bundle: Bundle, seed: int, parts: Mapping[str, str] | None = None) -> list[Identity]:
    """Return the people of a job, in a stable order: asking for more keeps the first. parts: which one is the recogniser.

    Raises:
        UserError: an embedding of the wrong size, with NaN or of zero norm, a duplicate id, or too few of them.
    """
    if wanted.source == "reference":
        reference = Reference.of(bundle, parts)
        found = sampled(reference, wanted.count or 0, wanted.minimum_angle, seed)
        return [Identity(name, embedding, {}, reference.words(embedding), True) for name, embedding in found]
    people = from_parquet(wanted.source, wanted.count, bundle, parts)
    known = Reference.find(bundle, parts)
    if known is None:
        return people
    return [Identity(p.id, p.embedding, p.given, known.words(p.embedding)) for p in people]


class Reference:
    """The distribution of a recogniser's embeddings: a PCA, and linear probes that read words off an embedding."""

    def __init__(self, tensors: dict[str, np.ndarray]) -> None:
        self.mean, self.components, self.scales = (tensors[key] for key in ("mean", "components", "scales"))
        self.probes = {
            name: (tensors[f"probe.{name}.weight"], tensors[f"probe.{name}.bias"])
            for name in ATTRIBUTES
            if f"probe.{name}.weight" in tensors
        }

    @classmethod
    def find(cls, bundle: Bundle, parts: Mapping[str, str] | None = None) -> "Reference | None":
        """Return the reference distribution of `bundle`'s recogniser, None where it has none."""
        part = bundle.part("faces", parts)
        kind = light(package_of("faces", part.kind, f"bundle {bundle.name}"))
        options = parsed(kind.Options, part.options, "faces.options")
        tensors = kind.reference(options, fetch(part, bundle.folder))  # type: ignore[attr-defined]
        try:
            return None if tensors is None else cls(tensors)
        except KeyError as error:
            raise EnvironmentFault(
                f"the reference distribution of bundle {bundle.name} has no tensor {error}."
            ) from None

    @classmethod
    def of(cls, bundle: Bundle, parts: Mapping[str, str] | None = None) -> "Reference":
        """Return the reference distribution of `bundle`'s recogniser. Raises a UserError where it has none."""
        found = cls.find(bundle, parts)
        if found is None:
            raise UserError(
                f"the recogniser of bundle {bundle.name} has no reference distribution to sample people from. Give people: "
                "thermapair embed --images DIR --out people.parquet, then --set identities.source=people.parquet"
            )
        return found

    def sample(self, seed: int, index: int) -> np.ndarray:
        """Return candidate `index`: a unit embedding float32 [512]."""
        import torch

        z = torch.randn(len(self.scales), generator=generator(seed, "identity", index)).numpy()
        return unit(self.mean + (z * self.scales) @ self.components)

    def words(self, embedding: np.ndarray) -> dict[str, str]:
        """Return the identity words that the probes read off a unit embedding."""
        return {
            name: ATTRIBUTES[name][2][int(np.argmax(weight @ embedding + bias))]
            for name, (weight, bias) in self.probes.items()
        }


def sampled(reference: Reference, count: int, minimum_angle: float, seed: int) -> list[tuple[str, np.ndarray]]:
    """Return `count` (id, embedding) with at least `minimum_angle` degrees between any two, by rejection in order.

    Candidates are compared with those before them in blocks of fixed places, so that a larger count changes nothing.
    """
    limit = float(np.cos(np.radians(minimum_angle)))
    accepted = np.zeros((count, SIZE), np.float32)
    names: list[str] = []
    refused = 0
    for first in itertools.count(0, BLOCK):
        known = len(names)
        block = np.stack([reference.sample(seed, index) for index in range(first, first + BLOCK)])
        nearest = (block @ accepted[:known].T).max(axis=1, initial=-1)
        for place, candidate in enumerate(block):
            new = accepted[known : len(names)] @ candidate
            if max(float(nearest[place]), float(new.max(initial=-1))) > limit:
                refused += 1
                if refused > PATIENCE:
                    raise UserError(
                        f"only {len(names)} of {count} identities are {minimum_angle:g} degrees apart in this bundle's "
                        f"reference distribution ({PATIENCE} candidates in a row were too near). Lower "
                        "identities.minimum_angle or identities.count."
                    )
                continue
            accepted[len(names)], refused = candidate, 0
            names.append(identity_id(seed, first + place))
            if len(names) == count:
                return list(zip(names, accepted))
    raise AssertionError


def identity_id(seed: int, index: int) -> str:
    """Return the id of sampled candidate `index`."""
    return f"{seed_of('identity', seed, index):016x}"[:12]


def from_parquet(
    uri: str, count: int | None, bundle: Bundle | None = None, parts: Mapping[str, str] | None = None
) -> list[Identity]:
    """Read `identity_id`, `embedding` [512] and, where there is one, `attributes` (given words: JSON, a struct or a map).

    bundle: whose recogniser a file of `embed` must come from.
    Rows with a `reason` column that is not empty (pictures in which `embed` found no face or several) are left out.
    """
    table = _read(uri)
    for column in ("identity_id", "embedding"):
        if column not in table.column_names:
            raise UserError(f"{uri} has no column {column!r}; it has {', '.join(table.column_names)}.")
    if bundle:
        _same_recogniser(table, uri, bundle, parts)
    people: dict[str, Identity] = {}
    for row, (name, values, given) in enumerate(_rows(table)):
        if not name:
            raise UserError(f"{uri}: row {row} has no identity_id.")
        if name in people:
            raise UserError(
                f"{uri}: identity {name!r} stands twice (again in row {row}); give each person one embedding."
            )
        people[name] = Identity(name, checked(values, f"{uri}: identity {name!r} (row {row})"), given)
        if len(people) == count:
            break
    if not people:
        raise UserError(f"{uri} holds no identity.")
    if count is not None and len(people) < count:
        raise UserError(f"{uri} holds {len(people)} identities, {count} were asked for; lower identities.count.")
    return list(people.values())


def unit(values: np.ndarray) -> np.ndarray:
    """Return `values` at length one, float32."""
    return (values / np.linalg.norm(values)).astype(np.float32)


def table_of(people: Sequence[Identity]) -> pa.Table:
    """Return people as an Arrow table: identity_id, embedding."""
    flat = pa.array(np.concatenate([person.embedding for person in people]), pa.float32())
    names = pa.array([person.id for person in people], pa.string())
    return pa.table({"identity_id": names, "embedding": pa.FixedSizeListArray.from_arrays(flat, SIZE)})


def _read(uri: str) -> pa.Table:
    storage = Storage(uri)
    try:
        return pq.read_table(storage.path(), filesystem=storage.arrow)
    except FileNotFoundError:
        raise UserError(f"{uri} does not exist (identities.source).") from None
    except (pa.ArrowInvalid, OSError) as error:
        if remote(error):
            raise fault(error, uri, "read") from error
        raise UserError(f"{uri} is no readable Parquet file: {error}") from None


def _same_recogniser(table: pa.Table, uri: str, bundle: Bundle, parts: Mapping[str, str] | None) -> None:
    """Raise a UserError if `table` says that its embeddings come from another recogniser than `bundle`'s."""
    facts = table.schema.metadata or {}
    made = facts.get(RECOGNISER.encode())
    if made is None:
        return
    if made.decode() != recogniser_of(bundle, parts):
        theirs = facts.get(b"bundle", b"?").decode()
        raise UserError(
            f"{uri}: its embeddings were made with bundle {theirs}, and the recogniser of {bundle.name} is "
            f"another: faces would come out as strangers. Embed the pictures again with --bundle {bundle.name}, or "
            "generate with the bundle that they were embedded with."
        )


def recogniser_of(bundle: Bundle, parts: Mapping[str, str] | None = None) -> str:
    """Return the space that the embeddings of `bundle`'s recogniser lie in."""
    part = bundle.part("faces", parts)
    kind = light(package_of("faces", part.kind, f"bundle {bundle.name}"))
    return str(kind.recogniser(fetch(part, bundle.folder)))  # type: ignore[attr-defined]


def _rows(table: pa.Table) -> Iterator[tuple[str, list[float] | None, dict[str, str]]]:
    names, embeddings = table["identity_id"].to_pylist(), table["embedding"]
    given = table["attributes"].to_pylist() if "attributes" in table.column_names else [None] * len(names)
    reasons = table["reason"].to_pylist() if "reason" in table.column_names else [None] * len(names)
    for name, values, words, reason in zip(names, embeddings, given, reasons):
        if not reason:
            yield "" if name is None else str(name), values.as_py(), _given(words, str(name))


def _given(value: Any, name: str) -> dict[str, str]:
    """Return the words of `value`: JSON text, a struct as a dict or a map as pairs; what is null is not given."""
    try:
        found = json.loads(value) if isinstance(value, str) and value else dict(value or {})
        words = {key: word for key, word in found.items() if word is not None}
        wrong = {key: word for key, word in words.items() if word not in ATTRIBUTES.get(key, ("", "", ()))[2]}
    except (ValueError, AttributeError, TypeError):
        raise UserError(f"identity {name!r}: its attributes are not a JSON object (or a struct) of words.") from None
    if wrong:
        raise UserError(f"identity {name!r}: no such attribute or word: {wrong}.")
    return {key: word for key, word in words.items() if ATTRIBUTES[key][0] == "identity"}


def checked(values: Sequence[float] | None, where: str) -> np.ndarray:
    """Return the embedding `values` at length one, float32 [512]; a UserError that begins with `where` if it is none."""
    try:
        embedding = np.asarray(values if values is not None else [], np.float32)
    except (ValueError, TypeError):
        raise UserError(f"{where}: its embedding does not hold {SIZE} numbers.") from None
    if embedding.shape != (SIZE,):
        raise UserError(f"{where}: its embedding has {embedding.size} values instead of {SIZE}.")
    if not np.isfinite(embedding).all():
        raise UserError(f"{where}: its embedding has values that are not finite.")
    if (largest := np.abs(embedding).max()) > HUGE:
        embedding = embedding / largest
    if np.linalg.norm(embedding) < 1e-6:
        raise UserError(f"{where}: its embedding has length zero.")
    return unit(embedding)


def digest(people: Sequence[Identity]) -> str:
    """Return a digest of whose faces these are, and of the words that came with them."""
    content = hashlib.sha256()
    for person in people:
        content.update(person.id.encode() + person.embedding.tobytes())
        content.update(json.dumps([person.given, person.estimated], sort_keys=True).encode())
    return content.hexdigest()[:16]
