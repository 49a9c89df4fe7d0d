"""Train a U-Net of SDXL's form on a frozen FaceCLIP encoder: from picture and caption of a person to another picture.

python -m cluster train faceclip_visible --data URI --validation URI --out DIR --set encoder=DIR

The face that is read is that of another view than the one to be drawn, so that it says who it is and not how the picture looks.
"""

import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from diffusers import UNet2DConditionModel
from diffusers.models.attention_processor import AttnProcessor
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from models.card import Card
from models.columns import Columns
from models.diffusion.conditions import Conditions
from models.diffusion.process import DiscreteProcess, logit_normal_times, row_errors
from models.diffusion.schedulers import new_scheduler
from models.diffusion.unet import predict
from models.errors import UserError
from models.faces.align import fit_similarities, five_points
from models.seeds import seed_of
from models.tasks import Place, TrainConfig
from models.tasks.faceclip.rows import COLUMNS as ROW_COLUMNS
from models.tasks.faceclip.rows import other_views, prepare_rows, write_captions
from models.tasks.identity import cosine_to_truth, decode_clean, readable_rows, recogniser_of
from models.visible import cache
from models.visible.autoencoder import SHRINK, load_part
from models.visible.faceclip.encoder import FaceClip
from models.visible.faceclip.faces import to_faces
from models.visible.faceclip.files import HEADS, load_encoder
from models.visible.faceclip.tokenizer import add_prefix, tokenize
from models.weights.networks import device_of

COLUMNS = (*ROW_COLUMNS, "classes")
ADDED = "add_embedding"
FRESH = ("attn2.to_k", "attn2.to_v", ADDED)
"""In the names of tensors that hang on what a U-Net is told."""
SUMMARY = """Draws the person in a picture as a caption says, by FaceCLIP's embedding of both: a small U-Net of SDXL's form.
The kind is faceclip-sdxl."""
LIMITS = """It draws rendered people of the synthetic world, and understands the encoder beside it and no other; nothing in its
weights says which that is. Who is shown comes through 77 tokens alone."""


class Shape(BaseModel):
    """A small U-Net with the configuration keys of SDXL's; the defaults are as wide as the starter's, which it may begin with."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    widths: tuple[int, ...] = (80, 144)
    heads: tuple[int, ...] = (2, 4)
    blocks: tuple[int, ...] = (1, 1)
    """Transformer blocks of a level; the finest has none, as in SDXL."""
    layers: int = Field(1, ge=1)
    groups: int = 16
    time_width: int = Field(32, gt=0, description="of each of the six sizes that SDXL is told")


class Config(TrainConfig):
    steps: int = Field(4500, gt=0)
    batch: int = Field(32, gt=0)
    lr: float = Field(1e-3, gt=0)
    warmup: int = Field(200, ge=0)
    ema: float = Field(0.998, ge=0, lt=1)
    bf16: bool = True
    channels_last: bool = False
    validate_rows: int = Field(256, gt=0)
    encoder: Place = Field("", description="folder of the encoder, what `train faceclip` wrote; it stays as it is")
    vae: Place = Field("models/starter/visible/vae", description="folder of the trained autoencoder")
    size: int = Field(128, gt=0, multiple_of=8, description="side of the pictures in pixels")
    shape: Shape = Shape()
    face: float = Field(2.5, gt=0, description="weight of the face's latent cells; the rest has 1")
    time: float = Field(0.6, description="mean of the logit-normal time, 0 = clear, 1 = noise (arXiv 2403.03206, 3.1)")
    drop: float = Field(0.1, ge=0, lt=1, description="share of rows that are told neither face nor text")
    drop_face: float = Field(0.05, ge=0, lt=1, description="share of rows that are told the text alone")
    drop_attribute: float = Field(0.1, ge=0, lt=1, description="chance of each attribute to go unsaid in a caption")
    identity: float = Field(0.0, ge=0, description="weight of 1 - cosine of the clean prediction to the true picture")
    faces: Place = Field("models/starter/faces", description="insightface pack whose recogniser reads both")
    looked_at: int = Field(4, ge=1, description="rows of a step that are decoded and read")
    low_noise: float = Field(0.8, gt=0, le=1, description="largest share of noise of rows that are read")


class Trained(nn.Module):
    """The U-Net, which learns, beside the encoder, which does not and is no submodule."""

    def __init__(self, unet: UNet2DConditionModel, encoder: FaceClip) -> None:
        super().__init__()
        self.unet = unet
        self._frozen = (encoder,)

    def encoder(self) -> FaceClip:
        """Return the frozen encoder, on the device of what learns."""
        return self._frozen[0].to(device_of(self))

    def condition(self, crops: np.ndarray, texts: list[str], has_face: np.ndarray, side: int) -> Conditions:
        """Return what the U-Net is given for latents of `side`.

        crops: uint8 [B, 112, 112, 3], zeros for rows without a face (has_face bool [B]). texts: without prefix.
        """
        device = device_of(self)
        ids = tokenize(add_prefix(texts, has_face.tolist())).to(device)
        with torch.no_grad(), torch.autocast(device.type, enabled=False):
            embeds, pooled = self.encoder()(to_faces(crops, device), ids, torch.from_numpy(has_face).to(device))
        return Conditions(embeds, pooled=pooled, time_ids=sizes_of(side, len(texts), device))


class Drawn(NamedTuple):
    """What is drawn for one visit to rows."""

    texts: list[str]
    has_face: np.ndarray
    timesteps: Tensor
    noise: Tensor


def sizes_of(side: int, rows: int, device: torch.device) -> Tensor:
    """Return SDXL's sizes [rows, 6] of pictures whose latents have `side`, neither cut nor resized."""
    pixels = float(side * SHRINK)
    return torch.tensor([pixels, pixels, 0.0, 0.0, pixels, pixels], device=device).expand(rows, -1)


