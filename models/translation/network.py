"""The translator: a U-Net on visible latents, shown the thermal latents and told attributes, and its folder on disk.

    unet/         diffusers UNet2DConditionModel; what stands in self-attention's place is `models.ssm.block`'s
    guide.safetensors   what attributes and thermal features enter by (`Guide`)
    autoencoder/  of thermal pictures (`models.thermal.latent.autoencoder`)
    vae/          of visible pictures
    attributes/   thermal classifier of attributes, where there is one
    recogniser/   of thermal faces, and landmarks/ that finds them, where it is told who is shown
    scheduler/    diffusers
    translation.json   `TranslatorConfig`

An interpretation of "Multi-attribute guided latent diffusion with Self-attn Mamba" (arXiv 2512.21032), whose internals are
not public: the thermal latents by concatenation as in DiffTV (ACM MM 2024), attributes by cross-attention or beside the time
step, a selective scan and windows in self-attention's place (LaMamba-Diff, arXiv 2408.02615).
"""

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
import torch.nn.functional as F
from diffusers import UNet2DConditionModel
from pydantic import BaseModel, ConfigDict, Field
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from models.attributes import ATTRIBUTES as SCHEMA
from models.config import parse_json
from models.diffusion.conditions import Conditions
from models.diffusion.mixing import set_self_mixing
from models.diffusion.schedulers import load_scheduler, new_scheduler
from models.errors import EnvironmentFault
from models.faces.gradient.differentiable import DifferentiableRecogniser
from models.landmarks.thermal_faces import ThermalFaces
from models.ssm.config import BlockConfig
from models.thermal.latent.autoencoder import ThermalAutoencoder, load_autoencoder, save_autoencoder
from models.thermal.latent.cells import patch
from models.translation.attributes import AttributeClassifier, load_classifier
from models.translation.settings import ATTRIBUTES, AUTOENCODER, FACES, FILE, LANDMARKS, RECOGNISER, VAE
from models.visible.autoencoder import SHRINK, Vae
from models.visible.autoencoder import load_autoencoder as load_vae
from models.visible.likeness import open_recogniser
from models.weights.networks import DTYPES, load_strictly

GUIDE = "guide.safetensors"
UNET = "diffusion_pytorch_model.safetensors"


