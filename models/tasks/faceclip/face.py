"""Train the face ViT of a FaceCLIP as the recogniser is trained: ArcFace on aligned crops.

python -m cluster train faceclip_face --data URI --validation URI --out DIR

With a `teacher` it learns that recogniser's embeddings instead: 512 numbers a face say more than a class, so it takes fewer
people and steps.
"""

from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import Field, model_validator
from torch import Tensor, nn

from models.card import Card
from models.columns import Columns
from models.errors import UserError
from models.faces.align import align, five_points
from models.faces.metrics import unit_vectors
from models.faces.pack import Session, embed, open_sessions
from models.faces.recogniser import EMBEDDING, ArcFace
from models.tasks import Place, recogniser
from models.visible.cache import from_root
from models.visible.faceclip.config import VitConfig
from models.visible.faceclip.files import save_vit
from models.visible.faceclip.vit import FaceVit
from models.weights.networks import device_of

SUMMARY = """FaceCLIP's face ViT at small width, trained {how}. It reads aligned crops of 112 pixels, RGB in [0, 1].
`train faceclip` takes it as `face`."""
COLUMNS = recogniser.COLUMNS


class Config(recogniser.Config):
    lr: float = Field(1e-3, gt=0)
    vit: VitConfig = VitConfig(width=96, depth=4, heads=4, out=EMBEDDING)
    teacher: Place = Field(
        "", description="insightface pack whose recogniser's embeddings are learned, in place of classes"
    )

    @model_validator(mode="after")
    def _check(self) -> "Config":
        if self.vit.out != EMBEDDING:
            raise ValueError(f"vit.out is {self.vit.out}: ArcFace trains vectors of {EMBEDDING}")
        return self


class Embedder(nn.Module):
    """The ViT on what recognisers are given: crops in [-1, 1]."""

    def __init__(self, config: VitConfig) -> None:
        super().__init__()
        self.vit = FaceVit(config)

    def forward(self, crops: Tensor) -> Tensor:
        return self.vit((crops + 1) / 2).vector.float()


@lru_cache(maxsize=1)
def _teacher(folder: str) -> Session:
    session = open_sessions(from_root(folder), threads=1)[1]
    if session is None:
        raise UserError(f"teacher={folder} holds no recogniser: name an insightface pack.")
    return session


def weights(config: Config) -> list[Path]:
    """Return the folder that is learned from."""
    return [from_root(config.teacher)] if config.teacher else []


def prepare(rows: Columns, config: Config) -> Columns:
    """Return what the recogniser's training needs; with a teacher pictures, five points and `wanted` float32 [B, 512], its
    embeddings of aligned crops."""
    if not config.teacher:
        return recogniser.prepare(rows, config)
    points = five_points(np.asarray(rows["landmarks_70"], np.float32).reshape(-1, 70, 2))
    wanted = unit_vectors(embed(_teacher(config.teacher), align(rows["visible"], points), config.batch))
    return {"visible": rows["visible"], "points": points, "wanted": wanted}


def loss(model: nn.Module, batch: Columns, config: Config, step: int) -> tuple[Tensor, dict[str, float]]:
    """Return the recogniser's loss, or with a teacher 1 - cosine of augmented crops' vectors to its embeddings, mean."""
    if not config.teacher:
        return recogniser.loss(model, batch, config, step)
    assert isinstance(model, ArcFace)
    device = device_of(model)
    found = model.embedder(recogniser.augmented(batch, config, device))
    cosine = F.cosine_similarity(found, torch.from_numpy(batch["wanted"]).to(device), dim=1).mean()
    return 1 - cosine, {"cosine": float(cosine.detach())}


def build(config: Config) -> nn.Module:
    """Return the ViT with one centre per class."""
    # Who learns from a teacher has no classes, so no centres either.
    model = recogniser.build(config.model_copy(update={"classes": 2}) if config.teacher else config)
    assert isinstance(model, ArcFace)
    model.embedder = Embedder(config.vit)  # type: ignore[assignment]
    return model


def validate(model: nn.Module, rows: Iterable[Columns], config: Config) -> dict[str, float]:
    """Return the recogniser's metrics: TAR at FAR 1e-3 and rank-1 of 100."""
    return recogniser.validate(model, rows, config)


def export(model: nn.Module, config: Config, folder: Path, card: Card) -> None:
    """Write the ViT in float16 and its card."""
    assert isinstance(model, ArcFace)
    vit: FaceVit = model.embedder.vit  # type: ignore[assignment]
    save_vit(vit, config.vit, folder)
    how = "to embed faces as a recogniser does" if config.teacher else "with ArcFace and on the person's measures"
    facts = {"title": "Face ViT of a FaceCLIP", "summary": SUMMARY.format(how=how), "limits": recogniser.LIMITS}
    card.model_copy(update=facts).write(folder)
