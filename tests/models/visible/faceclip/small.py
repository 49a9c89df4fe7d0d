"""A FaceCLIP of small widths with weights away from neutral."""

import torch
from torch import nn

from models.visible.faceclip.encoder import FaceClip, FaceClipConfig, FuserConfig, TextConfig, VitConfig

CONFIG = FaceClipConfig(
    vit=VitConfig(width=16, depth=2, heads=4, out=12),
    l=TextConfig(width=16, heads=4, layers=2, quick_gelu=True),
    g=TextConfig(width=24, heads=6, layers=2, quick_gelu=False),
    fuser=FuserConfig(layers=2, dim_feedforward=32, nhead=4, points=3),
)
PREFIX = (49406, 1125, 539, 320, 1014, 2533, 269)


def small_faceclip(config: FaceClipConfig = CONFIG) -> FaceClip:
    model = FaceClip(config)
    disturb(model)
    return model


def disturb(model: nn.Module, seed: int = 0) -> None:
    """Give every weight and statistic a value that shows: gains near 1, everything else about as large as its inputs ask."""
    draw = torch.Generator().manual_seed(seed)
    for name, value in model.state_dict().items():
        if value.dtype != torch.float32:
            continue
        if "token_embedding" in name:
            value *= 25
            continue
        noise = torch.randn(value.shape, generator=draw)
        if "running_var" in name or (value.ndim == 1 and name.endswith("weight")):
            value.copy_(1 + 0.2 * noise.tanh())
        elif value.ndim <= 1:
            value.copy_(0.3 * noise)
        elif "embed" in name:
            value.copy_(0.5 * noise)
        else:
            value.copy_(noise * (1.5 / value[0].numel() ** 0.5))


def small_inputs(rows: int = 2, size: int = 112) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return faces, ids and whether there is a face: all rows have one but the last of several."""
    draw = torch.Generator().manual_seed(1)
    ids = torch.zeros(rows, 77, dtype=torch.long)
    for row in range(rows):
        words = torch.randint(300, 40_000, (5 + 3 * row,), generator=draw)
        said = torch.tensor([*PREFIX, *words, 1014, 49407])
        ids[row, : len(said)] = said
    has_face = torch.tensor([rows == 1 or row < rows - 1 for row in range(rows)])
    return torch.rand(rows, 3, size, size, generator=draw), ids, has_face
