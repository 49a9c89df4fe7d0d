"""A bundle of a translator with random weights, 32 px, and thermal pictures for it."""

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import yaml

from models.weights.store import seal
from tests.models.translation.tiny import write_part

SIDE = 32


def write_bundle(folder: Path, part: Path | None = None, **values: Any) -> str:
    """Write a bundle of `part`, by default a fresh one below `folder`, and return its file. values: of the part."""
    folder.mkdir(exist_ok=True)
    part = part or write_part(folder)
    seal(part)
    own = {
        "kind": "latent-diffusion",
        "weights": str(part),
        "licence": "apache-2.0",
        "batch": 2,
        "settings": {"steps": 2},
    }
    path = folder / "bundle.yaml"
    path.write_text(yaml.safe_dump({"name": "small", "size": SIDE, "parts": {"translate": own | values}}))
    return str(path)


def write_pictures(folder: Path, count: int) -> str:
    """Write thermal pictures in centikelvin, a warm middle before a cool background, and return their folder."""
    folder.mkdir()
    y, x = np.mgrid[:SIDE, :SIDE]
    inside = (y - 16) ** 2 + (x - 16) ** 2 < 120
    for number in range(count):
        celsius = np.where(inside, 33.0 + number / 4, 22.0)
        cv2.imwrite(str(folder / f"{number}.png"), np.rint((celsius + 273.15) * 100).astype(np.uint16))
    return str(folder)