def weights(config: Config) -> list[Path]:
    """Return the folders that the U-Net is trained beside."""
    read = [cache.from_root(config.faces)] if config.identity else []
    return [Path(config.encoder), cache.from_root(config.vae), *read]


def build(config: Config) -> nn.Module:
    """Return a fresh U-Net for the encoder's embeddings. Raises UserError where no encoder is named."""
    if not config.encoder:
        raise UserError("faceclip_visible draws from embeddings: --set encoder=DIR, what `train faceclip` wrote")
    if config.identity:
        recogniser_of(config.faces)  # refused before anything is prepared
    encoder = load_encoder(Path(config.encoder))
    return Trained(new_unet(config, encoder), encoder)


def new_unet(config: Config, encoder: FaceClip) -> UNet2DConditionModel:
    """Return a fresh U-Net of SDXL's form for the encoder's embeddings and the autoencoder's latents."""
    vae, shape, pooled = cache.autoencoder(config.vae), config.shape, encoder.config.g.width
    unet = UNet2DConditionModel(
        sample_size=config.size // SHRINK,
        in_channels=vae.config.latent_channels,
        out_channels=vae.config.latent_channels,
        down_block_types=("DownBlock2D", *["CrossAttnDownBlock2D"] * (len(shape.widths) - 1)),
        up_block_types=(*["CrossAttnUpBlock2D"] * (len(shape.widths) - 1), "UpBlock2D"),
        block_out_channels=shape.widths,
        layers_per_block=shape.layers,
        norm_num_groups=shape.groups,
        attention_head_dim=shape.heads,  # diffusers means the number of heads
        transformer_layers_per_block=shape.blocks,
        use_linear_projection=True,
        cross_attention_dim=encoder.config.l.width + pooled,
        addition_embed_type="text_time",
        addition_time_embed_dim=shape.time_width,
        projection_class_embeddings_input_dim=pooled + 6 * shape.time_width,
    )
    nn.init.zeros_(unet.conv_out.weight)  # the first prediction is zero, so early steps do not fight a random output
    if not torch.cuda.is_available():  # on CPUs the backward pass of fused attention costs three times the plain one
        unet.set_attn_processor(AttnProcessor())
    return unet


