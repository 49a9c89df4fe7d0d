"""Augmentation draws belong to rows, and pictures and classes move together."""

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from models.augment.batch import Geometry, Photometry, RowDraws, draw_transforms, relight, warp
from models.classes import CLASSES, MIRRORED


def test_a_row_depends_on_its_own_seed_alone() -> None:
    pictures = torch.rand(3, 3, 32, 32)
    seeds = np.array([5, 6, 7])
    together = relight(pictures, Photometry(), RowDraws(seeds))
    alone = relight(pictures[1:2], Photometry(), RowDraws(seeds[1:2]))
    torch.testing.assert_close(together[1:2], alone, rtol=0, atol=1e-6)
    assert torch.equal(
        draw_transforms(Geometry(), RowDraws(seeds))[0][2], draw_transforms(Geometry(), RowDraws(seeds[2:]))[0][0]
    )


@settings(max_examples=20)
@given(st.integers(0, 2**40))
def test_relight_stays_in_range(seed: int) -> None:
    out = relight(torch.rand(1, 3, 16, 16), Photometry(), RowDraws(np.array([seed])))
    assert 0 <= out.min() and out.max() <= 1


def test_the_flip_is_exact_and_its_own_inverse() -> None:
    picture = torch.rand(1, 2, 16, 16)
    only_flip = Geometry(rotation=0, scale=(1, 1), shift=0, flip=1.0)
    matrices, flipped = draw_transforms(only_flip, RowDraws(np.array([1])))
    assert flipped.all()
    torch.testing.assert_close(warp(picture, matrices, nearest=True), picture.flip(-1))
    torch.testing.assert_close(warp(warp(picture, matrices), matrices), picture, rtol=0, atol=1e-5)


def test_mirrored_classes_swap_sides() -> None:
    names = [CLASSES[k].replace("RIGHT", "#").replace("LEFT", "RIGHT").replace("#", "LEFT") for k in range(19)]
    assert [CLASSES[k] for k in MIRRORED] == names
