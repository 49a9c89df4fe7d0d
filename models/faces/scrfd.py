"""A small SCRFD (arXiv 2105.04714): boxes, scores and five points on strides 8, 16 and 32, two anchors a cell.

Its outputs are those of insightface's exported detectors, so `insightface.model_zoo.SCRFD` reads it: for each stride
scores [B, N, 1] in [0, 1], boxes [B, N, 4] as distances left, top, right, bottom and points [B, N, 10] as offsets x, y,
both in units of the stride from the anchor at (column * stride, row * stride); N = (H / stride) * (W / stride) * 2.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.faces.align import CROP, TEMPLATE
from models.faces.decode import ANCHORS, STRIDES

SIZES = ((16.0, 32.0), (64.0, 128.0), (256.0, 512.0))
"""Side in pixels of the faces that each stride's two anchors look for; they split the range of sizes geometrically."""


def _conv(inputs: int, outputs: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)
    )


class Head(nn.Module):
    """Scores, boxes and points of one stride. Biases start at a face of each anchor's size, centred on the anchor."""

    def __init__(self, channels: int, stride: int, sizes: tuple[float, ...]) -> None:
        super().__init__()
        self.trunk = _conv(channels, channels)
        self.score = nn.Conv2d(channels, ANCHORS, 1)
        self.box = nn.Conv2d(channels, ANCHORS * 4, 1)
        self.points = nn.Conv2d(channels, ANCHORS * 10, 1)
        template = (torch.from_numpy(TEMPLATE).flatten() - CROP / 2) / CROP
        with torch.no_grad():
            for layer in (self.score, self.box, self.points):
                layer.weight.normal_(std=0.01)
            # The prior of a rare positive (focal loss, arXiv 1708.02002, section 3.3).
            self.score.bias = nn.Parameter(torch.full((ANCHORS,), -4.0))
            self.box.bias = nn.Parameter(torch.cat([torch.full((4,), size / 2 / stride) for size in sizes]))
            self.points.bias = nn.Parameter(torch.cat([template * size / stride for size in sizes]))
        # Weights of wide anchors would need to be large: the output is a multiple of the anchor's size.
        self.reach: Tensor
        self.register_buffer("reach", torch.tensor([size / stride for size in sizes]), persistent=False)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        x = self.trunk(x)
        return (
            self._rows(self.score(x), 1),
            self._scale_by_anchor(self.box, x, 4),
            self._scale_by_anchor(self.points, x, 10),
        )

    def _scale_by_anchor(self, layer: nn.Conv2d, x: Tensor, values: int) -> Tensor:
        """Return bias + reach * weight * x, rows of `values` numbers."""
        reach = self.reach.repeat_interleave(values)
        return self._rows(F.conv2d(x, layer.weight * reach[:, None, None, None], layer.bias), values)

    @staticmethod
    def _rows(x: Tensor, values: int) -> Tensor:
        """[B, ANCHORS * values, H, W] -> [B, H * W * ANCHORS, values], the anchors of a cell side by side."""
        return x.permute(0, 2, 3, 1).reshape(x.shape[0], -1, values)


class SCRFD(nn.Module):
    """Backbone to stride 32, a top-down neck and one head a stride; 0.4 M parameters, 26 MMAC at 128 px."""

    def __init__(self, widths: tuple[int, int, int] = (48, 80, 96), neck: int = 48) -> None:
        super().__init__()
        self.stem = nn.Sequential(_conv(3, 16, 2), _conv(16, 24, 2))
        inputs = (24, *widths[:-1])
        self.stages = nn.ModuleList(
            nn.Sequential(_conv(i, o, 2), _conv(o, o)) for i, o in zip(inputs, widths, strict=True)
        )
        self.lateral = nn.ModuleList(nn.Conv2d(width, neck, 1) for width in widths)
        self.heads = nn.ModuleList(Head(neck, stride, sizes) for stride, sizes in zip(STRIDES, SIZES, strict=True))

    def logits(self, x: Tensor) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
        """Return score logits, boxes and points, a tensor for each stride."""
        # Bottom up: a level for each stride.
        x = self.stem(x)
        levels = []
        for stage, lateral in zip(self.stages, self.lateral, strict=True):
            x = stage(x)
            levels.append(lateral(x))
        # Top down: coarse levels are added to finer ones.
        for index in (1, 0):
            levels[index] = levels[index] + F.interpolate(levels[index + 1], scale_factor=2.0, mode="nearest")
        scores, boxes, points = zip(*(h(level) for h, level in zip(self.heads, levels, strict=True)), strict=True)
        return list(scores), list(boxes), list(points)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Return the nine outputs for pictures float [B, 3, H, W], H and W multiples of 32."""
        scores, boxes, points = self.logits(x)
        return (*(s.sigmoid() for s in scores), *boxes, *points)


def anchors(height: int, width: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return all anchors of a picture in output order: centres float [N, 2] px, strides [N] px, sizes [N] px."""
    centres, strides, sizes = [], [], []
    for stride, pair in zip(STRIDES, SIZES, strict=True):
        rows, columns = torch.meshgrid(torch.arange(height // stride), torch.arange(width // stride), indexing="ij")
        # An anchor lies on the corner of its cell; two of different sizes share it.
        cells = torch.stack([columns, rows], dim=-1).reshape(-1, 2).float() * stride
        centres.append(cells.repeat_interleave(ANCHORS, dim=0))
        strides.append(torch.full((len(cells) * ANCHORS,), float(stride)))
        sizes.append(torch.tensor(pair).repeat(len(cells)))
    return torch.cat(centres), torch.cat(strides), torch.cat(sizes)