class TranslatorConfig(BaseModel):
    """Shape of a translator, and what it is told.

    block: what mixes a transformer block's tokens. guide: how attributes enter, as tokens of cross-attention, beside the time
    step (which scales and shifts every residual block), or not at all. multi_scale: thermal features at every level of the
    U-Net, not beside the latents alone. control: attributes once more, by a control network whose features join the skip
    connections; it is trained on a frozen translator without it (two-stage condition). words: attribute -> its words.
    identity: values of an embedding of who is shown, which enters beside the time step; 0 for none. celsius: what grey levels
    0 and 255 are taken for.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    widths: tuple[int, ...] = (64, 128, 192)
    heads: tuple[int, ...] = (2, 4, 6)
    attend: tuple[bool, ...] = (True, True, False)
    layers: int = Field(1, ge=1)
    groups: int = 16
    hidden: int = Field(64, description="width of a token that cross-attention reads")
    block: BlockConfig = BlockConfig()
    guide: Literal["cross", "beside", "none"] = "cross"
    multi_scale: bool = False
    control: bool = False
    identity: int = Field(0, ge=0)
    words: dict[str, tuple[str, ...]] = {name: words for name, (_, _, words) in SCHEMA.items()}
    celsius: tuple[float, float] = (20.0, 36.0)

    @property
    def told(self) -> int:
        """Values that say attributes."""
        return sum(map(len, self.words.values()))

    @property
    def beside_time(self) -> int:
        """Values that enter beside the time step: the embedding, and attributes where `guide` says so."""
        return self.identity + (self.told if self.guide == "beside" else 0)


class Guide(nn.Module):
    """What is told beside the latents: attributes [B, values] and thermal latents [B, C, h, w] -> the U-Net's conditions.

    A word is a row of `words.weight`; an untold attribute has the one of `untold`.
    """

    def __init__(self, config: TranslatorConfig, thermal: int) -> None:
        super().__init__()
        self.config = config
        if config.guide == "cross":
            self.words = nn.Parameter(torch.randn(config.told, config.hidden) * 0.02)
            self.untold = nn.Parameter(torch.randn(len(config.words), config.hidden) * 0.02)
        self.pyramid = Pyramid(config, thermal) if config.multi_scale else None
        self.control = Pyramid(config, thermal, config.told) if config.control else None

    def forward(self, told: Tensor, thermal: Tensor, who: Tensor | None = None) -> Conditions:
        """Return the conditions of B rows. told: as `encode_words` makes it. thermal: patched latents at the U-Net's size.
        who: embeddings [B, identity] of length one, zeros where it is not known; None for no row's."""
        config = self.config
        tokens = told.new_zeros(len(told), 1, config.hidden)
        if config.guide == "cross":
            tokens = self._tokens(told)
        return Conditions(
            prompt_embeds=tokens,
            class_labels=self._beside_time(told, who),
            beside=thermal,
            extra={"cells": thermal} if config.block.mixing == "interleaved" else {},
            skips=self._skips(told, thermal),
        )

    def _beside_time(self, told: Tensor, who: Tensor | None) -> Tensor | None:
        """Return what enters beside the time step, [B, values]; None where nothing does."""
        config, parts = self.config, list[Tensor]()
        if config.identity:
            # As the visible model takes it: values of variance one, not a vector of length one.
            known = told.new_zeros(len(told), config.identity) if who is None else who
            parts.append(known * config.identity**0.5)
        if config.guide == "beside":
            parts.append(told)
        return torch.cat(parts, dim=1) if parts else None

    def _skips(self, told: Tensor, thermal: Tensor) -> dict[str, Tensor]:
        """Return what joins the skip connections: thermal features, and those of the control network."""
        found = self.pyramid(thermal) if self.pyramid is not None else {}
        if self.control is not None:
            steered = self.control(thermal, told)
            found = {name: steered[name] + found[name] if found else steered[name] for name in steered}
        return found

    def _tokens(self, told: Tensor) -> Tensor:
        """Return a token [hidden] for each attribute, [B, attributes, hidden]."""
        sizes = [len(words) for words in self.config.words.values()]
        parts = zip(told.split(sizes, dim=1), self.words.split(sizes), self.untold, strict=True)
        return torch.stack(
            [part @ table + (1 - part.sum(1, keepdim=True)) * empty for part, table, empty in parts], dim=1
        )


class Pyramid(nn.Module):
    """Thermal features [B, C, h, w] for each skip connection of the U-Net and its middle; all begin at zero.

    told: values that scale and shift the features of each level, 0 for none. With them it is a light control network: unlike
    ControlNet (arXiv 2302.05543) it sees neither noisy latents nor time, so that it is computed once a picture.
    """

    def __init__(self, config: TranslatorConfig, thermal: int, told: int = 0) -> None:
        super().__init__()
        self.stages = nn.ModuleList(
            nn.Conv2d(thermal if level == 0 else config.widths[level - 1], width, 3, 1 if level == 0 else 2, 1)
            for level, width in enumerate(config.widths)
        )
        self.told = nn.ModuleList(nn.Linear(told, 2 * width) for width in config.widths) if told else None
        # (level of the features, channels) of each skip connection: the first convolution's, and of each block its layers'
        # and its downsampling's, which has the next level's size.
        places = [(0, config.widths[0])]
        for level, width in enumerate(config.widths):
            places += [(level, width)] * config.layers
            places += [(level + 1, width)] * (level + 1 < len(config.widths))
        self.places = [*(level for level, _ in places), len(config.widths) - 1]
        outs = [*(width for _, width in places), config.widths[-1]]
        self.outs = nn.ModuleList(
            nn.Conv2d(config.widths[level], width, 1) for level, width in zip(self.places, outs, strict=True)
        )
        for out in self.outs:
            nn.init.zeros_(out.weight)  # type: ignore[arg-type]
            nn.init.zeros_(out.bias)  # type: ignore[arg-type]

    def forward(self, thermal: Tensor, told: Tensor | None = None) -> dict[str, Tensor]:
        features, x = [], thermal
        for level, stage in enumerate(self.stages):
            x = stage(x)
            if self.told is not None:
                scale, shift = self.told[level](told)[:, :, None, None].chunk(2, dim=1)
                x = x * (1 + scale) + shift
            x = F.silu(x)
            features.append(x)
        return {f"{k:02d}": out(features[p]) for k, (p, out) in enumerate(zip(self.places, self.outs, strict=True))}