def begin(model: nn.Module, folder: Path) -> None:
    """Fill the U-Net from a part of this kind, or from a visible part of kind latent-diffusion that has its widths and heads.

    Of the latter all is taken but what it was told and how: `FRESH` is silent at first, so that what it drew it still draws.
    Raises UserError for a U-Net of another shape.
    """
    assert isinstance(model, Trained)
    # What both have, in the shapes that are wanted.
    state, wanted = load_part(UNet2DConditionModel, folder / "unet").state_dict(), model.unet.state_dict()
    taken = {name: _fit(state[name], value) for name, value in wanted.items() if name in state}
    other = [name for name in wanted if taken.get(name) is None and not any(part in name for part in FRESH)]
    if other:
        raise UserError(
            f"{folder} has a U-Net of another shape ({other[0]} does not fit): --set shape.widths, heads, blocks and layers "
            "as in its unet/config.json."
        )
    # Values of the new condition are silent, for random ones would be noise in what it draws; their gradients are not zero.
    for name, value in taken.items():
        if value is not None:
            wanted[name].copy_(value)
        elif "to_v" in name:
            wanted[name].zero_()
    if not any(name.startswith(ADDED) for name in state):
        nn.init.zeros_(model.unet.add_embedding.linear_2.weight)
        nn.init.zeros_(model.unet.add_embedding.linear_2.bias)


def _fit(value: Tensor, wanted: Tensor) -> Tensor | None:
    """Return a tensor in the shape of `wanted`, None where it has another: 1 x 1 convolutions are linear layers, and of the
    first convolution the channels of the latents are taken, which come first."""
    if value.ndim == 4 and wanted.ndim == 4 and value.shape[1] > wanted.shape[1]:
        value = value[:, : wanted.shape[1]]
    if value.ndim == 4 and wanted.ndim == 2:
        value = value.flatten(1)
    return value if value.shape == wanted.shape else None


def prepare(rows: Columns, config: Config) -> Columns:
    """Return latents of the picture, how it is aligned for a recogniser, weights of the latents' cells, the face of another view,
    and attributes."""
    given = prepare_rows(rows)
    latents = cache.encode_latents(rows["visible"], config.vae)
    return {
        "latents": latents,
        "align": fit_similarities(five_points(rows["landmarks_70"])).astype(np.float32),
        "weight": cache.face_weight(rows["classes"], latents.shape[-1], config.face),
        "crop": given["crop"][other_views(given["person"], given["view"])],
        "attributes": given["attributes"],
    }


def loss(model: nn.Module, batch: Columns, config: Config, step: int) -> tuple[Tensor, dict[str, float]]:
    """Return the weighted mean squared error of the predicted velocity, plus `identity` x (1 - cosine) of some rows.

    Logged: `cosine` of whom the rows' clean predictions show to whom their pictures show.
    """
    assert isinstance(model, Trained)
    drawn, process = _draw(batch, batch["draw"], config), DiscreteProcess.of(new_scheduler())
    errors, clean = _errors(model, batch, drawn)
    if not config.identity:
        return errors.mean(), {}
    # Whom is shown can be learnt of rows that were told; those of most noise say least of it themselves.
    told = torch.from_numpy(np.flatnonzero(drawn.has_face))
    chosen = told[readable_rows(process, drawn.timesteps[told], config.low_noise, config.looked_at)]
    if not len(chosen):
        return errors.mean(), {}
    pictures = decode_clean(clean[chosen.to(clean.device)], config.vae)
    true, align = (torch.from_numpy(batch[name])[chosen].float() for name in ("latents", "align"))
    cosine = cosine_to_truth(pictures, true, align, recogniser_of(config.faces), config.vae)
    return errors.mean() + config.identity * (1 - cosine).mean(), {"cosine": cosine.mean().item()}


