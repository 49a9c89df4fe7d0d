"""FaceCLIP's encoder with the heads of its alignment, beside the frozen towers that it is aligned to."""

from pathlib import Path
from typing import Literal, NamedTuple

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F

from models.errors import EnvironmentFault
from models.visible.faceclip.alignment import Aligned, Heads, freeze_towers
from models.visible.faceclip.clip import Clip
from models.visible.faceclip.encoder import Branch, FaceClip
from models.visible.faceclip.files import HEADS, load_clip, load_encoder
from models.visible.faceclip.tokenizer import add_prefix, tokenize
from models.weights.networks import device_of, load_strictly

TextTarget = Literal["caption", "prefixed"]
"""Of which text the vector is that fused tokens are aligned to: without the prefix and its id token, or with both."""


class AlignedEncoder(nn.Module):
    """The encoder with a pair of heads for each branch, beside the towers that it is aligned to, which are no submodule."""

    def __init__(self, encoder: FaceClip, clip: Clip) -> None:
        super().__init__()
        self.encoder = encoder
        freeze_towers(encoder)
        shapes, identity = encoder.config, encoder.config.vit.out
        self.l = Heads(shapes.l.width, identity, clip.config.l.width, clip.config.l.width)
        self.g = Heads(shapes.g.width, identity, clip.config.g.width, clip.config.g.width)
        self._frozen = (clip,)

    def clip(self) -> Clip:
        """Return the frozen towers, on the device of what learns."""
        return self._frozen[0].to(device_of(self))

    def branches(self) -> tuple[tuple[Branch, Heads], ...]:
        """Return both branches with their heads."""
        return (self.encoder.face_clip_l, self.l), (self.encoder.face_clip_g, self.g)

    def fuse(self, faces: Tensor, texts: list[str], has_face: Tensor) -> list[Aligned]:
        """Return what both branches make of faces [B, 3, 112, 112] and texts without prefix."""
        ids = tokenize(add_prefix(texts, has_face.tolist())).to(faces.device)
        with torch.no_grad():
            tokens = self.encoder.encode_faces(faces)
        return [
            heads(branch(read, ids, has_face)[0]) for read, (branch, heads) in zip(tokens, self.branches(), strict=True)
        ]


class Targets(NamedTuple):
    """What fused tokens are compared with, vectors of length one; of texts and pictures one set for each branch."""

    identity: list[Tensor]
    text: tuple[Tensor, Tensor]
    image: list[Tensor]


def load_trained(folder: Path, towers: Path) -> AlignedEncoder:
    """Return the encoder and its heads that a training wrote to `folder`, frozen. Raises EnvironmentFault for missing files."""
    clip, encoder = load_clip(towers), load_encoder(folder)
    model = AlignedEncoder(encoder, clip)
    path = folder / HEADS
    if not path.is_file():
        raise EnvironmentFault(f"{path} is missing: `train faceclip` writes it beside the encoder.")
    state = {key: value.float() for key, value in load_file(str(path)).items()}
    for name in "lg":
        own = {key.removeprefix(f"{name}."): value for key, value in state.items() if key.startswith(f"{name}.")}
        load_strictly(getattr(model, name), own, path)
    return model.requires_grad_(False).eval()


def find_targets(
    model: AlignedEncoder, faces: Tensor, pictures: Tensor, captions: list[str], text_target: TextTarget
) -> Targets:
    """Return the frozen vectors of faces, texts and pictures, and the pictures' as the heads bring them to the texts."""
    clip = model.clip()
    texts = captions if text_target == "caption" else add_prefix(captions, [True] * len(captions))
    with torch.no_grad():
        identity = [F.normalize(tokens.vector.float(), dim=-1) for tokens in model.encoder.encode_faces(faces)]
        text = clip.read_texts(tokenize(texts).to(faces.device))
        image = clip.read_pictures(pictures)
    projected = [heads.project_image(own) for (_, heads), own in zip(model.branches(), image, strict=True)]
    return Targets(identity, text, projected)
