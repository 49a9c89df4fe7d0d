"""How alike two sets of pictures are in sharpness: radial power spectra."""

import numpy as np

FLOOR = 1e-8
"""Kelvin squared, so that a flat picture has a logarithm."""


def radial_power(values: np.ndarray, keep: np.ndarray) -> np.ndarray:
    """Return the mean power of pictures float [B, S, S] by whole cycles a picture, 1 to S / 2 - 1, float [S / 2 - 1].

    Pixels outside `keep` (bool) take the mean of those inside; a Hann window hides the borders. A frequency is the same
    detail of the same scene whatever S is; its power grows with the number of pixels.
    """
    # Zero outside the person, zero mean inside, and a window: no edge is left but the picture's own.
    size = values.shape[-1]
    inside = np.where(keep, values, 0.0).sum(axis=(1, 2)) / np.maximum(keep.sum(axis=(1, 2)), 1)
    flat = np.where(keep, values - inside[:, None, None], 0.0)
    window = np.hanning(size + 1)[:size]
    power = np.abs(np.fft.fft2(flat * np.outer(window, window), norm="ortho")) ** 2
    # Mean power on rings of whole radius.
    axis = np.fft.fftfreq(size, 1 / size)
    radius = np.rint(np.hypot(*np.meshgrid(axis, axis))).astype(int)
    rings = [power[:, radius == k].mean() for k in range(1, size // 2)]
    return np.array(rings)


def spectral_distance(prediction: np.ndarray, truth: np.ndarray, keep: np.ndarray) -> float:
    """Return the mean absolute difference of the log10 radial power of two sets of pictures [B, S, S]."""
    return float(spectral_differences(prediction, truth, keep).mean())


def spectral_differences(prediction: np.ndarray, truth: np.ndarray, keep: np.ndarray) -> np.ndarray:
    """Return the absolute differences of log10 radial power by cycles a picture, 1 to S / 2 - 1, float [S / 2 - 1].

    Both sets of pictures [B, S, S] have the same side, so how power grows with the number of pixels cancels out:
    differences at one frequency compare between sides, but for pictures so flat that `FLOOR` is all they have.
    """
    ours, theirs = (np.log10(radial_power(v, keep) + FLOOR) for v in (prediction, truth))
    return np.abs(ours - theirs)
