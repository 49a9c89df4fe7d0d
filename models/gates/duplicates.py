"""Near-duplicates among the pictures of a person, by the difference hash: what a recogniser calls one person anyway."""

import cv2
import numpy as np

SIDE = 16
"""The hash has this many rows and columns of bits."""


def difference_hash(pictures: np.ndarray) -> np.ndarray:
    """Return bool [N, 256] of pictures uint8 [N, S, S, 3]: whether each cell is brighter than the one to its left.

    Light, contrast and small noise change few bits; another pose, expression or framing changes many.
    """
    grey = [
        cv2.resize(cv2.cvtColor(one, cv2.COLOR_RGB2GRAY), (SIDE + 1, SIDE), interpolation=cv2.INTER_AREA)
        for one in pictures
    ]
    small = np.stack(grey).astype(np.int16)
    return (small[:, :, 1:] > small[:, :, :-1]).reshape(len(pictures), -1)


def least_differences(hashes: np.ndarray, people: np.ndarray, least: float) -> np.ndarray:
    """Return the share of bits in which each row differs from the most alike one of its person before it, float64 [N], NaN where
    there is none; a duplicate is a row below `least`.

    hashes: bool [N, B] in the order in which pictures were accepted; people: whose, [N]. Who is a duplicate of a picture that is
    one itself is compared with those that stay.
    """
    found, kept = np.full(len(hashes), np.nan), dict[object, list[int]]()
    for row, person in enumerate(people):
        before = kept.setdefault(person, [])
        if before:
            found[row] = (hashes[before] != hashes[row]).mean(axis=1).min()
        if not found[row] < least:
            before.append(row)
    return found
