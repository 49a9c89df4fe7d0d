"""Whose faces a job makes: a lazy source of people in a stable order, given by a file or sampled."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Protocol

from models.errors import UserError
from models.weights.bundle import Bundle
from pipelines.config.job import Identities
from pipelines.plan.people.given import GivenPeople
from pipelines.plan.people.identities import Identity, Reference
from pipelines.plan.people.packing import PackedPeople
from pipelines.plan.people.sampling import SampledPeople
from pipelines.storage.uri import Storage


class People(Protocol):
    """People in a stable order: asking for more keeps the first. None is held; blocks of them are made or read.

    further: what they come with beside embedding and words, of those columns that the job looks at.
    """

    @property
    def further(self) -> tuple[str, ...]: ...

    def __len__(self) -> int: ...

    def digest(self, start: int, stop: int) -> str:
        """Return a digest that changes when one of people [start, stop) does; nobody is drawn for it."""

    def blocks(self, start: int, stop: int) -> Iterator[list[Identity]]:
        """Yield people [start, stop) in order, some at a time."""


def check_source(source: str) -> None:
    """Raise a UserError where the file or folder that people come from is not there; it is not opened."""
    if source != "reference" and not Storage(source).exists():
        raise UserError(f"{source} does not exist (identities.source).")


def people_of(
    wanted: Identities,
    bundle: Bundle,
    seed: int,
    parts: Mapping[str, str] | None = None,
    looked_at: Sequence[str] = (),
) -> People:
    """Return the people of a job. parts: which one is the recogniser. looked_at: what they may come with beside.

    Raises:
        UserError: an embedding of the wrong size, with NaN or of zero norm, a duplicate id, or too few of them; or no
            distribution to sample from. Sampled people are drawn later, and that too few find room is said then.
    """
    if wanted.source == "reference":
        sample = PackedPeople if wanted.sampling == "packing" else SampledPeople
        return sample(Reference.of(bundle, parts), wanted.count or 0, wanted.minimum_angle, seed, wanted.words)
    return GivenPeople(wanted.source, wanted.count, bundle, parts, Reference.find(bundle, parts), looked_at)
