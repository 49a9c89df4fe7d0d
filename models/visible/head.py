"""The head that a picture should show: a person's shape, read from the embedding, in the pose and expression asked for.

It stands where Arc2Face's pose ControlNet has the normals of a FLAME mesh (arXiv 2403.11641, section 2.5 of its code):
shape of the identity, pose and expression of the view. Ours is the world's bare head, without hair, glasses, colour or
light. The embedding alone decides the shape: a person's 58 measures (`measure_person` of the world) are read from it
by a linear map, `measures.weight` and `measures.bias`, that `thermapair reference` fits beside the recogniser.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file
from torch import Tensor

from models.attributes import EXPRESSIONS
from models.captions.reading import read_attributes
from models.errors import EnvironmentFault
from models.faces.align import five_points
from models.faces.metrics import unit_vectors
from models.synthworld.sampling.domain import load_domain
from models.synthworld.sampling.draws import NamedDraws
from models.synthworld.sampling.person import person_from_measures
from models.synthworld.sampling.scene import Scene, View
from models.synthworld.shape.bare import locate_bare_faces, render_bare_heads

REFERENCE = "reference.safetensors"
"""The file beside a recogniser that holds the same map."""
SIZE = 512
"""Numbers of an embedding."""
NAMES = ("measures.weight", "measures.bias")
FOLD = 4
"""Pixels of a drawn head, down and across, to a latent cell: as fine as 12 cosines of 8 x 8 pixels are."""
FEATURES = ((3, 4), (5, 6), (9, 10, 11))
"""Pixel classes that a map of its own shows: eyes, brows, mouth."""
CHANNELS = 3 + len(FEATURES)
FOLDED = CHANNELS * FOLD**2
"""Channels that the U-Net takes beside the latents."""

_YAW = {"frontal": (0.0, 10.0), "slightly": (10.0, 30.0), "turned": (30.0, 60.0), "profile": (65.0, 75.0)}
"""Absolute yaw in degrees that a pose's words leave open (`scene.pose_word`), as far as the world's portraits turn."""


class HeadReader:
    """A linear map from embeddings to measures: weight float32 [58, 512], bias float32 [58]."""

    def __init__(self, weight: np.ndarray, bias: np.ndarray) -> None:
        self.weight, self.bias = weight, bias

    @classmethod
    def load(cls, path: Path) -> "HeadReader":
        """Read the two tensors of a file that holds them. Raises EnvironmentFault when it does not."""
        try:
            tensors = load_file(path)
            weight, bias = (tensors[name].astype(np.float32) for name in NAMES)
            if weight.ndim != 2 or weight.shape[1] != SIZE or bias.shape != weight.shape[:1]:
                raise ValueError(f"{NAMES[0]} has shape {weight.shape}, {NAMES[1]} {bias.shape}")
            return cls(weight, bias)
        except (OSError, SafetensorError, ValueError, TypeError) as error:
            raise EnvironmentFault(f"{path} is not readable: {error}. Fetch the bundle again.") from None
        except KeyError as error:
            raise EnvironmentFault(f"{path} has no tensor {error}: run `thermapair reference` again.") from None

    def save(self, path: Path) -> None:
        """Write the file that `load` reads, in float16."""
        # safetensors writes an array as it lies in memory, whatever its strides say.
        tensors = (np.ascontiguousarray(self.weight, np.float16), np.ascontiguousarray(self.bias, np.float16))
        save_file(dict(zip(NAMES, tensors, strict=True)), path)

    def __call__(self, embedding: np.ndarray) -> np.ndarray:
        """Return measures float32 [B, 58] of embeddings [B, 512] of any length."""
        measures: np.ndarray = (unit_vectors(embedding) @ self.weight.T + self.bias).astype(np.float32)
        return measures


def draw_heads(measures: np.ndarray, views: Sequence[View], side: int) -> np.ndarray:
    """Draw heads int8 [B, 4 side, 4 side, 6] for latents of `side`, from measures float32 [B, 58] and a view each.

    Normals times 127 (camera frame, 0 off the person), then 127 on eyes, on brows and on the mouth.
    """
    scenes = [Scene(person_from_measures(values), view) for values, view in zip(measures, views, strict=True)]
    normals, classes = render_bare_heads(scenes, FOLD * side)
    pictures = np.zeros((*classes.shape, CHANNELS), np.int8)
    pictures[..., :3] = (normals * 127).round().numpy()
    for channel, feature in enumerate(FEATURES, 3):
        pictures[..., channel] = np.isin(classes.numpy(), feature) * 127
    return pictures


def find_faces(measures: np.ndarray, views: Sequence[View], size: int) -> np.ndarray:
    """Return the five points of the heads that `draw_heads` draws, in pictures of `size` px, float32 [B, 5, 2]."""
    # Of the bare head, seen or not: a turned face has its far eye somewhere, too.
    scenes = [Scene(person_from_measures(values), view) for values, view in zip(measures, views, strict=True)]
    return five_points(locate_bare_faces(scenes, size).numpy())


def mirror_heads(heads: np.ndarray) -> np.ndarray:
    """Return heads int8 [B, S, S, 6] seen in a mirror: flipped, and the normals' horizontal component negated."""
    flipped = heads[:, :, ::-1].copy()
    flipped[..., 0] = -flipped[..., 0]
    return flipped


