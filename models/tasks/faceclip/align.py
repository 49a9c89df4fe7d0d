"""Train FaceCLIP's alignment: what fuses a face and a text, so that the result is near both and near the picture of both.

python -m cluster train faceclip --data URI --validation URI --out DIR --set face=DIR --set towers=DIR

Face ViT, text towers and vision tower are frozen. It begins with those of `face` and `towers`, or with a whole
encoder (`encoder`) whose text towers `towers` has, too.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import torch
from pydantic import Field, model_validator
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F

from models.card import Card
from models.columns import Columns
from models.errors import EnvironmentFault, UserError
from models.tasks import Place, TrainConfig
from models.tasks.faceclip.rows import COLUMNS as ROW_COLUMNS
from models.tasks.faceclip.rows import number, other_views, prepare_rows, write_captions
from models.visible.faceclip.alignment import Aligned, Heads, Loss, contrast, freeze_towers, pair_rows
from models.visible.faceclip.clip import Clip
from models.visible.faceclip.config import FaceClipConfig, FuserConfig
from models.visible.faceclip.encoder import Branch, FaceClip
from models.visible.faceclip.faces import no_face, to_faces
from models.visible.faceclip.files import HEADS, load_clip, load_encoder, load_vit, save_encoder
from models.visible.faceclip.retrieval import choose_in_conflict, draw_others, recall_at_one
from models.visible.faceclip.tokenizer import add_prefix, tokenize
from models.weights.networks import device_of, load_strictly, to_half

COLUMNS = ROW_COLUMNS
BATCH = 64
ASKING = ("face", "text", "joint")
SUMMARY = """One embedding of a face and a text: FaceCLIP's encoder at small width, its fusion trained so that the fused tokens
say who is shown, what is said, and which picture is meant. The heads beside it belong to the training."""
LIMITS = """It knows rendered people of the synthetic world and captions of the grammar. A face is read from a crop in colour,
aligned as ArcFace does it."""


class Config(TrainConfig):
    """What the paper leaves open (weights, batch, the text's target) is chosen here."""

    steps: int = Field(1500, gt=0)
    batch: int = Field(64, gt=1)
    lr: float = Field(5e-4, gt=0)
    weight_decay: float = Field(0.05, ge=0)
    ema: float = Field(0.998, ge=0, lt=1)
    channels_last: bool = False
    validate_rows: int = Field(1000, gt=1)
    face: Place = Field("", description="folder of a face ViT, what `train faceclip_face` wrote")
    towers: Place = Field("", description="folder of the towers, what `train faceclip_clip` wrote")
    encoder: Place = Field("", description="folder of a whole encoder to begin with, in place of `face`")
    fuser: FuserConfig = FuserConfig(layers=3, dim_feedforward=256, nhead=8, points=4)
    loss: Loss = Field("sigmoid", description="softmax is CLIP's")
    identity_weight: float = Field(1.0, ge=0, description="of the fused tokens against the face's vector")
    text_weight: float = Field(1.0, ge=0, description="of the fused tokens against the text's vector")
    image_weight: float = Field(1.0, ge=0, description="of the fused tokens against the picture's vector")
    text_target: Literal["caption", "prefixed"] = Field(
        "caption", description="of which text the vector is: without the prefix and its id token, or with both"
    )
    drop_attribute: float = Field(0.1, ge=0, lt=1, description="chance of each attribute to go unsaid in a caption")
    drop_face: float = Field(0.1, ge=0, lt=1, description="share of rows without a face, which learn the text alone")

    @model_validator(mode="after")
    def _check(self) -> "Config":
        if not self.identity_weight + self.text_weight + self.image_weight:
            raise ValueError("all weights of the loss are 0: nothing would be learned")
        return self


class Trained(nn.Module):
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


def load_trained(folder: Path, towers: Path) -> Trained:
    """Return the encoder and its heads that a training wrote to `folder`, frozen. Raises EnvironmentFault for missing files."""
    clip, encoder = load_clip(towers), load_encoder(folder)
    model = Trained(encoder, clip)
    path = folder / HEADS
    if not path.is_file():
        raise EnvironmentFault(f"{path} is missing: `train faceclip` writes it beside the encoder.")
    state = {key: value.float() for key, value in load_file(str(path)).items()}
    for name in "lg":
        own = {key.removeprefix(f"{name}."): value for key, value in state.items() if key.startswith(f"{name}.")}
        load_strictly(getattr(model, name), own, path)
    return model.requires_grad_(False).eval()


def weights(config: Config) -> list[Path]:
    """Return the folders that the training begins with."""
    return [Path(path) for path in (config.face, config.towers, config.encoder) if path]


def build(config: Config) -> nn.Module:
    """Return encoder and heads. Raises UserError where it is not said what to begin with."""
    if not config.towers or not (config.face or config.encoder):
        raise UserError(
            "faceclip begins with towers=DIR and face=DIR (or encoder=DIR): train faceclip_clip, faceclip_face"
        )
    clip = load_clip(Path(config.towers))
    encoder = load_encoder(Path(config.encoder)) if config.encoder else _assemble(clip, config)
    return Trained(encoder, clip)


def _assemble(clip: Clip, config: Config) -> FaceClip:
    """Return an encoder of a face ViT and two text towers, with a fresh fusion."""
    shape, vit = load_vit(Path(config.face))
    encoder = FaceClip(FaceClipConfig(vit=shape, l=clip.config.l, g=clip.config.g, fuser=config.fuser))
    for branch, tower in ((encoder.face_clip_l, clip.l), (encoder.face_clip_g, clip.g)):
        branch.face_encoder.load_state_dict(vit)
        own = {key: value for key, value in tower.state_dict().items() if not key.startswith("logit_")}
        branch.load_state_dict(own, strict=False)
    encoder.share_face_encoder()
    return encoder


def prepare(rows: Columns, config: Config) -> Columns:
    """Return crops, pictures, persons and attributes; see `prepare_rows`."""
    return prepare_rows(rows)


def loss(model: nn.Module, batch: Columns, config: Config, step: int) -> tuple[Tensor, dict[str, float]]:
    """Return the weighted sum of the three alignments, the mean of both branches; each is logged.

    Rows without a face are out of the identity's alignment, and of the picture's as well, which they cannot name.
    """
    assert isinstance(model, Trained)
    device = device_of(model)
    # What the rows are told: a caption, and of most of them a face.
    captions = write_captions(batch["attributes"], batch["draw"], config.drop_attribute)
    has_face = torch.tensor(
        [np.random.default_rng((int(draw), 1)).random() >= config.drop_face for draw in batch["draw"]], device=device
    )
    # What frozen networks say of face, text and picture, and which rows are of one person or caption.
    faces = to_faces(batch["crop"], device)
    targets = _targets(model, faces, to_faces(batch["picture"], device), captions, config)
    shown = faces * has_face[:, None, None, None]
    pairs = pair_rows(torch.from_numpy(batch["person"]).to(device), number(captions).to(device))
    # A row without a face is nobody's: neither like nor unlike any other.
    alone = ~(has_face[:, None] & has_face)
    of_faces = pairs._replace(positive=pairs.positive & ~alone, ignored=pairs.ignored | alone)
    # Each branch's tokens against the three, in float32.
    terms = {"identity": faces.new_zeros(()), "text": faces.new_zeros(()), "image": faces.new_zeros(())}
    fused = model.fuse(shown, captions, has_face)
    with torch.autocast(device.type, enabled=False):
        for place, ((branch, _), found) in enumerate(zip(model.branches(), fused, strict=True)):
            terms["identity"] += contrast(found.identity, targets.identity[place], of_faces, branch, config.loss) / 2
            terms["text"] += contrast(found.text, targets.text[place], pairs, branch, config.loss) / 2
            terms["image"] += contrast(found.text, targets.image[place], of_faces, branch, config.loss) / 2
    total = sum(getattr(config, f"{name}_weight") * value for name, value in terms.items())
    assert isinstance(total, Tensor)
    return total, {name: float(value.detach()) for name, value in terms.items()}


def _targets(model: Trained, faces: Tensor, pictures: Tensor, captions: list[str], config: Config) -> Targets:
    """Return the frozen vectors of faces, texts and pictures, and the pictures' as the heads bring them to the texts."""
    clip = model.clip()
    texts = captions if config.text_target == "caption" else add_prefix(captions, [True] * len(captions))
    with torch.no_grad():
        identity = [F.normalize(tokens.vector.float(), dim=-1) for tokens in model.encoder.encode_faces(faces)]
        text = clip.read_texts(tokenize(texts).to(faces.device))
        image = clip.read_pictures(pictures)
    projected = [heads.project_image(own) for (_, heads), own in zip(model.branches(), image, strict=True)]
    return Targets(identity, text, projected)


def validate(model: nn.Module, rows: Iterable[Columns], config: Config) -> dict[str, float]:
    """Return R@1 of pictures by face, text and both, and how often a picture is given its own pair in a conflict.

    The face that is asked with is that of another picture of the person, where there is one.
    """
    assert isinstance(model, Trained)
    prepared = [{**prepare(decoded, config), "row": decoded["row"]} for decoded in rows]
    data = {name: np.concatenate([each[name] for each in prepared]) for name in prepared[0]}
    captions = write_captions(data["attributes"], data["row"], 0.0)
    crops = data["crop"][other_views(data["person"], data["view"])]
    vectors, conflict = ask(model, data, crops, captions, config)
    metrics = {name: float(values.mean()) for name, values in {**find_pictures(vectors), **conflict}.items()}
    return {"score": metrics["r1_joint"], **metrics, "pictures": float(len(captions))}


def ask(
    model: Trained, data: Columns, crops: np.ndarray, captions: list[str], config: Config
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Return the vectors of pictures and of what asks for them, and what the conflict test chooses.

    data: `crop` and `picture` of N pictures, and `person`. crops: the faces that are asked with, uint8 [N, 112, 112, 3].

    vectors: `image` and, by who asks, `face`, `text` and `joint`, float32 [N, D]. The choices are whether a picture is given its
    own pair, `conflict_joint` and so on, float64 [N]: by the embedding of both, by the face alone, by the text alone, and by the
    sum of these two.
    """
    images = _describe_pictures(model, data, captions, config)
    # Who is asked for, and what: own and another's.
    other = draw_others(data["person"], number(captions).numpy(), config.seed)
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
    return {f"r1_{name}": recall_at_one(vectors[name] @ vectors["image"].T) for name in ASKING}


def _describe_pictures(model: Trained, data: Columns, captions: list[str], config: Config) -> np.ndarray:
    """Return what pictures are found by, float32 [N, D]: the vectors of their faces and of themselves, of both branches."""
    parts = []
    for first in range(0, len(captions), BATCH):
        few = slice(first, first + BATCH)
        faces, pictures = (to_faces(data[name][few], device_of(model)) for name in ("crop", "picture"))
        targets = _targets(model, faces, pictures, captions[few], config)
        parts.append(torch.cat([*targets.identity, *targets.image], -1).float().cpu())
    return torch.cat(parts).numpy()


def _fuse_all(model: Trained, crops: np.ndarray | None, captions: list[str]) -> np.ndarray:
    """Return what asks for pictures, float32 [N, D] as `_describe_pictures` has it; without crops no row has a face."""
    parts = []
    for first in range(0, len(captions), BATCH):
        texts = captions[first : first + BATCH]
        device = device_of(model)
        faces = no_face(len(texts), device) if crops is None else to_faces(crops[first : first + BATCH], device)
        has_face = torch.full((len(texts),), crops is not None, device=device)
        fused = model.fuse(faces, texts, has_face)
        parts.append(torch.cat([*(one.identity for one in fused), *(one.text for one in fused)], -1).float().cpu())
    return torch.cat(parts).numpy()


def export(model: nn.Module, config: Config, folder: Path, card: Card) -> None:
    """Write the encoder in float16, the heads that it was trained with, and the card."""
    assert isinstance(model, Trained)
    save_encoder(to_half(model.encoder.state_dict()), model.encoder.config, folder)
    heads = {f"{name}.{key}": value for name in "lg" for key, value in getattr(model, name).state_dict().items()}
    save_file(to_half(heads), str(folder / HEADS))
    facts = {"title": "FaceCLIP's encoder, small", "summary": SUMMARY, "limits": LIMITS}
    card.model_copy(update=facts).write(folder)
