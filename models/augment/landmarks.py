"""Training crops of a landmarker: T-FAKE's augmentations (section 2.3 of its code), drawn from one seed a row.

Lengths (blur) are in pixels of the published 224 px crop and scale with the side.
"""

import math
from typing import NamedTuple

import cv2
import numpy as np
from pydantic import BaseModel, ConfigDict

from models.augment.canvas import paint_texture
from models.augment.geometry import from_centres, mirror_points, move_points
from models.augment.photometric import (
    add_noise,
    draw_noise,
    drop_colour,
    equalise_channels,
    stretch_channels,
    vary_colour,
)
from models.synthworld.shape.landmarks import MIRROR_70

PUBLISHED_SIDE = 224


class Augmentation(BaseModel):
    """Ranges and probabilities. The defaults are published; `flip`, `rgb_texture` and `gain` are ours, and off."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    rotation: float = 45.0
    shear: float = 7.0
    area: tuple[float, float] = (0.4, 2.0)
    """Share of the picture that the crop covers; above 1 the picture lies inside the crop."""
    aspect: float = 4 / 3
    """Width over height of the crop, at most, and its inverse."""
    flip: float = 0.0
    """Only with the 70 landmarks, whose mirror images are known."""
    texture: float = 0.25
    """Thermal pictures whose background is replaced by a texture ..."""
    zeroed: float = 0.2
    """... and by zero."""
    rgb_texture: float = 0.0
    jitter: tuple[float, float] = (0.8, 0.01)
    """Thermal: probability and largest shift of all values."""
    thermal_blur: float = 5.0
    inversion: float = 0.1
    thermal_noise: tuple[float, float, float] = (0.2, 1e-5, 1e-4)
    """Probability, least and largest standard deviation."""
    gain: float = 0.0
    """Thermal: largest loss of contrast, the values lying anywhere in [0, 1]: something else in the frame was hotter."""
    autocontrast: float = 0.5
    colour: float = 0.1
    hue: float = 0.05
    rgb_blur: tuple[float, float] = (0.3, 2.0)
    equalize: float = 0.1
    rgb_noise: tuple[float, float, float] = (0.7, 0.05, 7.0)
    """In grey levels of 255."""
    grey: float = 0.1


class Crop(NamedTuple):
    """picture uint8 [S, S, 3]; points float32 [L, 2] in crop units, 0 to 1 inside."""

    picture: np.ndarray
    points: np.ndarray


def draw_affine(size: int, side: int, rng: np.random.Generator, ranges: Augmentation) -> np.ndarray:
    """Return the affine [2, 3] from pixels of a `size` px picture to pixels of a `side` px crop: turn, shear, crop."""
    # Turn and shear about the middle of the picture.
    angle = math.radians(rng.uniform(-ranges.rotation, ranges.rotation))
    slant = math.tan(math.radians(rng.uniform(-ranges.shear, ranges.shear)))
    cos, sin = math.cos(angle), math.sin(angle)
    turn = np.array([[cos, -sin], [sin, cos]]) @ np.array([[1.0, slant], [0.0, 1.0]])
    # A window of some area and aspect, anywhere in the picture or around it.
    area, bend = rng.uniform(*ranges.area), math.log(ranges.aspect)
    ratio = math.exp(rng.uniform(-bend, bend) / 2)
    window = size * math.sqrt(area) * np.array([ratio, 1 / ratio])
    room = size - window  # negative: the picture lies somewhere inside the crop
    corner = np.minimum(room, 0) + np.abs(room) * rng.random(2)
    # From the window to the crop.
    scale = np.diag(side / window)
    middle = np.full(2, size / 2)
    return np.hstack([scale @ turn, (scale @ (middle - turn @ middle - corner))[:, None]])


def warp(picture: np.ndarray, matrix: np.ndarray, side: int, *, replicate: bool = False) -> np.ndarray:
    """Sample uint8 `picture` through `matrix` (pixel centres at .5) into a `side` px crop; outside is 0 or the border."""
    border = cv2.BORDER_REPLICATE if replicate else cv2.BORDER_CONSTANT
    return cv2.warpAffine(picture, from_centres(matrix), (side, side), flags=cv2.INTER_LINEAR, borderMode=border)


def augment_face(
    picture: np.ndarray,
    person: np.ndarray,
    points: np.ndarray,
    side: int,
    rng: np.random.Generator,
    ranges: Augmentation,
) -> Crop:
    """Return one augmented crop.

    picture: uint8 [S, S, 3] is visible, [S, S] thermal (stretched, see `intensity`). person: uint8 [S, S], 255 on the
    person. points: float32 [L, 2], pixels.
    """
    thermal = picture.ndim == 2
    # Geometry: mirror, turn, shear, crop.
    if rng.random() < ranges.flip and len(points) == len(MIRROR_70):
        picture, person = np.ascontiguousarray(picture[:, ::-1]), np.ascontiguousarray(person[:, ::-1])
        points = mirror_points(points, picture.shape[1], MIRROR_70)
    matrix = draw_affine(picture.shape[0], side, rng, ranges)
    out = warp(picture, matrix, side, replicate=rng.random() < 0.5)
    # Background: replaced by a texture or by zero.
    behind = rng.random()
    textured = ranges.texture if thermal else ranges.rgb_texture
    if behind < textured + (ranges.zeroed if thermal else 0.0):
        cover = warp(person, matrix, side) > 127
        ground = paint_texture(side, rng) if behind < textured else np.zeros((side, side, 3), np.uint8)
        out = np.where(cover if thermal else cover[..., None], out, ground[..., 0] if thermal else ground)
    moved = (move_points(points, matrix) / side).astype(np.float32)
    return Crop(vary_photometry(out, rng, ranges), moved)


def vary_photometry(picture: np.ndarray, rng: np.random.Generator, ranges: Augmentation) -> np.ndarray:
    """Return uint8 [S, S, 3] of a visible [S, S, 3] or thermal [S, S] crop, augmented as its kind is."""
    if picture.ndim == 3:
        return _vary_visible(picture, rng, ranges)
    grey = _vary_thermal(picture, rng, ranges)
    return np.repeat(grey[..., None], 3, axis=2)


def _vary_thermal(grey: np.ndarray, rng: np.random.Generator, ranges: Augmentation) -> np.ndarray:
    """Return uint8 [S, S] blurred, shifted, weakened, inverted and with noise, each by chance.

    Where the crop reaches beyond the picture (0), it is neither weakened nor inverted.
    """
    values = _blur(grey, rng.uniform(0.01, ranges.thermal_blur)).astype(np.float32) / 255
    # Offset of all values.
    if rng.random() < ranges.jitter[0]:
        values = values + rng.uniform(-ranges.jitter[1], ranges.jitter[1])
    # Something hotter in the frame takes a part of the grey levels away.
    if ranges.gain:
        gain = 1 - rng.random() * ranges.gain
        values = np.where(grey > 0, values * gain + rng.random() * (1 - gain), values)
    # Black-hot display.
    if rng.random() < ranges.inversion:
        values = np.where(grey > 0, 1 - values, values)
    if rng.random() < ranges.thermal_noise[0]:
        values = values + draw_noise(values.shape, rng.uniform(*ranges.thermal_noise[1:]), rng)
    return (np.clip(values, 0, 1) * 255 + 0.5).astype(np.uint8)


def _vary_visible(picture: np.ndarray, rng: np.random.Generator, ranges: Augmentation) -> np.ndarray:
    """Return uint8 [S, S, 3] with another contrast, colour, sharpness, noise, or grey, each by chance."""
    if rng.random() < ranges.autocontrast:
        picture = stretch_channels(picture)
    picture = vary_colour(picture, rng, ranges.colour, ranges.hue)
    if rng.random() < ranges.rgb_blur[0]:
        picture = _blur(picture, rng.uniform(0.01, ranges.rgb_blur[1]))
    if rng.random() < ranges.equalize:
        picture = equalise_channels(picture)
    if rng.random() < ranges.rgb_noise[0]:
        picture = add_noise(picture, rng.uniform(*ranges.rgb_noise[1:]), rng)
    if rng.random() < ranges.grey:
        picture = drop_colour(picture)
    return np.ascontiguousarray(picture)


def _blur(picture: np.ndarray, sigma: float) -> np.ndarray:
    """Return a picture blurred by a standard deviation of `sigma` px of the published crop; as it is below 0.2 px."""
    sigma *= picture.shape[0] / PUBLISHED_SIDE
    return np.asarray(cv2.GaussianBlur(picture, (0, 0), sigma)) if sigma > 0.2 else picture
