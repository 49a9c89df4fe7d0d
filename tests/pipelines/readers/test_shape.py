"""Samples as rows: points move with the pixels under them."""

from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.config.gather import GatherJob
from pipelines.readers.item import Item, Sample
from pipelines.readers.shape import make_row


@pytest.mark.parametrize("crop", ["whole", "face"])
@settings(max_examples=25)
@given(
    width=st.integers(60, 200), height=st.integers(60, 200), x=st.floats(0.3, 0.7), y=st.floats(0.3, 0.7),
    size=st.sampled_from([64, 96, 150]),
)  # fmt: skip
def test_points_move_with_the_pixels_under_them(
    crop: Any, width: int, height: int, x: float, y: float, size: int
) -> None:
    """A hot blob in both pictures, the thermal one of half the size: the point that names it stays on it."""
    at = np.array([x * width, y * height])
    grid = np.stack(np.meshgrid(np.arange(width) + 0.5, np.arange(height) + 0.5), -1)
    blob = np.exp(-((grid - at) ** 2).sum(-1) / (2 * 4.0**2)).astype(np.float32)
    thermal = cv2.resize(20 + 15 * blob, (width // 2, height // 2), interpolation=cv2.INTER_AREA)
    reach = 0.22 * min(width, height)
    named = np.array([at, at - reach, at + reach, at, at], np.float32)
    sample = Sample(
        visible=np.repeat((blob * 255).astype(np.uint8)[..., None], 3, 2), celsius=thermal, points={5: named}
    )
    row = make_row(sample, Item("a"), GatherJob(layout="plain", images="x", size=size, crop=crop))
    place = np.stack(np.meshgrid(np.arange(size) + 0.5, np.arange(size) + 0.5), -1)
    for picture, slack in ((row["visible"][..., 0].astype(float), 0.35), (np.nan_to_num(row["thermal"] - 20), 1.0)):
        weight = np.where(picture > 0.5 * picture.max(), picture, 0)
        middle = (place * weight[..., None]).sum((0, 1)) / weight.sum()
        scale = size / (2 * 1.25 * reach * 1.6 if crop == "face" else max(width, height))
        assert np.abs(middle - row["landmarks_5"][0]).max() < slack * max(1.0, scale) + 0.3


@pytest.mark.parametrize("crop", ["whole", "face"])
def test_classes_are_picked_and_never_mixed(crop: Any) -> None:
    """Between ids 2 and 18 lies no class of the picture, at any size."""
    ids = np.full((70, 90), 2, np.uint8)
    ids[20:50, 30:61] = 18
    named = np.array([[30, 20], [60, 20], [45, 35], [30, 50], [60, 50]], np.float32)
    sample = Sample(visible=np.zeros((70, 90, 3), np.uint8), classes=ids, points={5: named})
    for size in (64, 150):
        row = make_row(sample, Item("a"), GatherJob(layout="plain", images="x", size=size, crop=crop))
        assert set(np.unique(row["classes"])) - {0} == {2, 18}
