"""The parameters of a thermal camera, estimated from frames that it took: the inverse of `sensor.measure`.

Nothing of the scene is known. Noise is read where frames are smooth, after differences that leave no smooth scene; blur at
the sharpest edges, which a scene's own softness can only widen; range and counts from the values themselves. Drift, the
frame's offset, vignetting and the housing need a reference surface, and dead pixels are filled before a file is written:
these are not estimated.
"""

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter, sobel
from scipy.optimize import OptimizeWarning, curve_fit
from scipy.special import erf

COUNTS = (0.01, 0.02, 0.04, 0.05, 0.1)
"""Kelvin per count of the usual cores, that a file in centikelvin can show."""
SATURATED = 0.002
"""Share of all pixels at one extreme value from which the camera's range ends there."""
EDGE = 6
"""Pixels to either side of an edge that its profile is fitted over."""
EDGES = 400
"""Edges fitted, at most."""
CROWDED = 0.25
"""Share of the pixels in a sixteenth of the grey levels, from which a frame was not equalised."""
SHARPEST = 25
"""Percentile of the edges' widths that is taken for the camera's own."""


@dataclass(frozen=True)
class Estimate:
    """What frames say of their camera; None where they do not. Millikelvin, kelvin, degrees Celsius, native pixels."""

    netd_mk: float | None
    row_mk: float | None
    column_mk: float | None
    mtf_px: float | None
    count_k: float | None
    low_c: float | None
    high_c: float | None


def estimate_from_temperatures(frames: Sequence[np.ndarray]) -> Estimate:
    """Estimate from radiometric frames, float [H, W] degrees Celsius each; NaN is no reading.

    Raises ValueError without a frame of at least 32 x 32 pixels.
    """
    frames = [np.asarray(frame, np.float64) for frame in frames if min(frame.shape) >= 32]
    if not frames:
        raise ValueError("no frame has 32 x 32 pixels")
    # What the values themselves tell: the size of a count, and where the range ends.
    count = count_kelvin(frames)
    low, high = limits(frames, count)
    whole = [np.where(np.isfinite(frame), frame, np.nanmedian(frame)) for frame in frames]
    # Noise: of each pixel, of whole rows, of whole columns.
    pixel = pixel_noise(whole)
    rows = pattern_noise(whole, pixel)
    columns = pattern_noise([frame.T for frame in whole], pixel)
    rounding = (count or 0.0) ** 2 / 12  # rounding to counts adds an even error one count wide
    netd = float(np.sqrt(max(pixel**2 - rounding, 0.0)))
    return Estimate(netd * 1000, rows * 1000, columns * 1000, blur_width(whole, pixel), count, low, high)


def estimate_from_grey(frames: Sequence[np.ndarray]) -> Estimate:
    """Estimate from 8-bit frames, uint8 [H, W] each: grey levels say nothing of kelvin, and equalised ones not of blur."""
    whole = [frame.astype(np.float64) for frame in frames if min(frame.shape) >= 32]
    if not whole:
        raise ValueError("no frame has 32 x 32 pixels")
    blur = None if is_equalised(frames) else blur_width(whole, pixel_noise(whole))
    return Estimate(None, None, None, blur, None, None, None)


def count_kelvin(frames: Sequence[np.ndarray]) -> float | None:
    """Return the kelvin per count: the largest usual step of which all differences of values are multiples.

    Files in centikelvin round to 0.01 K, so multiples are looked for within a rounding; None if no step fits.
    """
    values = np.unique(np.concatenate([np.unique(frame[np.isfinite(frame)]) for frame in frames]))
    if len(values) < 3:
        return None
    steps = np.rint((values - values[0]) * 100)
    for count in sorted(COUNTS, reverse=True):
        if (steps % round(count * 100) == 0).mean() > 0.99:
            return count
    return None


def limits(frames: Sequence[np.ndarray], count: float | None) -> tuple[float | None, float | None]:
    """Return (low, high): the extreme values at which so many pixels pile up that the range must end there."""
    values = np.concatenate([frame[np.isfinite(frame)].ravel() for frame in frames])
    return _range_end(values, float(values.min()), count or 0.01), _range_end(
        values, float(values.max()), count or 0.01
    )


def _range_end(values: np.ndarray, end: float, count: float) -> float | None:
    """Return `end` (degC) if the range ends there: more values pile up at it than at the next counts. Else None."""
    away = np.abs(values - end) / count
    at, beside = float(np.mean(away < 0.5)), float(np.mean((away >= 0.5) & (away < 4.5)))
    return end if at > SATURATED and at > 2 * beside else None


def pixel_noise(frames: Sequence[np.ndarray]) -> float:
    """Return the noise that differs from pixel to pixel, one standard deviation, from 2 x 2 blocks of smooth places.

    (a - b - c + d) / 2 of a block has the spread of one pixel; row and column patterns and slopes cancel in it.
    """
    found = []
    for frame in frames:
        height, width = frame.shape[0] // 2 * 2, frame.shape[1] // 2 * 2
        a, b = frame[:height:2, :width:2], frame[:height:2, 1:width:2]
        c, d = frame[1:height:2, :width:2], frame[1:height:2, 1:width:2]
        found.append(((a - b - c + d) / 2)[_smooth_pixels(frame)[:height:2, :width:2]])
    return _clipped_deviation(np.concatenate(found))


