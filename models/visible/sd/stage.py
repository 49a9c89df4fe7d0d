"""The visible stage: a caption, an ArcFace embedding and a name for the noise become a picture."""

import copy
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from models.padding import chunks
from models.seeds import noise
from models.synthworld.kernels import eagerly
from models.visible.autoencoder import decode
from models.visible.head import drawn, folded, views_of
from models.visible.model import load_visible
from models.visible.sampler import sample
from models.visible.text import prompts, tokens


class VisibleStage:
    """`caption`, `embedding` [B, 512], `noise_id` -> `visible` uint8 [B, S, S, 3].

    weights: a folder as `models.visible.model` describes, the starter's or Arc2Face's. folders: see `load_visible`.
    captions: False leaves Arc2Face's own prompt alone, which its published encoder was trained on. size: side of the
    pictures in pixels, 0 = what the U-Net was trained for. A U-Net that is shown the head gets it in the pose and
    expression that the caption says, else as `noise_id` draws them. A row with a reason in `reject` keeps its slot and
    comes out black.
    """

    def __init__(
        self,
        weights: Path,
        *,
        dtype: str = "float32",
        threads: int = 1,
        batch: int = 8,
        steps: int = 16,
        guidance: float = 2.0,
        captions: bool = True,
        size: int = 0,
        folders: dict[str, str] | None = None,
    ) -> None:
        torch.set_num_threads(threads)
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.parts = load_visible(Path(weights), dtype, folders)
        for network in (self.parts.unet, self.parts.text, self.parts.vae):
            network.to(self.device)
        self.batch, self.steps, self.guidance, self.captions = batch, steps, guidance, captions
        unet = self.parts.unet.config
        factor = 2 ** (len(self.parts.vae.config.block_out_channels) - 1)
        side = size // factor if size else unet.sample_size
        self.shape = (unet.out_channels, side, side)
        self.size = side * factor
        with torch.inference_mode():
            self.nothing = self.parts.text(tokens(self.parts.tokenizer, [""]).to(self.device))

    def with_sampling(self, steps: int, guidance: float) -> "VisibleStage":
        """Return this stage with another sampler, weights shared."""
        other = copy.copy(self)
        other.steps, other.guidance = steps, guidance
        return other

    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Return `batch` with `visible`. Rows are computed in fixed batches, so a row's neighbours never change it."""
        count = len(batch["noise_id"])
        wanted = [row for row in range(count) if "reject" not in batch or not batch["reject"][row]]
        pictures = np.zeros((count, self.size, self.size, 3), np.uint8)
        for part, missing in chunks(len(wanted), self.batch):
            rows = wanted[part]
            padded = rows + rows[-1:] * missing
            pictures[rows] = self._pictures(
                [str(batch["caption"][row]) if self.captions else "" for row in padded],
                torch.from_numpy(np.stack([batch["embedding"][row] for row in padded]).astype(np.float32)),
                [str(batch["noise_id"][row]) for row in padded],
            ).numpy()[: len(rows)]
        return {**batch, "visible": pictures}

    def _heads(self, captions: list[str], embedding: Tensor, names: list[str]) -> Tensor | None:
        """Return what the U-Net is shown of the heads; drawn without compiled kernels, which not every machine has yet."""
        if self.parts.reader is None:
            return None
        with eagerly():
            heads = drawn(self.parts.reader(embedding.numpy()), views_of(captions, names), self.shape[-1])
        return folded(heads).to(self.device)

    @torch.inference_mode()
    def _pictures(self, captions: list[str], embedding: Tensor, names: list[str]) -> Tensor:
        """Return uint8 [B, S, S, 3] on the CPU for exactly one compute batch."""
        head = self._heads(captions, embedding, names)
        ids = tokens(self.parts.tokenizer, prompts(captions)).to(self.device)
        embedding = F.normalize(embedding, dim=-1).to(self.device)
        latents = sample(
            self.parts.unet,
            self.parts.scheduler,
            noise(names, "visible", 0, self.shape).to(self.device),
            self.parts.text(ids, embedding),
            embedding,
            self.nothing,
            head,
            steps=self.steps,
            guidance=self.guidance,
        )
        return decode(self.parts.vae, latents).cpu()
