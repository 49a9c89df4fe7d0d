"""What an embedding of face and text finds: pictures among others, and the right pair of face and text in a conflict."""

import numpy as np


def recall_at_one(similarity: np.ndarray) -> np.ndarray:
    """Return whether each query finds its own picture, float64 [Q]. similarity: [Q, Q], query by picture, own on the diagonal.

    Of pictures that are equally near, each is found with equal probability.
    """
    best = similarity >= similarity.max(axis=1, keepdims=True)
    return np.where(best.diagonal(), 1 / best.sum(axis=1), 0.0)


def choose_in_conflict(scores: np.ndarray) -> np.ndarray:
    """Return whether each picture is given its own pair, float64 [N]: the four-way choice of the conflict test.

    scores: [N, 4], how near a picture is to (own face, own text), (own face, other text), (other face, own text) and (other
    face, other text). What tells faces alone apart, or texts alone, ties two of them and is right half of the time.
    """
    best = scores >= scores.max(axis=1, keepdims=True)
    return np.where(best[:, 0], 1 / best.sum(axis=1), 0.0)


def draw_others(person: np.ndarray, text: np.ndarray, seed: int) -> np.ndarray:
    """Return for each row another one of another person and another text, int64 [N].

    Raises ValueError where a row has none.
    """
    rng, others = np.random.default_rng(seed), np.empty(len(person), np.int64)
    for row in range(len(person)):
        unlike = np.flatnonzero((person != person[row]) & (text != text[row]))
        if not len(unlike):
            raise ValueError("a conflict needs rows of at least two people with texts of their own")
        others[row] = rng.choice(unlike)
    return others
