"""Compare our pose pictures with a published one of Arc2Face's ControlNet.

python -m tests.benchmarks.condition_picture PICTURE [--crop LEFT TOP RIGHT BOTTOM]

PICTURE: a rendering of FLAME normals as its authors' demo makes it. Our average head is turned until it fits best; printed are
that pose, the overlap of both heads (IoU), the mean angle between both normals where both are, and each channel's correlation
there. Chance is given by the same head turned away by 60 degrees.
"""

import argparse
from itertools import product
from pathlib import Path

import numpy as np
from PIL import Image

from models.synthworld.sampling.scene import View
from models.visible.normals import BACKGROUND, average_measures, draw_normals

SIZE = 128
TOLERANCE = 3


def read_picture(path: Path, crop: list[int] | None) -> np.ndarray:
    """Return the picture uint8 [SIZE, SIZE, 3]."""
    picture = Image.open(path).convert("RGB")
    if crop:
        left, top, right, bottom = crop
        picture = picture.crop((left, top, right, bottom))
    return np.asarray(picture.resize((SIZE, SIZE), Image.Resampling.BOX))


def draw(yaw: float, pitch: float) -> np.ndarray:
    """Return our average head uint8 [SIZE, SIZE, 3] in that pose."""
    drawn = draw_normals(average_measures()[None], [View(yaw=yaw, pitch=pitch)], SIZE)[0]
    found: np.ndarray = (drawn.permute(1, 2, 0).numpy() * 255).round().astype(np.uint8)
    return found


def compare(one: np.ndarray, other: np.ndarray) -> dict[str, float]:
    """Return `iou` of both heads, `degrees` between their normals and the channels' correlations where both are."""
    masks = [(np.abs(picture.astype(int) - BACKGROUND) > TOLERANCE).any(axis=-1) for picture in (one, other)]
    both = masks[0] & masks[1]
    vectors = [picture[both].astype(float) / 127.5 - 1 for picture in (one, other)]
    units = [values / np.linalg.norm(values, axis=1, keepdims=True).clip(1e-6) for values in vectors]
    angle = np.degrees(np.arccos((units[0] * units[1]).sum(axis=1).clip(-1, 1)))
    channels = {name: float(np.corrcoef(vectors[0][:, k], vectors[1][:, k])[0, 1]) for k, name in enumerate("xyz")}
    return {"iou": both.sum() / (masks[0] | masks[1]).sum(), "degrees": float(angle.mean()), **channels}


def main() -> None:
    """Turn, compare, print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("picture", type=Path)
    parser.add_argument("--crop", type=int, nargs=4)
    given = parser.parse_args()
    published = read_picture(given.picture, given.crop)
    # A coarse grid, then a finer one around its best.
    best, step = (0.0, 0.0), 15.0
    for offsets in ((-2, -1, 0, 1, 2), (-1, 0, 1), (-1, 0, 1)):
        poses = [(best[0] + step * a, best[1] + step * b) for a, b in product(offsets, offsets)]
        best = min(poses, key=lambda pose: compare(published, draw(*pose))["degrees"])
        step /= 2.5
    for name, pose in (("best", best), ("turned away", (best[0] - 60 if best[0] > 0 else best[0] + 60, best[1]))):
        values = compare(published, draw(*pose))
        print(f"{name:12} yaw {pose[0]:6.1f} pitch {pose[1]:6.1f}", *(f"{k} {v:.3f}" for k, v in values.items()))


if __name__ == "__main__":
    main()
