"""People who do not exist, drawn from a distribution of embeddings, any two of them a minimum angle apart.

Candidates are drawn in a fixed order, and one is taken unless it is too near to somebody who was: asking for more keeps the
first. They are compared in as many numbers as the distribution has directions, not in the embedding's 512, and not at all
where the distribution is so wide that no two can be near.
"""

from collections.abc import Callable, Iterator, Mapping
from functools import cached_property

import numpy as np

from models.config import digest_of
from models.errors import UserError
from models.seeds import seed_of
from pipelines.plan.people.capacity import NEVER, Capacity, chance_of_near, estimate
from pipelines.plan.people.identities import Identity, Reference

BLOCK = 512
"""Candidates, and people of a block."""
CHUNK = 8192
"""People who are compared with a block at a time."""
PATIENCE = 400
"""Candidates in a row that may be too near to somebody before sampling gives up."""
MARGIN = 1e-4
"""Cosines that are as near to the limit as this are taken again, of embeddings: a float32 sum of 512 products of unit
vectors is wrong by 3e-5 at most, and both ways may be."""
EARLY = 1000
"""People after whom it is asked whether as many as are wanted find room, once most candidates do not."""
DOUBT = 1.3
"""An estimate may be so much too small: only a count that is larger still is refused by it."""


class NewPeople:
    """`count` people who do not exist, and what decides who they are: the common part of all ways to sample them.

    words: identity words that all of them are given, whatever their embeddings suggest.
    """

    further: tuple[str, ...] = ()
    """Nobody has a picture of them."""

    def __init__(
        self,
        reference: Reference,
        count: int,
        minimum_angle: float,
        seed: int,
        words: Mapping[str, str] | None = None,
    ) -> None:
        self.reference, self.count, self.minimum_angle, self.seed = reference, count, minimum_angle, seed
        self.words = dict(words or {})

    def __len__(self) -> int:
        return self.count


class SampledPeople(NewPeople):
    """People who are drawn, and drawn again where too near. Nobody is drawn before somebody is asked for."""

    def digest(self, start: int, stop: int) -> str:
        """Return a digest of people [start, stop): of what decides who they are.

        Seed, minimum angle and distribution determine every person, so equal ones are proof that nobody has changed, and
        nobody is drawn anew for it.
        """
        decides = {"seed": self.seed, "minimum_angle": self.minimum_angle, "reference": self.reference.digest}
        words = {"words": self.words} if self.words else {}
        return digest_of({**decides, **words, "start": start, "stop": stop})

    def blocks(self, start: int, stop: int) -> Iterator[list[Identity]]:
        """Yield people [start, stop) in order. Raises a UserError where fewer than `count` find room."""
        for first in range(start, stop, BLOCK):
            indices = self._chosen[first : min(first + BLOCK, stop)]
            embeddings = map(self.reference.embedding, self.reference.numbers(self.seed, indices))
            yield [
                Identity(
                    identity_id(self.seed, int(index)), embedding, self.words, self.reference.words(embedding), True
                )
                for index, embedding in zip(indices, embeddings)
            ]

    @cached_property
    def _chosen(self) -> np.ndarray:
        return choose_candidates(self.reference, self.count, self.minimum_angle, self.seed)


def sample_people(reference: Reference, count: int, minimum_angle: float, seed: int) -> list[tuple[str, np.ndarray]]:
    """Return `count` (id, embedding float32 [512]) with at least `minimum_angle` degrees between any two."""
    chosen = choose_candidates(reference, count, minimum_angle, seed)
    return [(identity_id(seed, int(index)), reference.sample(seed, int(index))) for index in chosen]


def identity_id(seed: int, index: int) -> str:
    """Return the id of sampled candidate `index`."""
    return f"{seed_of('identity', seed, index):016x}"[:12]


def choose_candidates(reference: Reference, count: int, minimum_angle: float, seed: int) -> np.ndarray:
    """Return the numbers int64 [count] of the first candidates that are `minimum_angle` degrees from those before them.

    Raises:
        UserError: fewer find room, with how many do and which angle would do; as soon as that can be estimated.
    """
    directions = Directions(reference)
    # Where no two of so many can be near, nobody is compared.
    if count * (count - 1) / 2 * chance_of_near(directions.mean, directions.spread, minimum_angle) < NEVER:
        return np.arange(count)

    def draw(first: int, size: int) -> np.ndarray:
        return directions.of(reference.numbers(seed, range(first, first + size)))

    def exactly(one: int, other: int) -> float:
        return float(reference.sample(seed, one) @ reference.sample(seed, other))

    # Else one after the other, until all are there or hardly anybody finds room.
    limit, room, capacity = float(np.cos(np.radians(minimum_angle))), 0, None
    crowd = Crowd(draw, limit, exactly)
    while len(crowd.chosen) < count and crowd.refused <= PATIENCE:
        before = len(crowd.chosen)
        crowd.grow(count)
        # Once most candidates find no room, ask how many will.
        if capacity is None and before >= EARLY and len(crowd.chosen) - before < BLOCK / 2:
            capacity = directions.capacity()
            if capacity.at(minimum_angle) * DOUBT < count:
                room = max(int(capacity.at(minimum_angle)), len(crowd.chosen))
                break
    # Too few: the message names an angle that would do, where one can be estimated.
    if len(crowd.chosen) < count:
        found = f"about {room}" if room else f"only {len(crowd.chosen)}"
        why = "" if room else f" ({PATIENCE} candidates in a row were too near)"
        lower = f" to {capacity.angle(count):g}" if capacity else ""
        raise UserError(
            f"{found} of {count} identities are {minimum_angle:g} degrees apart in this bundle's reference "
            f"distribution{why}. Lower identities.minimum_angle{lower} or identities.count."
        )
    return np.array(crowd.chosen)


