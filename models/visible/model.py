"""The visible model: a U-Net conditioned on identity and caption, its folder on disk, and its noise schedule.

    unet/ (or arc2face/)   diffusers UNet2DConditionModel
    encoder/               transformers CLIPTextModel, identity.safetensors where hidden < 512
    vae/  tokenizer/  scheduler/

A `text_branch` beside it (`models.visible.text_branch`) lets a U-Net read captions that its own encoder does not know.

The starter's U-Net also takes the embedding beside the time step (diffusers' `class_embed_type: projection`), and the
bare head to be shown beside the latents (`models.visible.head`; more input than output channels, as InstructPix2Pix has
them), with `head.safetensors` to draw it from an embedding. Published U-Nets have no such inputs and are given none.
"""

import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch.nn.functional as F
from diffusers import ControlNetModel, UNet2DConditionModel
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase

from models.diffusion.conditions import Conditions
from models.diffusion.schedulers import load_scheduler, new_scheduler
from models.diffusion.shape import UNetShape, new_unet
from models.errors import EnvironmentFault
from models.visible.angles import FILE as HEAD
from models.visible.autoencoder import Vae, load_autoencoder, load_part
from models.visible.head import FOLDED, REFERENCE, HeadReader
from models.visible.normals import Framing, read_framing
from models.visible.text import EMBEDDING, IdentityText, id_token, load_text, new_text, save_text
from models.visible.text_branch import NAME as TEXT_BRANCH
from models.visible.text_branch import TextBranch, load_text_branch
from models.visible.tokenizer import load_tokenizer

UNET_FOLDERS = ("unet", "arc2face")


class VisibleConfig(UNetShape):
    """The shape of a small visible model."""

    widths: tuple[int, ...] = (80, 144)
    heads: tuple[int, ...] = (2, 4)
    attend: tuple[bool, ...] = (False, True)
    hidden: int = 192
    text_layers: int = 2
    text_heads: int = 4
    head: bool = True
    """Whether the U-Net is shown the bare head beside the latents."""


class VisibleModel(nn.Module):
    """Everything of the visible model that learns together; the tokenizer is carried along."""

    def __init__(self, unet: UNet2DConditionModel, text: IdentityText, tokenizer: PreTrainedTokenizerBase) -> None:
        super().__init__()
        self.unet, self.text, self.tokenizer = unet, text, tokenizer


def condition(
    unet: UNet2DConditionModel,
    prompt_embeds: Tensor,
    embedding: Tensor,
    head: Tensor | None = None,
    normals: Tensor | None = None,
    words: Tensor | None = None,
) -> Conditions:
    """Return what conditions `unet`: prompts, people, and the head to be shown, beside the latents or to a ControlNet.

    prompt_embeds: [B, T, hidden]. embedding: [B, 512] of any length, zeros for the unconditional prediction; it goes in beside
    the time step where the U-Net has an input for it. head: [B, H, h, w] (`head.fold_heads`), beside the latents of a U-Net of
    C + H input channels. normals: [B, 3, S, S] in [0, 1]. words: [B, T', width], what a text branch reads.
    """
    # Unit length times sqrt(512): values of about one, as the projection's first layer expects.
    labels = F.normalize(embedding, dim=-1) * EMBEDDING**0.5
    takes_labels = unet.config.class_embed_type == "projection"
    return Conditions(
        prompt_embeds,
        class_labels=labels if takes_labels else None,
        beside=head,
        control=normals,
        extra={} if words is None else {TEXT_BRANCH: words},
    )


def new_visible(config: VisibleConfig, tokenizer: PreTrainedTokenizerBase, channels: int, side: int) -> VisibleModel:
    """Return a fresh model for latents [channels, side, side]."""
    unet = new_unet(config, side, channels, FOLDED if config.head else 0, told=EMBEDDING)
    # The text encoder learns with the U-Net: its width is the cross-attention's, its vocabulary the tokenizer's.
    bos, eos = tokenizer.bos_token_id, tokenizer.eos_token_id
    length = tokenizer.model_max_length
    clip = new_text(len(tokenizer), config.hidden, config.text_layers, config.text_heads, length, (bos, eos))
    return VisibleModel(unet, IdentityText(clip, id_token(tokenizer)), tokenizer)


def save_visible(model: VisibleModel, vae_folder: Path, folder: Path, reader: HeadReader | None) -> None:
    """Write the folder in float16; the autoencoder is copied with its card. `reader` for a model that is shown heads."""
    model.half()
    model.unet.save_pretrained(str(folder / "unet"))
    save_text(model.text, folder / "encoder")
    model.tokenizer.save_pretrained(str(folder / "tokenizer"))
    new_scheduler().save_pretrained(str(folder / "scheduler"))
    if reader is not None:
        reader.save(folder / HEAD)
    shutil.copytree(vae_folder, folder / "vae", dirs_exist_ok=True, ignore=shutil.ignore_patterns("files.json"))


