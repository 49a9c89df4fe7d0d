"""A CLIP of two text towers and a vision tower: what FaceCLIP's branches begin with, and what they are aligned to."""

from pydantic import BaseModel, ConfigDict
from torch import Tensor, nn
from torch.nn import functional as F

from models.visible.faceclip.config import TextConfig, VitConfig
from models.visible.faceclip.text import TextTower
from models.visible.faceclip.vit import FaceVit


class ClipConfig(BaseModel):
    """Shapes of the towers; `image.out` is what both texts' vectors have together."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    l: TextConfig = TextConfig(width=64, heads=2, layers=3, quick_gelu=True)  # noqa: E741 (the branch's name)
    g: TextConfig = TextConfig(width=96, heads=3, layers=4, quick_gelu=False)
    width: int = 96
    depth: int = 4
    heads: int = 4

    @property
    def image(self) -> VitConfig:
        """The vision tower: a ViT as the face's, on the whole picture, with a vector for each text tower."""
        return VitConfig(width=self.width, depth=self.depth, heads=self.heads, out=self.l.width + self.g.width)


class Clip(nn.Module):
    """The towers. Pictures are RGB float [B, 3, 112, 112] in [0, 1]."""

    def __init__(self, config: ClipConfig) -> None:
        super().__init__()
        self.config = config
        self.l, self.g = TextTower(config.l), TextTower(config.g)
        self.image = FaceVit(config.image)

    def read_pictures(self, pictures: Tensor) -> tuple[Tensor, Tensor]:
        """Return the vectors of pictures for both text towers, of length one, [B, l] and [B, g]."""
        vector = self.image(pictures).vector
        l, g = vector.split([self.config.l.width, self.config.g.width], -1)  # noqa: E741
        return F.normalize(l, dim=-1), F.normalize(g, dim=-1)

    def read_texts(self, ids: Tensor) -> tuple[Tensor, Tensor]:
        """Return the vectors of texts by both towers, of length one, [B, l] and [B, g]."""
        return F.normalize(self.l.features(ids), dim=-1), F.normalize(self.g.features(ids), dim=-1)