def _draw(batch: Columns, seeds: np.ndarray, config: Config) -> Drawn:
    """Draw what a step needs of its rows, each from its own generator: condition, time step, noise."""
    rngs = [np.random.default_rng(int(seed)) for seed in seeds]
    drops = np.array([rng.random() for rng in rngs])
    silent, has_face = drops < config.drop, drops >= config.drop + config.drop_face
    captions = write_captions(batch["attributes"], seeds, config.drop_attribute)
    texts = ["" if quiet else text for quiet, text in zip(silent, captions, strict=True)]
    timesteps = DiscreteProcess.of(new_scheduler()).timesteps(logit_normal_times(rngs, config.time))
    noise = np.stack([rng.standard_normal(batch["latents"].shape[1:], np.float32) for rng in rngs])
    return Drawn(texts, has_face, timesteps, torch.from_numpy(noise))


def _errors(model: Trained, batch: Columns, drawn: Drawn, faces: np.ndarray | None = None) -> tuple[Tensor, Tensor]:
    """Return the weighted squared error of what the U-Net predicts per row, float32 [B], and the clean latents that it predicts.

    faces: other crops than the rows'.
    """
    device, process = device_of(model), DiscreteProcess.of(new_scheduler())
    latents = torch.from_numpy(batch["latents"]).float()
    noisy = process.add_noise(latents, drawn.noise, drawn.timesteps)
    target = process.target(latents, drawn.noise, drawn.timesteps)
    weight = torch.from_numpy(batch["weight"]).float()[:, None]
    # What the frozen encoder says; rows without a face show zeros.
    crops = (batch["crop"] if faces is None else faces) * drawn.has_face[:, None, None, None].astype(np.uint8)
    conditions = model.condition(crops, drawn.texts, drawn.has_face, latents.shape[-1])
    noisy, timesteps = noisy.to(device), drawn.timesteps.to(device)
    prediction = predict(model.unet, noisy, timesteps, conditions)
    errors = row_errors(prediction, target.to(device), weight.to(device))
    return errors, process.clean(prediction.float(), noisy, timesteps)


def validate(model: nn.Module, rows: Iterable[Columns], config: Config) -> dict[str, float]:
    """Return the training error on fixed draws, and how much worse it gets with another row's face (`identity_gain`) and text
    (`text_gain`)."""
    assert isinstance(model, Trained)
    errors: dict[str, list[Tensor]] = {"own": [], "face": [], "text": []}
    # The same draws with their own face and text, with another row's face, and with another's text.
    for decoded in rows:
        batch = prepare(decoded, config)
        seeds = np.array([seed_of("validation", int(number)) for number in decoded["row"]])
        drawn = _draw(batch, seeds, config.model_copy(update={"drop": 0.0, "drop_face": 0.0}))
        half = len(seeds) // 2
        errors["own"].append(_errors(model, batch, drawn)[0])
        errors["face"].append(_errors(model, batch, drawn, np.roll(batch["crop"], half, axis=0))[0])
        swapped = drawn.texts[half:] + drawn.texts[:half]
        errors["text"].append(_errors(model, batch, drawn._replace(texts=swapped))[0])
    # How much worse the other two are.
    mean = {name: torch.cat(found).mean().item() for name, found in errors.items()}
    gains = {"identity_gain": mean["face"] / mean["own"] - 1, "text_gain": mean["text"] / mean["own"] - 1}
    return {"score": -mean["own"], "error": mean["own"], **gains}


def export(model: nn.Module, config: Config, folder: Path, card: Card) -> None:
    """Write the folder of a part of kind faceclip-sdxl: U-Net in float16, encoder, autoencoder, scheduler and card."""
    assert isinstance(model, Trained)
    model.unet.half().save_pretrained(str(folder / "unet"))
    new_scheduler().save_pretrained(str(folder / "scheduler"))
    for name, source in (("encoder", Path(config.encoder)), ("vae", cache.from_root(config.vae))):
        shutil.copytree(source, folder / name, dirs_exist_ok=True, ignore=shutil.ignore_patterns("files.json", HEADS))
    facts = {"title": "FaceCLIP-SDXL, small", "summary": SUMMARY, "limits": LIMITS}
    card.model_copy(update=facts).write(folder)