class Translator(nn.Module):
    """The U-Net and what it is guided by, which learn together."""

    def __init__(self, config: TranslatorConfig, visible: int, thermal: int) -> None:
        super().__init__()
        self.config = config
        self.unet = new_unet(config, visible, thermal)
        self.guide = Guide(config, thermal)


def new_unet(config: TranslatorConfig, visible: int, thermal: int) -> UNet2DConditionModel:
    """Return a fresh U-Net that makes `visible` channels beside `thermal` ones."""
    beside = {"class_embed_type": "projection", "projection_class_embeddings_input_dim": config.beside_time}
    unet = UNet2DConditionModel(
        in_channels=visible + thermal,
        out_channels=visible,
        layers_per_block=config.layers,
        norm_num_groups=config.groups,
        block_out_channels=config.widths,
        down_block_types=tuple("CrossAttnDownBlock2D" if a else "DownBlock2D" for a in config.attend),
        up_block_types=tuple("CrossAttnUpBlock2D" if a else "UpBlock2D" for a in reversed(config.attend)),
        attention_head_dim=config.heads,  # diffusers means the number of heads
        cross_attention_dim=config.hidden,
        **(beside if config.beside_time else {}),
    )
    set_self_mixing(unet, config.block, thermal)
    nn.init.zeros_(unet.conv_out.weight)  # the first prediction is zero, so early steps do not fight a random output
    return unet


