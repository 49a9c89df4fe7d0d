"""What the aligned embedding finds: pictures by a face, a text or both, and the right pair of the two in a conflict."""

from collections.abc import Mapping

import numpy as np
import torch

from models.columns import Columns
from models.tasks.faceclip.aligned import AlignedEncoder, TextTarget, find_targets
from models.tasks.faceclip.rows import number
from models.visible.faceclip.faces import no_face, to_faces
from models.visible.faceclip.retrieval import choose_in_conflict, draw_others, recall_at_one
from models.weights.networks import device_of

BATCH = 64
ASKING = ("face", "text", "joint")


def ask(
    model: AlignedEncoder,
    data: Columns,
    crops: np.ndarray,
    captions: list[str],
    text_target: TextTarget = "caption",
    seed: int = 0,
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Return the vectors of pictures and of what asks for them, and what the conflict test chooses.

    data: `crop` and `picture` of N pictures, and `person`. crops: the faces that are asked with, uint8 [N, 112, 112, 3].

    vectors: `image` and, by who asks, `face`, `text` and `joint`, float32 [N, D]. The choices are whether a picture is given its
    own pair, `conflict_joint` and so on, float64 [N]: by the embedding of both, by the face alone, by the text alone, and by the
    sum of these two. A face alone is read by the head of identities and a text alone by that of texts: of the other head
    neither has learned anything, and its vector is zero.
    """
    images = _describe_pictures(model, data, captions, text_target)
    # Who is asked for, and what: own and another's.
    other = draw_others(data["person"], number(captions).numpy(), seed)
    asked = {
        "face": (crops, [""] * len(captions)),
        "text": (None, captions),
        "joint": (crops, captions),
        "other_text": (crops, [captions[row] for row in other]),
        "other_face": (crops[other], captions),
        "other_both": (crops[other], [captions[row] for row in other]),
    }
    found = {name: _fuse_all(model, *given) for name, given in asked.items()}
    # The four-way choice of every picture.
    near = {name: (vectors * images).sum(axis=1) for name, vectors in found.items()}
    face, text = (
        (near["face"], (found["face"][other] * images).sum(1)),
        (near["text"], (found["text"][other] * images).sum(1)),
    )
    four = {
        "joint": np.stack([near[name] for name in ("joint", "other_text", "other_face", "other_both")], 1),
        "face": np.stack([face[0], face[0], face[1], face[1]], 1),
        "text": np.stack([text[0], text[1], text[0], text[1]], 1),
        "sum": np.stack([face[0] + text[0], face[0] + text[1], face[1] + text[0], face[1] + text[1]], 1),
    }
    chosen = {f"conflict_{name}": choose_in_conflict(scores) for name, scores in four.items()}
    return {"image": images, **{name: found[name] for name in ASKING}}, chosen


def find_pictures(vectors: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return whether what asks finds its own picture first (R@1), `r1_face` and so on, float64 [N]; vectors: those of `ask`."""
    near = {name: vectors[name] @ vectors["image"].T for name in ASKING}
    near["sum"] = near["face"] + near["text"]
    return {f"r1_{name}": recall_at_one(scores) for name, scores in near.items()}


def _describe_pictures(
    model: AlignedEncoder, data: Columns, captions: list[str], text_target: TextTarget
) -> np.ndarray:
    """Return what pictures are found by, float32 [N, D]: the vectors of their faces and of themselves, of both branches."""
    parts = []
    for first in range(0, len(captions), BATCH):
        few = slice(first, first + BATCH)
        faces, pictures = (to_faces(data[name][few], device_of(model)) for name in ("crop", "picture"))
        targets = find_targets(model, faces, pictures, captions[few], text_target)
        parts.append(torch.cat([*targets.identity, *targets.image], -1).float().cpu())
    return torch.cat(parts).numpy()


def _fuse_all(model: AlignedEncoder, crops: np.ndarray | None, captions: list[str]) -> np.ndarray:
    """Return what asks for pictures, float32 [N, D] as `_describe_pictures` has it; without crops no row has a face, and the
    part of identities is zero, as is that of texts and pictures where captions are empty."""
    parts = []
    for first in range(0, len(captions), BATCH):
        texts = captions[first : first + BATCH]
        device = device_of(model)
        faces = no_face(len(texts), device) if crops is None else to_faces(crops[first : first + BATCH], device)
        has_face = torch.full((len(texts),), crops is not None, device=device)
        said = torch.tensor([bool(text) for text in texts], device=device)
        fused = model.fuse(faces, texts, has_face)
        identity = [one.identity * has_face[:, None] for one in fused]
        text = [one.text * said[:, None] for one in fused]
        parts.append(torch.cat([*identity, *text], -1).float().cpu())
    return torch.cat(parts).numpy()
