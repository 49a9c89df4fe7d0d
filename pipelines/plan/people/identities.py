"""A person as an embedding and words, and the distribution of people that a bundle's recogniser showed."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import pyarrow as pa

from models.attributes import ATTRIBUTES
from models.errors import EnvironmentFault, UserError
from models.seeds import seed_of
from models.stages import import_settings, package_of, parse_settings
from models.weights.bundle import Bundle, fetch

SIZE = 512
HUGE = 1e15
"""The squares of larger values overflow in float32, and with them the length of the embedding."""
RECOGNISER = "recogniser"
"""Metadata of a Parquet file by `embed`: which recogniser the embeddings belong to (`recogniser_digest`)."""


@dataclass(frozen=True)
class Identity:
    """One person: unit `embedding` float32 [512] and what is known of them in words, by where it is known from."""

    id: str
    embedding: np.ndarray
    given: dict[str, str] = field(default_factory=dict)
    estimated: dict[str, str] = field(default_factory=dict)
    sampled: bool = False
    """Drawn from a distribution: nobody who exists, of whom further words may be drawn, too."""
    reference: bytes = b""
    """An encoded picture of the person for a reference adapter, empty for none."""
    crop: bytes = b""
    """The encoded crop of the person's face for FaceCLIP, empty for none."""
    picture_licence: str = ""
    """Of the pictures of the person, empty where nothing is said."""
    consent: str = ""
    """What the person agreed to, empty where nothing is said."""
    smirk: np.ndarray | None = None
    """The expression of all views in SMIRK's numbers, float32 [55]; None leaves it to the words."""

    @property
    def words(self) -> dict[str, str]:
        """What is known, given words first."""
        return self.estimated | self.given