def thermal_latents(autoencoder: ThermalAutoencoder, celsius: Tensor) -> Tensor:
    """Return latents [B, C, S/8, S/8] of degrees Celsius [B, S, S], at the size of visible ones."""
    return patch(autoencoder.encode(celsius), SHRINK // autoencoder.config.factor)


def thermal_channels(autoencoder: ThermalAutoencoder) -> int:
    """Return the channels of `thermal_latents`."""
    return autoencoder.config.channels * (SHRINK // autoencoder.config.factor) ** 2


@dataclass(frozen=True)
class Loaded:
    """A translator ready to sample. people: finds faces in thermal pictures and says who they are; faces: says who a visible
    picture shows, with its gradient."""

    translator: Translator
    autoencoder: ThermalAutoencoder
    vae: Vae
    attributes: AttributeClassifier | None
    people: ThermalFaces | None
    faces: DifferentiableRecogniser | None
    scheduler: Path

    @property
    def unet(self) -> UNet2DConditionModel:
        """What a student of few steps is a copy of."""
        return self.translator.unet

    def networks(self) -> tuple[nn.Module, ...]:
        """Return all that runs on the stage's device."""
        return tuple(one for one in (self.translator, self.autoencoder, self.vae, self.attributes) if one is not None)


def save_translator(
    model: Translator,
    autoencoder: ThermalAutoencoder,
    copied: Mapping[str, Path],
    folder: Path,
    unet: UNet2DConditionModel | None = None,
) -> None:
    """Write the folder: U-Net and guide in float16, the thermal autoencoder in float32. copied: name of a folder in it -> the
    folder that is copied there with its card. unet: in the place of the model's own."""
    unet, place = unet or model.unet, folder / "unet"
    place.mkdir(parents=True, exist_ok=True)
    (place / "config.json").write_text(json.dumps(dict(unet.config), indent=2, default=list) + "\n")
    save_file({k: v.half().contiguous() for k, v in unet.state_dict().items()}, str(place / UNET))
    save_file({k: v.half().contiguous() for k, v in model.guide.state_dict().items()}, str(folder / GUIDE))
    save_autoencoder(autoencoder, folder / AUTOENCODER)
    new_scheduler().save_pretrained(str(folder / "scheduler"))
    for name, source in copied.items():
        shutil.copytree(source, folder / name, dirs_exist_ok=True, ignore=shutil.ignore_patterns("files.json"))
    (folder / FILE).write_text(model.config.model_dump_json(indent=1) + "\n")


def load_translator(weights: Mapping[str, Path], dtype: str = "float32", threads: int = 1) -> Loaded:
    """Return the networks of a part, frozen; the U-Net in `dtype`, the autoencoders in float32.

    weights: `model`, the folder above, and maybe others in place of its folders. Raises EnvironmentFault where something is
    missing, damaged, or does not fit the rest.
    """
    home = weights["model"]
    config = read_config(home)
    load_scheduler(home / "scheduler")
    autoencoder, vae = (
        load_autoencoder(weights.get(AUTOENCODER, home / AUTOENCODER)),
        load_vae(weights.get(VAE, home / VAE)),
    )
    model = Translator(config, vae.config.latent_channels, thermal_channels(autoencoder))
    read_into(model, home)
    # The thermal classifier's schema must be that of the attributes which are told.
    folder = weights.get(ATTRIBUTES, home / ATTRIBUTES)
    attributes = load_classifier(folder) if folder.is_dir() else None
    if attributes and (
        attributes.config.modality != "thermal" or not attributes.config.words.keys() <= config.words.keys()
    ):
        raise EnvironmentFault(
            f"{folder}: a classifier of {attributes.config.modality} pictures that tells {', '.join(attributes.config.words)}; "
            f"the translator needs one of thermal pictures for {', '.join(config.words) or 'no attributes'}."
        )
    nn.Module.to(
        model.unet, DTYPES[dtype]
    )  # diffusers' own warns of modules to keep in float32, of which there are none
    people = _open_people(config, weights, threads)
    faces = open_recogniser(weights[FACES]) if people and FACES in weights else None
    loaded = Loaded(model.eval(), autoencoder, vae, attributes, people, faces, home / "scheduler")
    for network in loaded.networks():
        network.requires_grad_(False)
    return loaded


def _open_people(config: TranslatorConfig, weights: Mapping[str, Path], threads: int) -> ThermalFaces | None:
    """Return what says who a thermal picture shows, where the translator is told. Raises EnvironmentFault where it is missing."""
    if not config.identity:
        return None
    landmarks, recogniser = (weights.get(name, weights["model"] / name) for name in (LANDMARKS, RECOGNISER))
    return ThermalFaces(landmarks, recogniser, threads)


def read_into(model: Translator, folder: Path, *, control: bool = True) -> None:
    """Fill `model` with the weights of a translator's folder. control: with those of its control network, else as it is.

    Raises EnvironmentFault where they are not of its shape.
    """
    for network, path in ((model.unet, folder / "unet" / UNET), (model.guide, folder / GUIDE)):
        try:
            state = load_file(str(path)) if path.is_file() or network is model.unet else {}
        except (OSError, SafetensorError) as error:
            raise EnvironmentFault(f"{path}: no weights of a translator ({error}). Fetch the part again.") from error
        if not control:
            fresh = {name: value for name, value in network.state_dict().items() if name.startswith("control.")}
            state = state | fresh
        load_strictly(network, state, path)


def read_config(folder: Path) -> TranslatorConfig:
    """Return `translation.json`. Raises EnvironmentFault where there is none, or not of this kind."""
    try:
        return TranslatorConfig(**parse_json((folder / FILE).read_text()))
    except (OSError, ValueError, TypeError) as error:
        raise EnvironmentFault(f"{folder / FILE}: of no translator ({error}).") from error