class Directions:
    """A distribution's people in as few numbers as it has directions, with the cosines that their embeddings have.

    An embedding is unit(mean + (z * scales) @ components). On an orthonormal basis Q of mean and components it is
    Q (m + L z), and Q keeps lengths and angles: only m [D] and L [D, K] are needed, D = min(512, K + 1). The components
    need not be orthonormal, nor the mean outside of them.
    """

    def __init__(self, reference: Reference) -> None:
        stretched = reference.scales[:, None].astype(np.float64) * reference.components
        both = np.asarray(np.linalg.qr(np.concatenate([stretched, reference.mean[None]]).T, mode="r"))
        self.spread, self.mean = both[:, :-1], both[:, -1]

    def of(self, numbers: np.ndarray) -> np.ndarray:
        """Return unit directions float32 [N, D] of people by their normal numbers z [N, K]."""
        found = numbers @ self.spread.T.astype(np.float32) + self.mean.astype(np.float32)
        return np.asarray(found / np.linalg.norm(found, axis=1, keepdims=True), np.float32)

    def capacity(self) -> Capacity:
        """Return about how many people find room at which angle."""
        random = np.random.default_rng(0)

        def draw(size: int) -> np.ndarray:
            return self.of(random.standard_normal((size, self.spread.shape[1]), np.float32))

        def fill(limit: float) -> tuple[int, int]:
            crowd = Crowd(lambda first, size: draw(size), limit)
            while crowd.refused <= PATIENCE:
                crowd.grow()
            return len(crowd.chosen), crowd.seen

        return estimate(draw, fill)


class Crowd:
    """Candidates in order, each taken unless its cosine with one who was is larger than `limit`.

    draw: (first, size) -> directions float32 [size, D] of candidates from number `first` on. exactly: the cosine of two
    candidates by number, for those that are too close to call; without it they are judged by their directions.
    """

    def __init__(
        self,
        draw: Callable[[int, int], np.ndarray],
        limit: float,
        exactly: Callable[[int, int], float] | None = None,
    ) -> None:
        self.draw, self.limit, self.exactly = draw, limit, exactly
        self.margin = MARGIN if exactly else 0.0
        self.chosen = list[int]()
        self.seen = 0
        self.refused = 0
        """Candidates in a row that found no room, up to the last one that was seen."""
        self._chunks = list[np.ndarray]()

    def grow(self, count: int | None = None) -> None:
        """Judge a further block of candidates, up to the one who makes `count` or has had too many refused before it."""
        block = self.draw(self.seen, BLOCK)
        clear, doubts = self._compare(block)
        # Those who are clear of all before this block are judged in order, also against each other.
        among, taken = block[clear] @ block[clear].T, list[int]()
        near = np.zeros(len(clear), bool)
        last = -1 - self.refused
        for row, place in enumerate(clear):
            # Whoever is too near to somebody is refused; where it is too close to call, by their embeddings.
            if near[row] or any(self._near(self.seen + int(place), other) for other in doubts.get(int(place), ())):
                continue
            if place - last - 1 > PATIENCE:
                break
            # The next one is taken, and those behind who are near to it are marked.
            last = int(place)
            taken.append(last)
            self.chosen.append(self.seen + last)
            if len(self.chosen) == count:
                break
            near |= among[row] > self.limit + self.margin
            for later in np.flatnonzero(~near & (among[row] > self.limit - self.margin)):
                if later > row:
                    doubts.setdefault(int(clear[later]), []).append(self.seen + last)
        # The next block goes on from here.
        self.refused = BLOCK - 1 - last
        self.seen += BLOCK
        self._keep(block[taken])

    def _compare(self, block: np.ndarray) -> tuple[np.ndarray, dict[int, list[int]]]:
        """Return the places of a block that are clear of all who are taken, and with whom of them it is too close to call."""
        # Chunk by chunk of those who were taken, fewer and fewer are still clear.
        clear, doubts, first = np.arange(len(block)), dict[int, list[int]](), 0
        for chunk in self._chunks:
            cosines = block[clear] @ chunk.T
            nearest = cosines.max(axis=1, initial=-1)
            for row in np.flatnonzero(abs(nearest - self.limit) <= self.margin):
                close = np.flatnonzero(cosines[row] > self.limit - self.margin)
                doubts.setdefault(int(clear[row]), []).extend(self.chosen[first + k] for k in close)
            clear, first = clear[nearest <= self.limit + self.margin], first + len(chunk)
        return clear, doubts

    def _near(self, one: int, other: int) -> bool:
        return self.exactly is not None and self.exactly(one, other) > self.limit

    def _keep(self, people: np.ndarray) -> None:
        """Keep the directions of those who were taken, in chunks."""
        if self._chunks and len(self._chunks[-1]) < CHUNK:
            people = np.concatenate([self._chunks.pop(), people])
        self._chunks.append(people)
