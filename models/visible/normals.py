"""The pose ControlNet's picture: a person's bare head as Arc2Face's users show it (arXiv 2403.11641, section 4.4).

Theirs is a FLAME mesh that EMOCA fits, drawn as normals: x to the image right in red, y up in green, z to the camera in blue,
each as (n + 1) / 2, grey where nothing is; a bald head with its neck, in a portrait cut out as FFHQ cuts (arXiv 1812.04948,
appendix C). Ours is the world's head under the same rules, so neither a mesh's licence nor a renderer is needed.
`tests/benchmarks/condition_picture.py` compares the two.
"""

import functools
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from models.classes import CLASSES
from models.config import parse_json
from models.errors import EnvironmentFault
from models.synthworld.sampling.person import measure_person, person_from_measures, sample_person
from models.synthworld.sampling.scene import Scene, View
from models.synthworld.shape.bare import render_bare_heads
from models.synthworld.shape.figure import figure
from models.synthworld.shape.framing import framing
from models.synthworld.shape.landmarks import landmarks

FILE = "normals.json"
"""Beside a ControlNet of our own: which framing it was trained with."""
Framing = Literal["ffhq", "view"]
BACKGROUND = 127
CLOTHES = CLASSES.index("CLOTHING")
RIGHT_EYE, LEFT_EYE, MOUTH = slice(36, 42), slice(42, 48), (48, 54)
"""Points of the 70."""
FINEST = 256
"""Most pixels across that are drawn; larger pictures are these enlarged, as normals of skin are smooth."""
PEOPLE = 64
"""People that the average head is taken over."""


@functools.cache
def average_measures() -> np.ndarray:
    """Return the measures float32 [58] of the world's average head, for recognisers whose embeddings no map reads."""
    return np.stack([measure_person(sample_person(identity)) for identity in range(PEOPLE)]).mean(axis=0)


def draw_normals(measures: np.ndarray, views: Sequence[View], size: int, framing_of: Framing = "ffhq") -> Tensor:
    """Draw heads float32 [B, 3, size, size] in [0, 1], from measures float32 [B, 58] and a view each.

    framing_of: `ffhq` puts faces where FFHQ's alignment does and keeps a view's pose and expression alone; `view` keeps all of
    a view.
    """
    scenes = [Scene(person_from_measures(m), view) for m, view in zip(measures, views, strict=True)]
    if framing_of == "ffhq":
        scenes = [frame_portrait(scene) for scene in scenes]
    return enlarge(torch.from_numpy(draw_pictures(scenes, min(size, FINEST))), size)


def enlarge(pictures: Tensor, size: int) -> Tensor:
    """Return pictures uint8 [B, s, s, 3] as a ControlNet takes them: float32 [B, 3, size, size] in [0, 1]."""
    values = pictures.permute(0, 3, 1, 2).float()
    return F.interpolate(values, size=(size, size), mode="bilinear").div_(255)


def draw_pictures(scenes: Sequence[Scene], size: int) -> np.ndarray:
    """Return the normals uint8 [B, size, size, 3] of heads."""
    normals, classes = render_bare_heads(scenes, size)
    # The published mesh ends at the neck: what is dressed is not there.
    normals[classes == CLOTHES] = 0
    pictures: np.ndarray = ((normals.numpy() * 0.5 + 0.5) * 255).astype(np.uint8)
    return pictures


def mirror_normals(pictures: np.ndarray) -> np.ndarray:
    """Return pictures uint8 [B, S, S, 3] seen in a mirror: flipped, and the normals' horizontal component negated."""
    flipped = pictures[:, :, ::-1].copy()
    flipped[..., 0] = 2 * BACKGROUND - np.minimum(flipped[..., 0], 2 * BACKGROUND)
    return flipped


def frame_portrait(scene: Scene) -> Scene:
    """Return the scene with its face where FFHQ's alignment puts it, its roll kept.

    The square's centre lies a tenth of the way from the eyes to the mouth; its side is four distances of the eyes, or 3.6
    from eyes to mouth, whichever is longer.
    """
    right, left, mouth = _features(scene)
    eyes = (right + left) / 2
    centre = eyes + 0.1 * (mouth - eyes)
    side = 2 * max(2.0 * float(np.linalg.norm(left - right)), 1.8 * float(np.linalg.norm(mouth - eyes)))
    return _move(scene, 1 / side, centre, np.array([0.5, 0.5]))


def frame_onto(scene: Scene, landmarks_70: np.ndarray, size: int) -> Scene:
    """Return the scene with its face on a picture's landmarks float [70, 2] in pixels: its eyes and mouth as far apart, and
    their middle in the same place."""
    right, left, mouth = _features(scene)
    wanted = np.asarray(landmarks_70, np.float64) / size
    wanted_eyes = (wanted[RIGHT_EYE].mean(axis=0) + wanted[LEFT_EYE].mean(axis=0)) / 2
    wanted_mouth, eyes = wanted[list(MOUTH)].mean(axis=0), (right + left) / 2
    ratio = float(np.linalg.norm(wanted_mouth - wanted_eyes) / np.linalg.norm(mouth - eyes))
    return _move(scene, ratio, (eyes + mouth) / 2, (wanted_eyes + wanted_mouth) / 2)


def _features(scene: Scene) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return where right eye, left eye and mouth lie, float64 [2] each, as shares of the picture."""
    points = framing(scene.view, 1).project(landmarks(figure(scene))[0])[0].double().numpy()
    return points[RIGHT_EYE].mean(axis=0), points[LEFT_EYE].mean(axis=0), points[list(MOUTH)].mean(axis=0)


def _move(scene: Scene, ratio: float, point: np.ndarray, to: np.ndarray) -> Scene:
    """Return the scene `ratio` times as large in the picture, `point` moved to `to` (shares of the picture)."""
    view = scene.view
    # A point's place is half a picture, plus the shift, plus something in proportion to the scale.
    shift = to - 0.5 - (point - 0.5 - np.array([view.shift_x, view.shift_y])) * ratio
    moved = replace(view, scale=view.scale * ratio, shift_x=float(shift[0]), shift_y=float(shift[1]))
    return replace(scene, view=moved)


def read_framing(folder: Path) -> Framing:
    """Return how the pictures of a ControlNet's folder are framed: as its `normals.json` says, else as FFHQ's."""
    path = folder / FILE
    if not path.is_file():
        return "ffhq"
    said = parse_json(path.read_text()).get("framing")
    if said not in ("ffhq", "view"):
        raise EnvironmentFault(f"{path}: framing is {said!r}, neither ffhq nor view. Fetch the folder again.")
    return "ffhq" if said == "ffhq" else "view"
