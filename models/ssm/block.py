"""What may stand where a transformer block has its self-attention: scans over the picture, windows of attention, or neither.

"Self-attn Mamba" (arXiv 2512.21032) is not public. This is our reading of its name and of its published neighbours
LaMamba-Diff (arXiv 2408.02615) and ColorMamba: a selective scan mixes the whole picture, a light attention inside windows
keeps detail, and the block's cross-attention stays as it was.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.ssm.config import BlockConfig, KernelName, ScanShape
from models.ssm.mixers import Mamba2Config, Mamba2Mixer
from models.ssm.orders import inverse_orders, scan_orders, side_of


class WindowAttention(nn.Module):
    """Attention of tokens [B, h w, C] inside windows of `window` x `window` cells, with a learned bias by their distance.

    shift: windows begin half a window earlier, so that two blocks of both kinds join them (Swin, arXiv 2103.14030).
    """

    places: Tensor

    def __init__(self, width: int, heads: int, window: int, shift: bool = False) -> None:
        super().__init__()
        self.heads, self.window, self.shift = heads, window, window // 2 if shift else 0
        self.to_qkv = nn.Linear(width, 3 * width, bias=False)
        self.to_out = nn.Linear(width, width)
        self.bias = nn.Parameter(torch.zeros(heads, (2 * window - 1) ** 2))
        across = torch.arange(window)
        steps = across[:, None] - across + window - 1
        places = steps[:, None, :, None] * (2 * window - 1) + steps[None, :, None, :]
        self.register_buffer("places", places.reshape(window**2, window**2), persistent=False)

    def forward(self, tokens: Tensor, height: int, width: int) -> Tensor:
        count, window = tokens.shape[2], self.window
        # Padded to whole windows, the first of which may begin before the picture.
        before = (self.shift, self.shift) if max(height, width) > window else (0, 0)
        after = (-(height + before[0]) % window, -(width + before[1]) % window)
        frame = (0, 0, before[1], after[1], before[0], after[0])
        values = F.pad(self.to_qkv(tokens).unflatten(1, (height, width)), frame)
        inside = F.pad(tokens.new_ones(1, height, width, 1), frame)
        rows, columns = values.shape[1] // window, values.shape[2] // window
        query, key, value = (
            part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in self._cut(values).chunk(3, dim=-1)
        )
        # Distance biases the scores, and padding is not seen.
        mask = self.bias[:, self.places].to(tokens.dtype)[None]
        if sum(before) + sum(after):
            seen = self._cut(inside)[..., 0] > 0
            hidden = torch.zeros(seen.shape, dtype=tokens.dtype, device=tokens.device).masked_fill(~seen, -1e4)
            mask = (mask + hidden[:, None, None]).repeat(len(tokens), 1, 1, 1)
        found = F.scaled_dot_product_attention(query, key, value, attn_mask=mask)
        # Windows back into the picture, and the padding cut off.
        picture = found.transpose(1, 2).reshape(len(tokens), rows, columns, window, window, count)
        picture = picture.transpose(2, 3).flatten(3, 4).flatten(1, 2)
        picture = picture[:, before[0] : before[0] + height, before[1] : before[1] + width]
        mixed: Tensor = self.to_out(picture.reshape(len(tokens), height * width, count))
        return mixed

    def _cut(self, values: Tensor) -> Tensor:
        """Return [B windows, window^2, C] of a picture [B, H, W, C] of whole windows."""
        cut = values.unflatten(2, (-1, self.window)).unflatten(1, (-1, self.window))
        return cut.transpose(2, 3).flatten(3, 4).flatten(0, 2)


class SelfMixer(nn.Module):
    """Tokens [B, h w, C] of a square picture -> what a block adds to them, in the place of diffusers' `attn1`."""

    def __init__(self, width: int, heads: int, config: BlockConfig, shift: bool = False, context: int = 0) -> None:
        super().__init__()
        if config.mixing == "attention":
            raise ValueError("full attention is diffusers' own: leave the block as it is")
        if config.mixing == "none" and not config.window:
            raise ValueError("a block that mixes by nothing, and has no windows, mixes nothing: name one of both")
        self.config = config
        self.reads = ("cells",) if config.mixing == "interleaved" else ()
        # Over the whole picture, with the condition's cells where they are interleaved; beside it windows.
        self.scan: Mamba2Mixer | None = None
        self.context: nn.Linear | None = None
        if config.scans:
            shape = {"width": width, "head": config.head_of(width), "directions": config.directions}
            self.scan = Mamba2Mixer(Mamba2Config(**shape, expand=config.expand, state=config.state))
        if config.mixing == "interleaved":
            self.context = nn.Linear(context, width)
        self.window = WindowAttention(width, heads, config.window, shift) if config.window else None

    def forward(
        self,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        ip_hidden_states: dict[str, Tensor] | None = None,
        **ignored: Any,
    ) -> Tensor:
        """Return the mixed tokens. ip_hidden_states: contexts by name; `cells`, [B, C', H, W], is what is interleaved."""
        side = side_of(hidden_states.shape[1])
        mixed = torch.zeros_like(hidden_states)
        if self.scan is not None:
            mixed = self._scan(hidden_states, side, (ip_hidden_states or {}).get("cells"))
        if self.window is not None:
            mixed = mixed + self.window(hidden_states, side, side)
        return mixed

    def _scan(self, tokens: Tensor, side: int, cells: Tensor | None) -> Tensor:
        assert self.scan is not None
        # Every direction visits all cells; alone, or with the condition's between them.
        orders = scan_orders(side, side, self.config.directions)
        inverse = inverse_orders(side, side, self.config.directions)
        if self.context is None:
            scanned: Tensor = self.scan(tokens, orders, inverse)
            return scanned
        if cells is None:
            raise ValueError("an interleaved scan needs the condition's cells: conditions.extra['cells']")
        # Cell by cell the condition, then the token: what is scanned has just seen what lies at its own place.
        other = self.context(F.adaptive_avg_pool2d(cells, side).flatten(2).transpose(1, 2).to(tokens.dtype))
        both = torch.stack([other, tokens], dim=2).flatten(1, 2)
        doubled = torch.stack([2 * orders, 2 * orders + 1], dim=2).flatten(1)
        mixed: Tensor = self.scan(both, doubled, doubled.argsort(dim=1))
        return mixed[:, 1::2]


def set_kernel(network: nn.Module, kernel: KernelName) -> None:
    """Let all scans of `network` be computed by `kernel`."""
    for module in network.modules():
        if isinstance(module, Mamba2Mixer):
            module.kernel = kernel


def scans_of(network: nn.Module) -> tuple[ScanShape, ...]:
    """Return the shapes of the scans in `network`, each once, in their order."""
    mixers = [module.config for module in network.modules() if isinstance(module, Mamba2Mixer)]
    shapes = [ScanShape(c.directions * c.heads, c.directions * c.groups, c.head, c.state) for c in mixers]
    return tuple(dict.fromkeys(shapes))
