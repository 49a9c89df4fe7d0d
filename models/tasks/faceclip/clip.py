"""Train the towers that a small FaceCLIP begins with: two of texts and one of pictures, on pictures with captions.

python -m cluster train faceclip_clip --data URI --validation URI --out DIR
"""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from models.card import Card
from models.columns import Columns
from models.tasks import TrainConfig
from models.tasks.faceclip.rows import COLUMNS as ROW_COLUMNS
from models.tasks.faceclip.rows import number, prepare_rows, write_captions
from models.visible.faceclip.alignment import Loss, Pairs, contrast
from models.visible.faceclip.clip import Clip, ClipConfig
from models.visible.faceclip.faces import to_faces
from models.visible.faceclip.files import save_clip
from models.visible.faceclip.retrieval import recall_at_one
from models.visible.faceclip.tokenizer import tokenize
from models.weights.networks import device_of

COLUMNS = ROW_COLUMNS
SUMMARY = """Tells which caption is which picture's: two CLIP text towers (QuickGELU and GELU, OpenAI's vocabulary) and a ViT of
112 px. `train faceclip` takes it as `towers`."""
LIMITS = "It has seen rendered people of the synthetic world and captions of the grammar alone."


class Config(TrainConfig):
    steps: int = Field(1500, gt=0)
    batch: int = Field(96, gt=1)
    lr: float = Field(1e-3, gt=0)
    weight_decay: float = Field(0.05, ge=0)
    ema: float = Field(0.998, ge=0, lt=1)
    validate_rows: int = Field(1000, gt=1)
    towers: ClipConfig = ClipConfig()
    loss: Loss = Field("softmax", description="of the towers; sigmoid begins at the bias -10 and wants larger batches")
    drop_attribute: float = Field(0.1, ge=0, lt=1, description="chance of each attribute to go unsaid in a caption")
    jitter: float = Field(0.2, ge=0, lt=1, description="by which brightness and contrast of pictures vary at most")


def build(config: Config) -> nn.Module:
    """Return fresh towers."""
    return Clip(config.towers)


def prepare(rows: Columns, config: Config) -> Columns:
    """Return pictures and attributes; see `prepare_rows`."""
    prepared = prepare_rows(rows)
    return {name: prepared[name] for name in ("picture", "attributes")}


def loss(model: nn.Module, batch: Columns, config: Config, step: int) -> tuple[Tensor, dict[str, float]]:
    """Return the contrastive loss of pictures and captions, the mean of both text towers'.

    The same caption of two pictures is neither right nor wrong for either.
    """
    assert isinstance(model, Clip)
    # Pictures and captions as this visit shows them, and who says the same.
    captions = write_captions(batch["attributes"], batch["draw"], config.drop_attribute)
    pictures = _jitter(to_faces(batch["picture"]), batch["draw"], config.jitter)
    device = device_of(model)
    same = number(captions)
    alike, own = same[:, None] == same, torch.eye(len(same), dtype=torch.bool)
    pairs = Pairs(own.to(device), (alike & ~own).to(device))
    # Both text towers against the pictures' towers of their own.
    vectors = zip(
        model.read_texts(tokenize(captions).to(device)), model.read_pictures(pictures.to(device)), strict=True
    )
    losses = [
        contrast(text, picture, pairs, tower, config.loss)
        for tower, (text, picture) in zip((model.l, model.g), vectors, strict=True)
    ]
    return torch.stack(losses).mean(), {"l": float(losses[0].detach()), "g": float(losses[1].detach())}


def _jitter(pictures: Tensor, draws: np.ndarray, most: float) -> Tensor:
    """Return pictures of other brightness and contrast. None is mirrored: captions say left and right."""
    rngs = [np.random.default_rng(int(draw)) for draw in draws]
    change = torch.from_numpy(np.stack([rng.uniform(-most, most, 2) for rng in rngs]).astype(np.float32))[
        ..., None, None, None
    ]
    return ((pictures - 0.5) * (1 + change[:, 0]) + 0.5 + change[:, 1] / 2).clamp(0, 1)


def validate(model: nn.Module, rows: Iterable[Columns], config: Config) -> dict[str, float]:
    """Return how often a caption finds its picture among all (`r1_l`, `r1_g`) and the number of pictures."""
    assert isinstance(model, Clip)
    device, texts, pictures = device_of(model), list[tuple[Tensor, ...]](), list[tuple[Tensor, ...]]()
    for decoded in rows:
        prepared = prepare(decoded, config)
        captions = write_captions(prepared["attributes"], decoded["row"], 0.0)
        texts.append(model.read_texts(tokenize(captions).to(device)))
        pictures.append(model.read_pictures(to_faces(prepared["picture"], device)))
    found = {}
    for place, name in enumerate("lg"):
        own, theirs = (torch.cat([each[place] for each in sides]) for sides in (texts, pictures))
        found[f"r1_{name}"] = float(recall_at_one(F.linear(own, theirs).cpu().numpy()).mean())
    return {"score": sum(found.values()) / 2, **found, "pictures": float(sum(len(each[0]) for each in texts))}


def export(model: nn.Module, config: Config, folder: Path, card: Card) -> None:
    """Write the towers in float16 and the card."""
    assert isinstance(model, Clip)
    save_clip(model, folder)
    facts = {"title": "CLIP of a FaceCLIP", "summary": SUMMARY, "limits": LIMITS}
    card.model_copy(update=facts).write(folder)
