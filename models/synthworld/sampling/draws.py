"""Random draws by name: each has a seed of its own, so that adding or changing one never moves another."""

from collections.abc import Sequence

import torch

from models.seeds import generator


class NamedDraws:
    """Draws that depend on `key` (what is drawn, and of whom) and on the name of each draw, and on nothing else."""

    def __init__(self, *key: object) -> None:
        self.key = key

    def uniform(self, name: str, low: float = 0.0, high: float = 1.0) -> float:
        """Return a number uniform in [low, high)."""
        return low + (high - low) * float(torch.rand(1, generator=generator(*self.key, name)))

    def normal(self, name: str, deviation: float = 1.0) -> float:
        """Return a normal number of mean 0 and standard deviation `deviation`."""
        return deviation * float(torch.randn(1, generator=generator(*self.key, name)))

    def clipped_normal(self, name: str, deviation: float) -> float:
        """Return a normal number of mean 0 and standard deviation `deviation`, clipped at 2 of them."""
        return deviation * max(-2.0, min(2.0, self.normal(name)))

    def choice(self, name: str, words: Sequence[str], weights: Sequence[float]) -> str:
        """Return one of `words`, each in proportion to its weight; the order of the words is part of the draw."""
        point = self.uniform(name) * sum(weights)
        for word, weight in zip(words, weights, strict=True):
            point -= weight
            if point < 0:
                return word
        return words[-1]
