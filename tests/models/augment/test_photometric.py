"""Changes of light and noise: nothing at ranges of zero, the asked amount else, and the same from equal generators."""

import colorsys

import numpy as np
import pytest

from models.augment.photometric import ToneRanges, add_noise, drop_colour, stretch_channels, vary_colour, vary_tone

PICTURE = np.random.default_rng(0).integers(60, 180, (32, 32, 3), dtype=np.uint8)


def test_colour_at_ranges_of_zero_is_left_as_it_is() -> None:
    out = vary_colour(PICTURE, np.random.default_rng(1), 0.0, 0.0)
    assert np.abs(out.astype(int) - PICTURE).max() <= 1


def test_hue_turns_and_brightness_stays() -> None:
    red = np.full((8, 8, 3), (180, 90, 90), np.uint8)
    hues = [vary_colour(red, np.random.default_rng(seed), 0.0, 0.1)[0, 0].astype(float) for seed in range(20)]
    turns = [(colorsys.rgb_to_hsv(*(colour / 255))[0] + 0.5) % 1 - 0.5 for colour in hues]
    assert max(turns) > 0.03 > -0.03 > min(turns) and max(map(abs, turns)) < 0.12
    assert [colour.mean() for colour in hues] == pytest.approx([120] * 20, abs=1)


def test_tone_keeps_the_order_of_grey_levels_and_can_drop_colour() -> None:
    ramp = np.repeat(np.arange(256, dtype=np.uint8)[None, :, None], 3, axis=2)
    for seed in range(10):
        out = vary_tone(ramp, np.random.default_rng(seed), ToneRanges(grey=0.0))
        assert (np.diff(out.astype(int), axis=1) >= 0).all()
    grey = vary_tone(PICTURE, np.random.default_rng(0), ToneRanges(grey=1.0, cast=0.0))
    assert (grey == grey[..., :1]).all()
    assert (drop_colour(PICTURE) == drop_colour(PICTURE)[..., :1]).all()


def test_noise_has_the_deviation_asked_for() -> None:
    flat = np.full((128, 128, 3), 128, np.uint8)
    noisy = add_noise(flat, 7.0, np.random.default_rng(0))
    assert noisy.dtype == np.uint8 and noisy.std() == pytest.approx(7.0, rel=0.03)


def test_channels_are_stretched_to_all_grey_levels() -> None:
    out = stretch_channels(PICTURE)
    assert (out.min(axis=(0, 1)) == 0).all() and (out.max(axis=(0, 1)) >= 254).all()