@dataclass(frozen=True)
class Loaded:
    """A visible model ready to sample."""

    unet: UNet2DConditionModel
    text: IdentityText
    tokenizer: PreTrainedTokenizerBase
    vae: Vae
    scheduler: Path
    """Folder that names the scheduler and its betas."""
    reader: HeadReader | None
    """Reads a person's shape from an embedding; None where the weights have no such map."""
    words: TextBranch | None = None
    """What reads captions beside the prompt, attached to the U-Net."""
    controlnet: ControlNetModel | None = None
    """Steers the U-Net by the head's normals (`models.visible.normals`)."""
    framing: Framing = "ffhq"
    """Where the ControlNet's pictures have the face."""

    @property
    def factor(self) -> int:
        """Return pixels to a latent cell, down and across: each level of the autoencoder but the first halves the side."""
        return 2 ** (len(self.vae.config.block_out_channels) - 1)

    @property
    def shows_head(self) -> bool:
        """Whether the U-Net takes the folded head beside the latents."""
        return bool(self.unet.config.in_channels > self.unet.config.out_channels)

    def networks(self) -> list[nn.Module]:
        """Return all that runs on the stage's device."""
        words = () if self.words is None else (self.words.branch, self.words.text)
        every = (self.unet, self.text, self.vae, self.controlnet, *words)
        return [network for network in every if network is not None]


def load_visible(weights: Mapping[str, Path], dtype: str = "float32") -> Loaded:
    """Return the networks of a visible part, frozen, in `dtype`, convolutions as they come.

    weights: `model`, the folder that holds all parts, and in place of `model/NAME` maybe folders of their own for unet,
    encoder, vae, tokenizer and scheduler: the part itself, or a folder with NAME below it. Arc2Face's repository holds
    `arc2face/` and `encoder/`; the other three are Stable Diffusion 1.5's. `controlnet`: a folder of diffusers', to steer the
    U-Net by the head's normals; `head`: a folder with the recogniser's `reference.safetensors`, to read heads from embeddings;
    `text_branch`: what reads captions beside the prompt.

    Raises:
        EnvironmentFault: a part is missing or does not load; the message names it.
    """
    folder = weights["model"]
    # What is cheap to read is read first, so that a folder that is no model is refused at once.
    scheduler = folder_of(weights, "scheduler")
    load_scheduler(scheduler)
    tokenizer = load_tokenizer(folder_of(weights, "tokenizer"))
    unet = load_part(UNet2DConditionModel, folder_of(weights, "unet"), dtype)
    text = load_text(folder_of(weights, "encoder"), tokenizer, dtype)
    branch = weights.get(TEXT_BRANCH)
    loaded = Loaded(
        unet=unet,
        text=text,
        tokenizer=tokenizer,
        vae=load_autoencoder(folder_of(weights, "vae"), dtype),
        scheduler=scheduler,
        reader=HeadReader.load(_head(weights)) if _head(weights).is_file() else None,
        words=load_text_branch(branch, unet, (text.text, tokenizer), dtype) if branch else None,
    )
    if "controlnet" in weights:
        place = folder_of(weights, "controlnet")
        steering = load_part(ControlNetModel, place, dtype)
        loaded = replace(loaded, controlnet=steering, framing=read_framing(place))
    _check(loaded, folder)
    # A stage never trains.
    for network in loaded.networks():
        network.requires_grad_(False)
    return loaded


def _head(weights: Mapping[str, Path]) -> Path:
    """Return the file of the map from embeddings to shapes: in weights of its own, else in the model's folder."""
    return weights["head"] / REFERENCE if "head" in weights else weights["model"] / HEAD


def folder_of(weights: Mapping[str, Path], name: str) -> Path:
    """Return where the part `name` lies: in weights of its own, else below the model's folder."""
    home = weights.get(name, weights["model"])
    names = UNET_FOLDERS if name == "unet" else (name,)
    inside = next((home / one for one in names if (home / one).is_dir()), None)
    return inside or (home if name in weights else home / name)


def _check(loaded: Loaded, folder: Path) -> None:
    """Raise EnvironmentFault where the parts of `folder` do not fit each other."""
    unet, latents = loaded.unet.config, loaded.vae.config.latent_channels
    wanted = latents + (FOLDED if loaded.reader else 0)
    plain = loaded.controlnet is not None and unet.in_channels == latents
    if unet.in_channels != wanted and not plain:
        there = f"{HEAD} and" if loaded.reader else f"no {HEAD} and"
        raise EnvironmentFault(
            f"{folder} has {there} an autoencoder of {latents} channels: its U-Net should take {wanted} channels and "
            f"takes {unet.in_channels}. Fetch the bundle again."
        )
    if loaded.controlnet is not None:
        _check_controlnet(loaded.controlnet.config, unet, loaded.factor)


def _check_controlnet(control: Any, unet: Any, factor: int) -> None:
    """Raise EnvironmentFault, which names all that differs, for a ControlNet of another U-Net or autoencoder."""
    same = ("block_out_channels", "layers_per_block", "cross_attention_dim", "class_embed_type", "addition_embed_type")
    wrong = [f"{name} {control[name]} instead of {unet[name]}" for name in same if control[name] != unet[name]]
    if control.in_channels != unet.out_channels:
        wrong.append(f"in_channels {control.in_channels} instead of {unet.out_channels}")
    shrink = 2 ** (len(control.conditioning_embedding_out_channels) - 1)
    if shrink != factor:
        wrong.append(f"a picture that it makes {shrink} times smaller instead of {factor} times")
    if wrong:
        raise EnvironmentFault(
            f"the ControlNet is of another U-Net: it has {'; '.join(wrong)}. Give the one of this U-Net."
        )
