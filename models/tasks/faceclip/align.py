"""Train FaceCLIP's alignment: what fuses a face and a text, so that the result is near both and near the picture of both.

python -m cluster train faceclip --data URI --validation URI --out DIR --set face=DIR --set towers=DIR

Face ViT, text towers and vision tower are frozen. It begins with those of `face` and `towers`, or with a whole
encoder (`encoder`) whose text towers `towers` has, too.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import Field, model_validator
from safetensors.torch import save_file
from torch import Tensor, nn

from models.card import Card, history
from models.columns import Columns
from models.errors import UserError
from models.tasks import Place, TrainConfig
from models.tasks.faceclip.aligned import AlignedEncoder, TextTarget, find_targets
from models.tasks.faceclip.asking import ask, find_pictures
from models.tasks.faceclip.rows import COLUMNS as ROW_COLUMNS
from models.tasks.faceclip.rows import number, other_views, prepare_rows, write_captions
from models.visible.faceclip.alignment import Loss, contrast, pair_rows
from models.visible.faceclip.clip import Clip
from models.visible.faceclip.config import FaceClipConfig, FuserConfig
from models.visible.faceclip.encoder import FaceClip
from models.visible.faceclip.faces import to_faces
from models.visible.faceclip.files import HEADS, load_clip, load_encoder, load_vit, save_encoder
from models.weights.networks import device_of, to_half

COLUMNS = ROW_COLUMNS
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
    text_target: TextTarget = Field(
        "caption", description="of which text the vector is: without the prefix and its id token, or with both"
    )
    drop_attribute: float = Field(0.1, ge=0, lt=1, description="chance of each attribute to go unsaid in a caption")
    drop_face: float = Field(0.1, ge=0, lt=1, description="share of rows without a face, which learn the text alone")

    @model_validator(mode="after")
    def _check(self) -> "Config":
        if not self.identity_weight + self.text_weight + self.image_weight:
            raise ValueError("all weights of the loss are 0: nothing would be learned")
        return self


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
    _check_towers(encoder, clip, config)
    return AlignedEncoder(encoder, clip)


def _check_towers(encoder: FaceClip, clip: Clip, config: Config) -> None:
    """Raise UserError where the text towers of the encoder are not those that it is to be aligned to."""
    for name, branch, tower in (("l", encoder.face_clip_l, clip.l), ("g", encoder.face_clip_g, clip.g)):
        own, theirs = branch.state_dict(), tower.state_dict()
        for key in (key for key in theirs if not key.startswith("logit_")):
            if (
                key not in own
                or own[key].shape != theirs[key].shape
                or not torch.allclose(
                    own[key],
                    theirs[key],
                    atol=2e-3,  # an encoder is stored in float16
                )
            ):
                raise UserError(
                    f"{config.encoder or config.face} has other text towers than {config.towers} ({name}: {key}): an encoder "
                    "is aligned to the towers that it holds, so name those that it was made with."
                )


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
    assert isinstance(model, AlignedEncoder)
    device = device_of(model)
    # What the rows are told: a caption, and of most of them a face.
    captions = write_captions(batch["attributes"], batch["draw"], config.drop_attribute)
    has_face = torch.tensor(
        [np.random.default_rng((int(draw), 1)).random() >= config.drop_face for draw in batch["draw"]], device=device
    )
    # What frozen networks say of face, text and picture, and which rows are of one person or caption.
    faces = to_faces(batch["crop"], device)
    targets = find_targets(model, faces, to_faces(batch["picture"], device), captions, config.text_target)
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


def validate(model: nn.Module, rows: Iterable[Columns], config: Config) -> dict[str, float]:
    """Return R@1 of pictures by face, text and both, and how often a picture is given its own pair in a conflict.

    The face that is asked with is that of another picture of the person, where there is one.
    """
    assert isinstance(model, AlignedEncoder)
    prepared = [{**prepare(decoded, config), "row": decoded["row"]} for decoded in rows]
    data = {name: np.concatenate([each[name] for each in prepared]) for name in prepared[0]}
    captions = write_captions(data["attributes"], data["row"], 0.0)
    crops = data["crop"][other_views(data["person"], data["view"])]
    vectors, conflict = ask(model, data, crops, captions, config.text_target, config.seed)
    metrics = {name: float(values.mean()) for name, values in {**find_pictures(vectors), **conflict}.items()}
    return {"score": metrics["r1_joint"], **metrics, "pictures": float(len(captions))}


def export(model: nn.Module, config: Config, folder: Path, card: Card) -> None:
    """Write the encoder in float16, the heads that it was trained with, and the card."""
    assert isinstance(model, AlignedEncoder)
    save_encoder(to_half(model.encoder.state_dict()), model.encoder.config, folder)
    heads = {f"{name}.{key}": value for name in "lg" for key, value in getattr(model, name).state_dict().items()}
    save_file(to_half(heads), str(folder / HEADS))
    before = [line for place in (config.face, config.towers, config.encoder) if place for line in history(Path(place))]
    facts: dict[str, Any] = {"title": "FaceCLIP's encoder, small", "summary": SUMMARY, "limits": LIMITS}
    facts["history"] = list(dict.fromkeys([*card.history, *before]))
    card.model_copy(update=facts).write(folder)