def fold_heads(heads: np.ndarray) -> Tensor:
    """Return what the U-Net takes beside the latents: float32 [B, 96, S / 4, S / 4] in [-1, 1] of heads int8 [B, S, S, 6]."""
    values = torch.from_numpy(np.ascontiguousarray(heads)).permute(0, 3, 1, 2).float() / 127
    return F.pixel_unshuffle(values, FOLD)


def view_of(words: Mapping[str, str], name: str) -> View:
    """Return a view of `words` (attributes, or what is known of them); what they leave open is drawn by `name`."""
    draws, domain = NamedDraws("view", "head", name), load_domain("portrait")
    # A frontal head may turn a little to either side; the other words name theirs, and left is the subject's own.
    pose = words.get("pose", "frontal")
    kind = next((kind for kind in ("slightly", "profile", "turned") if kind in pose), "frontal")
    side = -1.0 if "right" in pose or (kind == "frontal" and draws.uniform("side") < 0.5) else 1.0
    expression = words.get("expression", "neutral")
    return View(
        yaw=side * draws.uniform("yaw", *_YAW[kind]),
        pitch=draws.uniform("pitch", *domain.pose.pitch),
        roll=draws.uniform("roll", *domain.pose.roll),
        scale=draws.uniform("scale", *domain.framing.scale),
        shift_x=draws.clipped_normal("shift_x", domain.framing.shift),
        shift_y=draws.clipped_normal("shift_y", domain.framing.shift),
        distance_m=draws.uniform("distance_m", *domain.framing.distance_m),
        expression=expression if expression in EXPRESSIONS else "neutral",
        strength=draws.uniform("strength", *domain.looks.strength),
    )


def views_of(captions: Sequence[str], names: Sequence[str], poses: np.ndarray | None = None) -> list[View]:
    """Return the view of each caption: pose and expression as it says, the rest drawn by its row's name.

    poses: float32 [B, 3], yaw, pitch and roll in degrees that go before the caption's words; NaN leaves an angle to these.
    """
    views = [view_of(read_attributes(caption), name) for caption, name in zip(captions, names, strict=True)]
    if poses is None:
        return views
    return [turn_view(view, pose) for view, pose in zip(views, poses, strict=True)]


def turn_view(view: View, pose: np.ndarray) -> View:
    """Return `view` with yaw, pitch and roll [3] in degrees in place of its own; NaN keeps an angle."""
    own = (view.yaw, view.pitch, view.roll)
    yaw, pitch, roll = (float(a) if np.isfinite(a) else b for a, b in zip(pose, own, strict=True))
    return replace(view, yaw=yaw, pitch=pitch, roll=roll)
