"""Train the face ViT of a FaceCLIP as the recogniser is trained: ArcFace on aligned crops.

python -m cluster train faceclip_face --data URI --validation URI --out DIR
"""

from collections.abc import Iterable
from pathlib import Path

from pydantic import Field, model_validator
from torch import Tensor, nn

from models.card import Card
from models.columns import Columns
from models.faces.recogniser import EMBEDDING, ArcFace
from models.tasks import recogniser
from models.visible.faceclip.config import VitConfig
from models.visible.faceclip.files import save_vit
from models.visible.faceclip.vit import FaceVit

SUMMARY = """FaceCLIP's face ViT at small width, trained with ArcFace and on the person's measures, which the world knows. It
reads aligned crops of 112 pixels, RGB in [0, 1]. `train faceclip` takes it as `face`."""
COLUMNS = recogniser.COLUMNS
prepare, loss = recogniser.prepare, recogniser.loss


class Config(recogniser.Config):
    lr: float = Field(1e-3, gt=0)
    vit: VitConfig = VitConfig(width=96, depth=4, heads=4, out=EMBEDDING)

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


def build(config: Config) -> nn.Module:
    """Return the ViT with one centre per class."""
    model = recogniser.build(config)
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
    facts = {"title": "Face ViT of a FaceCLIP", "summary": SUMMARY, "limits": recogniser.LIMITS}
    card.model_copy(update=facts).write(folder)
