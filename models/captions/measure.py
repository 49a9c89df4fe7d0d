"""How good captions are: do they state what was asked, and do they differ from each other?"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import log2

from models.captions.grammar import statable
from models.captions.reading import disagreements


def normalise_text(text: str) -> str:
    """Return `text` as duplicates are compared: lower case, words alone."""
    return " ".join("".join(c if c.isalnum() else " " for c in text.lower()).split())


@dataclass
class Agreement:
    """Counts over captions; `summary` turns them into shares in [0, 1]."""

    captions: int = 0
    whole: int = 0
    asked: int = 0
    wrong: Counter[str] = field(default_factory=Counter)
    """Attribute -> how often a caption did not state it."""
    texts: set[str] = field(default_factory=set)

    def add(self, attributes: Mapping[str, str], text: str) -> None:
        """Count one caption written for `attributes`."""
        missed = disagreements(text, attributes)
        self.captions += 1
        self.whole += not missed
        self.asked += len(statable(attributes))
        self.wrong.update(missed.keys())
        self.texts.add(normalise_text(text))

    def summary(self) -> dict[str, float]:
        """Return `captions_agree` (every attribute stated), `attributes_agree` (of all asked) and `distinct`."""
        return {
            "captions_agree": self.whole / max(1, self.captions),
            "attributes_agree": 1 - sum(self.wrong.values()) / max(1, self.asked),
            "distinct": len(self.texts) / max(1, self.captions),
        }


def distinct_n(texts: Sequence[str], n: int) -> float:
    """Return the share of different ones among all runs of `n` words of `texts` (distinct-n, Li et al., arXiv 1510.03055)."""
    # Runs end within their text: those that cross from one text to the next are nobody's words.
    runs = [
        tuple(words[k : k + n])
        for text in texts
        for words in [normalise_text(text).split()]
        for k in range(len(words) - n + 1)
    ]
    return len(set(runs)) / max(1, len(runs))


def attribute_entropy(sets: Sequence[Mapping[str, str]]) -> dict[str, float]:
    """Return attribute -> entropy of its words over `sets` in bits; 0 where all have the same."""
    # An attribute that some sets lack is measured over those that have it.
    found = {}
    for name in dict.fromkeys(name for one in sets for name in one):
        counts = Counter(one[name] for one in sets if name in one)
        shares = [count / counts.total() for count in counts.values()]
        found[name] = -sum(share * log2(share) for share in shares) + 0.0
    return found