def pattern_noise(frames: Sequence[np.ndarray], pixel: float) -> float:
    """Return the offset of whole rows, one standard deviation, beside `pixel` noise.

    Second differences down the rows leave no slope; their means over the n smooth pixels of a row have variance
    6 (row^2 + pixel^2 / n).
    """
    means, share = [], []
    for frame in frames:
        # Rows are compared where a pixel and its neighbours above and below are smooth.
        smooth = _smooth_pixels(frame)
        keep = smooth[:-2] & smooth[1:-1] & smooth[2:]
        count = keep.sum(axis=1)
        rows = count >= frame.shape[1] // 8
        # The mean second difference of each row that has enough of such pixels.
        total = np.where(keep, frame[:-2] - 2 * frame[1:-1] + frame[2:], 0.0).sum(axis=1)
        means.append(total[rows] / count[rows])
        share.append(1 / count[rows])
    values = np.concatenate(means)
    if len(values) < 8:
        return 0.0
    # What the noise of single pixels adds to the means is taken off again.
    return float(
        np.sqrt(max(_clipped_deviation(values) ** 2 / 6 - pixel**2 * float(np.concatenate(share).mean()), 0.0))
    )


def blur_width(frames: Sequence[np.ndarray], pixel: float) -> float | None:
    """Return the blur's standard deviation in pixels from the sharpest edges; None where no frame has an edge.

    A pixel's own area is no part of it: pictures of the world hold means over pixels, too.
    """
    views = [view for frame in frames for view in (frame, frame.T)]
    widths = [width for view in views for width in _edge_widths(view, pixel, max(8, EDGES // len(views)))]
    if len(widths) < 8:
        return None
    return math.sqrt(max(float(np.percentile(widths, SHARPEST)) ** 2 - 1 / 12, 0.0))


def _edge_widths(frame: np.ndarray, pixel: float, count: int) -> list[float]:
    """Return the widths of edges that run mostly down the frame: an error function fitted across each, slant removed."""
    # Slopes across the frame and down it, in kelvin a pixel.
    across, down = (sobel(gaussian_filter(frame, 1.0), axis=axis) / 8 for axis in (1, 0))
    strong = np.abs(across)
    # An edge is a peak of the slope across: far above the noise, and slanted little.
    peak = (strong[:, 1:-1] >= strong[:, :-2]) & (strong[:, 1:-1] > strong[:, 2:])
    peak &= (np.abs(across) > 2 * np.abs(down))[:, 1:-1] & (strong[:, 1:-1] > 4 * pixel)
    # The strongest of them, far enough from the border for a whole profile.
    ys, xs = np.nonzero(peak)
    inside = (xs + 1 >= EDGE) & (xs + 1 < frame.shape[1] - EDGE)
    ys, xs = ys[inside], xs[inside] + 1
    order = np.argsort(-strong[ys, xs])[:count]
    found = []
    for y, x in zip(ys[order], xs[order], strict=True):
        width = _fitted_width(frame[y, x - EDGE : x + EDGE + 1], pixel)
        if width is not None:
            # A slanted edge looks wider across than it is.
            slope = across[y, x] / np.hypot(across[y, x], down[y, x])
            found.append(float(width * abs(slope)))
    return found


def _fitted_width(profile: np.ndarray, pixel: float) -> float | None:
    """Return the standard deviation of the edge in a profile, or None where it is no lone step between two levels."""
    # The profile must be level on both sides, and the step far above the noise.
    left, right = profile[:3], profile[-3:]
    height = float(right.mean() - left.mean())
    if abs(height) < 30 * pixel or max(np.ptp(left), np.ptp(right)) > 0.05 * abs(height) + 4 * pixel:
        return None
    # Fit a blurred step: the error function.
    x = np.arange(len(profile)) - EDGE

    def edge(x: np.ndarray, middle: float, size: float, place: float, width: float) -> np.ndarray:
        return middle + size / 2 * erf((x - place) / (np.sqrt(2) * width))

    start = (float(profile.mean()), height, 0.0, 0.8)
    try:
        with warnings.catch_warnings():  # of the covariance, which is not read
            warnings.simplefilter("ignore", OptimizeWarning)
            best, _ = curve_fit(edge, x, profile, start, maxfev=200)
    except RuntimeError:  # it did not settle: no lone step
        return None
    # Another step beside it would not fit.
    off = float(np.abs(edge(x, *best) - profile).max())
    return abs(float(best[3])) if off < 0.05 * abs(height) + 4 * pixel else None


def is_equalised(frames: Sequence[np.ndarray]) -> bool:
    """Return whether 8-bit frames were equalised (AGC) rather than stretched from minimum to maximum.

    A stretch leaves a wall of one temperature in a few grey levels; equalisation exists to spread it. So: is less than
    `CROWDED` of the pixels within the fullest sixteenth of the grey levels?
    """
    shares = []
    for frame in frames:
        share = np.bincount(frame.ravel(), minlength=256) / frame.size
        shares.append(np.convolve(share, np.ones(16), "valid").max())
    return float(np.median(shares)) < CROWDED


def _smooth_pixels(frame: np.ndarray) -> np.ndarray:
    """Return the smoother half of a frame's pixels, bool [H, W], without places where the range cuts noise off."""
    soft = gaussian_filter(frame, 2.0)
    slope = np.hypot(sobel(soft, axis=0), sobel(soft, axis=1))
    ends = (frame == frame.min()) | (frame == frame.max())
    free = gaussian_filter(ends.astype(float), 2.0) < 0.02
    return free & (slope <= np.median(slope[free] if free.any() else slope))


def _clipped_deviation(values: np.ndarray) -> float:
    """Return the standard deviation of the values within four of it; counts make medians of differences too coarse."""
    kept = values
    for _ in range(8):
        kept = values[np.abs(values) <= 4 * max(float(kept.std()), 1e-12)]
        if not len(kept):
            return 0.0
    return float(kept.std())
