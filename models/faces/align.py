"""Alignment on five points, as insightface does it: a least-squares similarity to a fixed template, then a warp.

Five points are, in insightface's order: eye at the picture's left, eye at its right, nose tip, mouth corner at the
picture's left, mouth corner at its right. Coordinates are pixels and used as `insightface.utils.face_align` uses them.
"""

import cv2
import numpy as np

CROP = 112
"""Side of an aligned crop in pixels."""

TEMPLATE = np.array(
    [[38.2946, 51.6963], [73.5318, 51.5014], [56.0252, 71.7366], [41.5493, 92.3655], [70.7299, 92.2041]], np.float32
)
"""Where the five points lie in an aligned crop (`insightface.utils.face_align.arcface_dst`), float32 [5, 2]."""


def five_points(landmarks_70: np.ndarray) -> np.ndarray:
    """Return the five points, float32 [..., 5, 2], of landmarks [..., 70, 2] in iBUG-68 order + two pupils."""
    left_eye = landmarks_70[..., 36:42, :].mean(axis=-2)
    right_eye = landmarks_70[..., 42:48, :].mean(axis=-2)
    rest = [landmarks_70[..., index, :] for index in (30, 48, 54)]
    return np.stack([left_eye, right_eye, *rest], axis=-2).astype(np.float32)


def fit_similarities(points: np.ndarray, template: np.ndarray = TEMPLATE) -> np.ndarray:
    """Return the least-squares similarity transforms from `points` [B, 5, 2] to `template` [5, 2], float64 [B, 2, 3].

    Closed form in the plane (Umeyama 1991 without reflection): with centred p, q as complex numbers, the transform is
    multiplication by sum(conj(p) q) / sum(|p|^2).
    """
    # Points and template as complex numbers, centred.
    p = points[..., 0].astype(np.float64) + 1j * points[..., 1]
    q = template[:, 0].astype(np.float64) + 1j * template[:, 1]
    p_mean, q_mean = p.mean(axis=1, keepdims=True), q.mean()
    p_centred = p - p_mean
    spread = np.maximum((np.abs(p_centred) ** 2).sum(axis=1), 1e-9)
    # Rotation and scale, then the shift.
    a = (p_centred.conj() * (q - q_mean)).sum(axis=1) / spread
    t = q_mean - a * p_mean[:, 0]
    return np.stack([np.stack([a.real, -a.imag, t.real], -1), np.stack([a.imag, a.real, t.imag], -1)], axis=-2)


def crop(picture: np.ndarray, matrix: np.ndarray, side: int = CROP) -> np.ndarray:
    """Warp `picture` uint8 [H, W, 3] by a similarity [2, 3] into uint8 [side, side, 3]; black outside."""
    return np.asarray(cv2.warpAffine(picture, matrix, (side, side), borderValue=0.0), np.uint8)


def portrait(picture: np.ndarray, points: np.ndarray, side: int) -> np.ndarray:
    """Return the face of `picture` uint8 [H, W, 3] with hair and neck, upright, as FFHQ cuts it: uint8 [side, side, 3].

    points: [5, 2]. What lies outside of the picture is mirrored (FFHQ blurs it as well).
    Source: appendix C of arXiv 1710.10196, as github.com/NVlabs/ffhq-dataset has it.
    """
    left_eye, right_eye, _, left_mouth, right_mouth = np.asarray(points, np.float64)
    eyes, middle = right_eye - left_eye, (left_eye + right_eye) / 2
    down = (left_mouth + right_mouth) / 2 - middle
    # Half of the square's side, along the eyes and across the way to the mouth; its middle lies below the eyes.
    across = eyes - down[::-1] * (-1, 1)
    across *= max(np.hypot(*eyes) * 2.0, np.hypot(*down) * 1.8) / np.hypot(*across)
    below, centre = across[::-1] * (-1, 1), middle + 0.1 * down
    # Large faces are made smaller first, so that every pixel counts.
    shrink = max(1, int(2 * np.hypot(*across) / side))
    if shrink > 1:
        height, width = (max(1, round(length / shrink)) for length in picture.shape[:2])
        scale = np.array([width / picture.shape[1], height / picture.shape[0]])
        picture = cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA)
        across, below, centre = across * scale, below * scale, centre * scale
    corners = np.array([centre - across - below, centre + across - below, centre - across + below], np.float32)
    to = np.array([[0, 0], [side, 0], [0, side]], np.float32)
    matrix = cv2.getAffineTransform(corners - 0.5, to - 0.5)  # OpenCV's pixel centres are whole numbers
    return np.asarray(
        cv2.warpAffine(picture, matrix, (side, side), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT), np.uint8
    )


def align(pictures: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Return aligned crops uint8 [B, 112, 112, 3] of `pictures` uint8 [B, H, W, 3] with `points` [B, 5, 2]."""
    matrices = fit_similarities(points)
    crops = [crop(picture, matrix) for picture, matrix in zip(pictures, matrices, strict=True)]
    return np.stack(crops) if crops else np.zeros((0, CROP, CROP, 3), np.uint8)
