"""People who do not exist, packed: moved apart on the sphere of embeddings as far as their distribution leaves room.

HyperFace (arXiv 2411.08470) packs identities by gradient descent on the cosine of each to the nearest others. Here what moves
are the normal numbers that a person is made of, each at its own length, so that nobody leaves the distribution: an embedding
stays what its recogniser could have shown. People are packed in blocks of `BLOCK`, each against all blocks before it, so that
asking for more keeps the first. Rejection (`sampling`) only refuses neighbours, and never moves anybody.
"""

from collections.abc import Iterator, Mapping
from functools import cached_property

import numpy as np

from models.config import digest_of
from models.errors import UserError
from models.seeds import seed_of
from pipelines.plan.people.identities import Identity, Reference
from pipelines.plan.people.sampling import Directions, NewPeople

BLOCK = 256
"""People who are packed together, whatever the number that is asked for."""
MOST = 65_536
"""People after whom packing takes longer than it is worth."""
STEPS, RATE = 80, 0.05
"""Of Adam."""
SHARPNESS = 40.0
"""Of the soft maximum over cosines: who is nearest counts most."""
DIGITS = 3
"""Of the numbers that are kept: a processor that sums in another order makes the same people."""


class PackedPeople(NewPeople):
    """People who are moved away from each other. Nobody is drawn before somebody is asked for."""

    def __init__(
        self,
        reference: Reference,
        count: int,
        minimum_angle: float,
        seed: int,
        words: Mapping[str, str] | None = None,
    ) -> None:
        if count > MOST:
            raise UserError(
                f"identities.sampling: packing moves every person against all before, and {count} are too many for it: at most "
                f"{MOST}; rejection takes any number."
            )
        super().__init__(reference, count, minimum_angle, seed, words)

    def digest(self, start: int, stop: int) -> str:
        """Return a digest of people [start, stop): of what decides who they are."""
        decides = {"packed": [BLOCK, STEPS], "seed": self.seed, "minimum_angle": self.minimum_angle}
        words = {"words": self.words} if self.words else {}
        return digest_of({**decides, **words, "reference": self.reference.digest, "start": start, "stop": stop})

    def blocks(self, start: int, stop: int) -> Iterator[list[Identity]]:
        """Yield people [start, stop) in order. Raises a UserError where packing leaves two nearer than the minimum angle."""
        for first in range(start, stop, BLOCK):
            chosen = range(first, min(first + BLOCK, stop))
            embeddings = [self.reference.embedding(self._packed[index]) for index in chosen]
            yield [
                Identity(packed_id(self.seed, index), embedding, self.words, self.reference.words(embedding), True)
                for index, embedding in zip(chosen, embeddings, strict=True)
            ]

    @cached_property
    def _packed(self) -> np.ndarray:
        return pack_people(self.reference, self.count, self.minimum_angle, self.seed)


def packed_id(seed: int, index: int) -> str:
    """Return the id of the packed person `index`."""
    return f"{seed_of('packed identity', seed, index):016x}"[:12]


def pack_people(reference: Reference, count: int, minimum_angle: float, seed: int) -> np.ndarray:
    """Return the normal numbers float32 [count, K] of packed people.

    Raises:
        UserError: two of them are nearer than `minimum_angle` degrees, with the angle that is reached.
    """
    directions, packed, fixed, near = Directions(reference), list[np.ndarray](), list[np.ndarray](), -1.0
    for first in range(0, count, BLOCK):
        drawn = reference.numbers(seed, range(first, first + BLOCK))
        moved = pack_block(drawn, directions, np.concatenate(fixed) if fixed else None)
        packed.append(moved)
        # Those who are asked for are held to the angle, against each other and all before.
        own = directions.of(moved)
        asked = own[: count - first]
        cosines = asked @ np.concatenate([*fixed, asked]).T
        cosines[np.arange(len(asked)), np.arange(len(asked)) + first] = -1
        near = max(near, float(cosines.max(initial=-1)))
        fixed.append(own)
    reached = float(np.degrees(np.arccos(min(1.0, near))))
    if reached < minimum_angle:
        raise UserError(
            f"packed, {count} identities are {reached:.1f} degrees apart in this bundle's reference distribution, and "
            f"{minimum_angle:g} are asked for. Lower identities.minimum_angle to {np.floor(reached):g} or identities.count."
        )
    return np.concatenate(packed)[:count]


def pack_block(numbers: np.ndarray, directions: Directions, fixed: np.ndarray | None) -> np.ndarray:
    """Return normal numbers float32 [N, K] moved apart from each other and from `fixed` directions [M, D], lengths kept.

    Minimises the mean over people of log sum exp of their cosines to all others. In float64, and rounded at the end.
    """
    import torch

    # What is fixed: lengths, the map from numbers to faces, and people who are there already.
    start = torch.from_numpy(numbers.astype(np.float64))
    length = start.norm(dim=1, keepdim=True)
    spread, mean = (torch.from_numpy(values.astype(np.float64)) for values in (directions.spread, directions.mean))
    others = None if fixed is None else torch.from_numpy(fixed.astype(np.float64))
    free = start.clone().requires_grad_()
    optimiser = torch.optim.Adam([free], lr=RATE)
    itself = torch.eye(len(start), dtype=torch.bool)
    # Move everybody away from whoever is nearest, along the sphere of their length.
    for _ in range(STEPS):
        optimiser.zero_grad()
        faces = free * (length / free.norm(dim=1, keepdim=True)) @ spread.T + mean
        faces = faces / faces.norm(dim=1, keepdim=True)
        cosines = (faces @ faces.T).masked_fill(itself, -1)
        if others is not None:
            cosines = torch.cat([cosines, faces @ others.T], dim=1)
        torch.logsumexp(SHARPNESS * cosines, dim=1).mean().backward()
        optimiser.step()
    with torch.no_grad():
        kept = free * (length / free.norm(dim=1, keepdim=True))
    return np.asarray(kept.numpy().round(DIGITS), np.float32)