class Reference:
    """The distribution of a recogniser's embeddings: a PCA, and linear probes that read words off an embedding."""

    def __init__(self, tensors: dict[str, np.ndarray]) -> None:
        _check_tensors(tensors)
        self.tensors = tensors
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
        kind = import_settings(package_of("faces", part.kind, f"bundle {bundle.name}"))
        options = parse_settings(kind.Options, part.options, "faces.options")
        tensors = kind.reference(options, fetch(part, bundle.folder))  # type: ignore[attr-defined]
        try:
            return None if tensors is None else cls(tensors)
        except ValueError as error:
            raise EnvironmentFault(
                f"the reference distribution of bundle {bundle.name} {error}. Fetch the bundle again, or fit it anew "
                "(thermapair reference)."
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
        return self.embedding(self.numbers(seed, [index])[0])

    def numbers(self, seed: int, indices: Iterable[int]) -> np.ndarray:
        """Return the normal numbers float32 [N, K] that candidates `indices` are made of."""
        import torch

        # A generator's stream per candidate, so that nobody depends on who is drawn beside them.
        generator = torch.Generator()
        seeds = (seed_of(seed, "identity", index) for index in indices)
        drawn = [torch.randn(len(self.scales), generator=generator.manual_seed(one)).numpy() for one in seeds]
        return np.array(drawn, np.float32).reshape(-1, len(self.scales))

    def embedding(self, numbers: np.ndarray) -> np.ndarray:
        """Return the unit embedding float32 [512] that normal numbers [K] stand for."""
        return unit(self.mean + (numbers * self.scales) @ self.components)

    @cached_property
    def digest(self) -> str:
        """16 hex digits that stand for the distribution of people and their words."""
        content = hashlib.sha256()
        for name, tensor in sorted(self.tensors.items()):
            content.update(f"{name} {tensor.dtype} {tensor.shape}".encode() + np.ascontiguousarray(tensor).tobytes())
        return content.hexdigest()[:16]

    def strangeness(self, embeddings: np.ndarray) -> np.ndarray:
        """Return which share of the way from the mean to unit embeddings [N, 512] lies outside of the components, [N]."""
        away = embeddings - self.mean
        inside = away @ self.components.T
        return 1 - (inside**2).sum(axis=1) / np.maximum((away**2).sum(axis=1), 1e-12)

    def words(self, embedding: np.ndarray) -> dict[str, str]:
        """Return the identity words that the probes read off a unit embedding."""
        return {
            name: ATTRIBUTES[name][2][int(np.argmax(weight @ embedding + bias))]
            for name, (weight, bias) in self.probes.items()
        }


def _check_tensors(tensors: Mapping[str, np.ndarray]) -> None:
    """Raise a ValueError that says which tensor of a reference distribution is missing or cannot be what it is called."""
    # The distribution: as many scales as components.
    count = len(tensors["components"]) if tensors.get("components", np.zeros(())).ndim else 0
    shapes: dict[str, tuple[int, ...]] = {"mean": (SIZE,), "components": (count, SIZE), "scales": (count,)}
    # Probes: a row of weights and a bias for each word.
    for name, (_, _, words) in ATTRIBUTES.items():
        if any(key.startswith(f"probe.{name}.") for key in tensors):
            shapes |= {f"probe.{name}.weight": (len(words), SIZE), f"probe.{name}.bias": (len(words),)}
    for key, shape in shapes.items():
        if key not in tensors:
            raise ValueError(f"has no tensor {key!r}")
        if tensors[key].shape != shape:
            raise ValueError(f"has the tensor {key!r} of shape {tensors[key].shape} instead of {shape}")
        if tensors[key].dtype.kind != "f" or not np.isfinite(tensors[key]).all():
            raise ValueError(f"has the tensor {key!r} with values that are no finite numbers")
    if not count:
        raise ValueError("has the tensor 'components' without a single one")


def unit(values: np.ndarray) -> np.ndarray:
    """Return `values` at length one, float32."""
    return (values / np.linalg.norm(values)).astype(np.float32)


def people_table(people: Sequence[Identity], further: Sequence[str] = ()) -> pa.Table:
    """Return people as an Arrow table: identity_id, embedding, and of `reference`, `crop`, their terms and `smirk` those that
    are `further`."""
    flat = pa.array(np.concatenate([person.embedding for person in people]), pa.float32())
    names = pa.array([person.id for person in people], pa.string())
    columns = {
        "reference": lambda: pa.array([person.reference or None for person in people], pa.binary()),
        "crop": lambda: pa.array([person.crop or None for person in people], pa.binary()),
        "picture_licence": lambda: pa.array([person.picture_licence for person in people], pa.string()),
        "consent": lambda: pa.array([person.consent for person in people], pa.string()),
        "smirk": lambda: pa.array([person.smirk for person in people], pa.list_(pa.float32())),
    }
    table = {"identity_id": names, "embedding": pa.FixedSizeListArray.from_arrays(flat, SIZE)}
    return pa.table(table | {name: columns[name]() for name in further})


def recogniser_of(bundle: Bundle, parts: Mapping[str, str] | None = None) -> str:
    """Return the space that the embeddings of `bundle`'s recogniser lie in."""
    part = bundle.part("faces", parts)
    kind = import_settings(package_of("faces", part.kind, f"bundle {bundle.name}"))
    return str(kind.recogniser(fetch(part, bundle.folder)))  # type: ignore[attr-defined]


def check_embedding(values: Sequence[float] | None, where: str) -> np.ndarray:
    """Return the embedding `values` at length one, float32 [512]; a UserError that begins with `where` if it is none."""
    # Any list of numbers may come from a file or a request.
    try:
        embedding = np.asarray(values if values is not None else [], np.float32)
    except (ValueError, TypeError):
        raise UserError(f"{where}: its embedding does not hold {SIZE} numbers.") from None
    if embedding.shape != (SIZE,):
        raise UserError(f"{where}: its embedding has {embedding.size} values instead of {SIZE}.")
    if not np.isfinite(embedding).all():
        raise UserError(f"{where}: its embedding has values that are not finite.")
    # Large values are scaled down first, so that their squares do not overflow.
    if (largest := np.abs(embedding).max()) > HUGE:
        embedding = embedding / largest
    if np.linalg.norm(embedding) < 1e-6:
        raise UserError(f"{where}: its embedding has length zero.")
    return unit(embedding)
