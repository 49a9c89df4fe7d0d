"""Train the translator: thermal latents and attributes in, visible latents out.

python -m cluster train translator --data URI --validation URI --out DIR --set autoencoder=DIR

Each attribute is told or left out anew at every visit of a row, so one network serves callers who know some of them. A share
of the rows is seen as 8-bit cameras show them, stretched over the picture's own range.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from diffusers.models.attention_processor import AttnProcessor
from pydantic import Field, field_validator
from torch import Tensor, nn

from models.attributes import mirror_words
from models.card import Card
from models.columns import Columns
from models.diffusion.guidance import Guidance, denoiser
from models.diffusion.process import DiscreteProcess, levels, logit_normal_times, row_errors
from models.diffusion.sample import NamedNoise, sample
from models.diffusion.schedulers import new_scheduler
from models.diffusion.unet import predict
from models.errors import UserError
from models.faces.align import align, fit_similarities, five_points
from models.faces.differentiable import DifferentiableRecogniser, align_pictures
from models.faces.metrics import unit_vectors
from models.faces.pack import Session, embed, open_sessions, recogniser_file
from models.landmarks.intensity import show_thermal
from models.padding import in_batches
from models.seeds import seed_of
from models.tasks import TrainConfig, absolute
from models.temperature import fill, stretch
from models.thermal.latent.autoencoder import ThermalAutoencoder, load_autoencoder
from models.translation.attributes import AttributeClassifier, encode_words, entropy, label_words, load_classifier
from models.translation.network import (
    Translator,
    TranslatorConfig,
    read_config,
    read_into,
    save_translator,
    thermal_channels,
    thermal_latents,
)
from models.translation.settings import ATTRIBUTES, LANDMARKS, RECOGNISER, VAE
from models.translation.transfer import begin_with_visible
from models.visible import cache
from models.visible.autoencoder import decode
from models.weights.networks import device_of

STAGE = "translate"
COLUMNS = ("visible", "classes", "thermal", "attributes", "landmarks_70")
SUMMARY = """Turns a thermal face into a visible one, a draw at a time: latent diffusion beside the thermal latents, told
attributes, with {mixing} in the place of self-attention. An interpretation of arXiv 2512.21032, whose internals are not
public."""
LIMITS = """Learnt from rendered people, so of them alone. What a thermal picture cannot show (skin tone, hair colour, iris) is
what it is told, or drawn from the training's people: a translation is a picture that could be, not what the person looks like."""


class Config(TrainConfig):
    steps: int = Field(4000, gt=0)
    batch: int = Field(32, gt=0)
    lr: float = Field(1e-3, gt=0)
    warmup: int = Field(200, ge=0)
    ema: float = Field(0.998, ge=0, lt=1)
    channels_last: bool = Field(False, description="group norm is slow in NHWC on CPUs")
    validate_rows: int = Field(256, gt=0)
    size: int = Field(128, gt=0, multiple_of=8, description="side of the pictures in pixels")
    vae: str = Field("models/starter/visible/vae", description="folder of the visible autoencoder")
    autoencoder: str = Field("", description="folder of the thermal one, which `train thermal_vae` writes")
    shape: TranslatorConfig = TranslatorConfig()
    face: float = Field(2.5, gt=0, description="weight of the face's latent cells; the rest has 1")
    time: float = Field(0.3, description="mean of the logit-normal time, 0 = clear, 1 = noise (arXiv 2403.03206, 3.1)")
    regression: bool = Field(
        False, description="learn the mean alone, in one step from noise that says nothing: sampled with steps=1"
    )
    flip: float = Field(0.5, ge=0, le=1, description="share of rows that are seen mirrored")
    grey: float = Field(0.2, ge=0, le=1, description="share of rows whose thermal picture is seen as 8-bit grey levels")
    tell: float = Field(0.7, ge=0, le=1, description="chance of an attribute to be told in a row that is told any")
    tell_nothing: float = Field(0.15, ge=0, le=1, description="share of rows that are told no attribute")
    stage1: str = Field("", description="folder of a translator that stays as it is: the control network alone learns")
    visible: str = Field("", description="folder of a visible model: layers of its U-Net that fit are begun with")
    thermal_attributes: str = Field("", description="folder of the thermal classifier that goes with the translator")
    attributes: str = Field("", description="folder of the visible classifier whose reading of pictures is a loss")
    consistency: float = Field(0.05, ge=0, description="weight of the attributes that are read in the clean prediction")
    faces: str = Field("models/starter/faces", description="insightface pack whose recogniser's cosine is a loss")
    identity: float = Field(0.0, ge=0, description="weight of 1 - cosine of the clean prediction to the true picture")
    recogniser: str = Field(
        "", description="folder of a recogniser of thermal faces, which says who is shown (shape.identity)"
    )
    landmarks: str = Field("models/starter/landmarks", description="folder of the landmarker that finds faces for it")
    unknown: float = Field(0.1, ge=0, le=1, description="share of rows that are not told who is shown")
    looked_at: int = Field(4, ge=0, description="rows of a step that are decoded for the two losses above")
    low_noise: float = Field(0.8, gt=0, le=1, description="largest share of noise of rows that are decoded")

    _absolute = field_validator("autoencoder", "stage1", "visible", "thermal_attributes", "attributes", "recogniser")(
        absolute
    )


@lru_cache(maxsize=1)
def _autoencoder(folder: str) -> ThermalAutoencoder:
    return load_autoencoder(cache.from_root(folder)).requires_grad_(False)


@lru_cache(maxsize=1)
def _classifier(folder: str) -> AttributeClassifier:
    found = load_classifier(cache.from_root(folder))
    if found.config.modality != "visible":
        raise UserError(f"{folder} reads attributes from thermal pictures: name one that was trained on visible ones")
    return found


@lru_cache(maxsize=1)
def _recogniser(folder: str) -> DifferentiableRecogniser:
    path = recogniser_file(cache.from_root(folder))
    if path is None:
        raise UserError(f"{folder} holds no recogniser to keep the identity by: name an insightface pack as faces.")
    return DifferentiableRecogniser(path)


@lru_cache(maxsize=1)
def _thermal_recogniser(folder: str) -> Session:
    session = open_sessions(cache.from_root(folder), threads=1)[1]
    if session is None:
        raise UserError(f"{folder} holds no recogniser of thermal faces: name what `train hfr` wrote.")
    return session


def weights(config: Config) -> list[Path]:
    """Return the folders that training reads beside `init`. Raises UserError where the thermal autoencoder is not named."""
    if not config.autoencoder:
        raise UserError(
            "translator needs an autoencoder of temperatures: train thermal_vae, then --set autoencoder=DIR"
        )
    if bool(config.stage1) != config.shape.control:
        raise UserError("a control network learns on a frozen translator: name both, shape.control=true and stage1=DIR")
    if bool(config.recogniser) != bool(config.shape.identity):
        raise UserError(
            "who is shown is told by a recogniser of thermal faces: name both, shape.identity=512 and recogniser=DIR"
        )
    named = [
        config.recogniser,
        config.vae,
        config.autoencoder,
        config.thermal_attributes,
        config.attributes,
        config.stage1,
        config.visible,
    ]
    named += [config.faces] if config.identity else []
    return [cache.from_root(folder) for folder in named if folder]


def build(config: Config) -> nn.Module:
    """Return a fresh translator for the latents of both autoencoders."""
    channels = cache.autoencoder(config.vae).config.latent_channels
    model = Translator(config.shape, channels, thermal_channels(_autoencoder(config.autoencoder)))
    if not torch.cuda.is_available():  # on CPUs the backward pass of fused attention costs three times the plain one
        model.unet.set_attn_processor(AttnProcessor())
    if config.visible:
        begin_with_visible(model.unet, cache.from_root(config.visible))
    if config.stage1:
        read_into(model, cache.from_root(config.stage1), control=False)
        model.requires_grad_(False)
        assert model.guide.control is not None
        model.guide.control.requires_grad_(True)
    return model


def begin(model: nn.Module, folder: Path) -> None:
    """Fill `model` from the folder of a translator of the same shape."""
    assert isinstance(model, Translator)
    read_config(folder)
    read_into(model, folder)


def prepare(rows: Columns, config: Config) -> Columns:
    """Return what `loss` needs of decoded rows: latents of both modalities, and of their mirror images, those of the thermal
    picture as grey levels, too; cell weights, words, and how the picture is aligned for the recogniser."""
    autoencoder = _autoencoder(config.autoencoder)
    celsius = np.stack([fill(one) for one in rows["thermal"]])
    grey = np.stack([stretch(one, config.shape.celsius) for one in celsius])

    def encode(pictures: np.ndarray) -> np.ndarray:
        values = torch.from_numpy(np.ascontiguousarray(pictures))
        with torch.inference_mode():
            return in_batches(lambda few: thermal_latents(autoencoder, few), values, cache.BATCH).half().numpy()

    visible = cache.encode_latents(rows["visible"], config.vae)
    points = five_points(rows["landmarks_70"])
    mirrored = np.stack([rows["visible"].shape[2] - points[..., 0], points[..., 1]], axis=-1)[:, [1, 0, 2, 4, 3]]
    return {
        "visible": visible,
        "visible_mirrored": cache.encode_latents(rows["visible"][:, :, ::-1], config.vae),
        "thermal": encode(celsius),
        "thermal_mirrored": encode(celsius[:, :, ::-1]),
        "grey": encode(grey),
        "grey_mirrored": encode(grey[:, :, ::-1]),
        "weight": cache.face_weight(rows["classes"], visible.shape[-1], config.face),
        "attributes": rows["attributes"],
        "align": np.stack([fit_similarities(points), fit_similarities(mirrored)], axis=1).astype(np.float32),
        **({"who": _embed(celsius, points, mirrored, config)} if config.recogniser else {}),
    }


def _embed(celsius: np.ndarray, points: np.ndarray, mirrored: np.ndarray, config: Config) -> np.ndarray:
    """Return whom thermal pictures [B, S, S] and their mirror images show by the thermal recogniser, float16 [B, 2, 512]."""
    session, shown = _thermal_recogniser(config.recogniser), np.stack([show_thermal(one) for one in celsius])
    both = ((shown, points), (np.ascontiguousarray(shown[:, :, ::-1]), mirrored))
    found = [
        unit_vectors(embed(session, align(pictures, five.astype(np.float32)), cache.BATCH)) for pictures, five in both
    ]
    return np.stack(found, axis=1).astype(np.float16)


@dataclass(frozen=True)
class Drawn:
    """Rows with all that is drawn for one visit to each. Tensors [B, ...] float32 but `timesteps`; words: of the true picture.
    who: embeddings of whom thermal pictures show, zeros in rows that are not told."""

    latents: Tensor
    thermal: Tensor
    told: Tensor
    words: list[dict[str, str]]
    weight: Tensor
    align: Tensor
    timesteps: Tensor
    noise: Tensor
    who: Tensor | None


def draw_rows(batch: Columns, config: Config, process: DiscreteProcess, seeds: Iterable[int]) -> Drawn:
    """Draw what a step needs of its rows, each from its own generator."""
    # Always in this order: flip, grey, attributes, time step, noise, who.
    rngs = [np.random.default_rng(int(seed)) for seed in seeds]
    mirrored = np.array([rng.random() < config.flip for rng in rngs])
    grey = np.array([rng.random() < config.grey for rng in rngs])
    rows = [json.loads(text) for text in batch["attributes"]]
    words = [mirror_words(row) if flip else row for row, flip in zip(rows, mirrored, strict=True)]
    told = [draw_told(rng, row, config) for rng, row in zip(rngs, words, strict=True)]
    times = logit_normal_times(rngs, config.time)
    timesteps = process.timesteps(np.ones_like(times) if config.regression else times)
    noise = np.stack([rng.standard_normal(batch["visible"].shape[1:], np.float32) for rng in rngs])

    who = None
    if "who" in batch:
        told_who = np.array([rng.random() >= config.unknown for rng in rngs])
        own = batch["who"][np.arange(len(rngs)), mirrored.astype(int)]
        who = torch.from_numpy(own.astype(np.float32) * told_who[:, None])

    def choose(name: str) -> np.ndarray:
        return np.where(mirrored[:, None, None, None], batch[f"{name}_mirrored"], batch[name]).astype(np.float32)

    thermal = np.where(grey[:, None, None, None], choose("grey"), choose("thermal"))
    weight = np.where(mirrored[:, None, None], batch["weight"][..., ::-1], batch["weight"]).astype(np.float32)
    return Drawn(
        torch.from_numpy(choose("visible")), torch.from_numpy(thermal), encode_words(told, config.shape.words), words,
        torch.from_numpy(weight)[:, None], torch.from_numpy(batch["align"][np.arange(len(rngs)), mirrored.astype(int)]),
        timesteps, torch.from_numpy(noise), who,
    )  # fmt: skip


def draw_told(rng: np.random.Generator, words: dict[str, str], config: Config) -> dict[str, str]:
    """Return the words that a row is told: none, or each with the chance `tell`."""
    nothing, shares = rng.random(), rng.random(len(config.shape.words))
    if nothing < config.tell_nothing:
        return {}
    return {
        n: words[n] for n, share in zip(config.shape.words, shares, strict=True) if share < config.tell and n in words
    }


def loss(model: nn.Module, batch: Columns, config: Config, step: int) -> tuple[Tensor, dict[str, float]]:
    """Return the weighted error of the predicted velocity, plus what is read in the clean prediction of some rows.

    Logged: `noisy` and `clear`, its means over the later and the earlier half of the time steps; `attributes`, `cosine`.
    """
    assert isinstance(model, Translator)
    process = DiscreteProcess.of(new_scheduler())
    drawn = draw_rows(batch, config, process, batch["draw"])
    errors, clean = prediction_error(model, process, drawn)
    noisy = (drawn.timesteps >= 500).to(errors.device)
    metrics = {"noisy": errors[noisy].mean().item()} if noisy.any() else {}
    metrics |= {"clear": errors[~noisy].mean().item()} if (~noisy).any() else {}
    total = errors.mean()
    # What is predicted at the most noise that still lets it be read: with more, the clean prediction is a mean of pictures;
    # with little, the noisy latents themselves show who it is, and nothing is learnt of the thermal ones.
    noise = levels(process.scheduler, drawn.timesteps, torch.zeros(len(clean), 1))[1].flatten()
    chosen = noise.argsort(descending=True)
    chosen = chosen[noise[chosen] <= config.low_noise][: config.looked_at]
    if len(chosen) and (config.identity or (config.attributes and config.consistency)):
        pictures = _decode(clean[chosen.to(clean.device)], config)
        if config.attributes and config.consistency:
            wrong = _misread(pictures, [drawn.words[k] for k in chosen.tolist()], config)
            total, metrics["attributes"] = total + config.consistency * wrong, wrong.item()
        if config.identity:
            cosine = _cosine(pictures, drawn, chosen, config)
            total, metrics["cosine"] = total + config.identity * (1 - cosine).mean(), cosine.mean().item()
    return total, metrics


def prediction_error(model: Translator, process: DiscreteProcess, drawn: Drawn) -> tuple[Tensor, Tensor]:
    """Return the weighted squared error of each row [B], of weights of mean one, and the clean latents that are predicted."""
    device = device_of(model)
    noisy = process.add_noise(drawn.latents, drawn.noise, drawn.timesteps).to(device)
    target = process.target(drawn.latents, drawn.noise, drawn.timesteps).to(device)
    who = None if drawn.who is None else drawn.who.to(device)
    conditions = model.guide(drawn.told.to(device), drawn.thermal.to(device), who)
    timesteps = drawn.timesteps.to(device)
    prediction = predict(model.unet, noisy, timesteps, conditions)
    weight = (drawn.weight / drawn.weight.mean(dim=(1, 2, 3), keepdim=True)).to(device)
    return row_errors(prediction, target, weight), process.clean(prediction.float(), noisy, timesteps)


def _decode(latents: Tensor, config: Config) -> Tensor:
    """Return pictures float32 [B, 3, S, S] in [-1, 1] of latents, with their gradient."""
    vae = cache.autoencoder(config.vae).to(latents.device)
    return vae.decode((latents / vae.config.scaling_factor).to(vae.dtype)).sample.float().clamp(-1, 1)


def _misread(pictures: Tensor, words: Sequence[dict[str, str]], config: Config) -> Tensor:
    """Return the cross-entropy of the rows' words as the visible classifier reads them, mean over rows and attributes."""
    classifier = _classifier(config.attributes).to(pictures.device)
    labels = torch.from_numpy(label_words(words, classifier.config.words)).to(pictures.device)
    return torch.stack(list(entropy(classifier(pictures), labels).values())).mean()


def _cosine(pictures: Tensor, drawn: Drawn, chosen: Tensor, config: Config) -> Tensor:
    """Return the cosine of whom pictures show to whom the true ones show, after both have been through the autoencoder, [B]."""
    recogniser = _recogniser(config.faces)
    with torch.no_grad():
        true = _decode(drawn.latents[chosen].to(pictures.device), config)
    both = (torch.cat([pictures, true]) + 1) * 127.5
    matrices = drawn.align[chosen].to(pictures).repeat(2, 1, 1)
    found = F.normalize(recogniser(align_pictures(both, matrices)), dim=1)
    ours, theirs = found.chunk(2)
    return (ours * theirs.detach()).sum(dim=1)


def validate(model: nn.Module, rows: Iterable[Columns], config: Config) -> dict[str, float]:
    """Return the training error on fixed draws, and its part at noisy and clear time steps."""
    assert isinstance(model, Translator)
    process = DiscreteProcess.of(new_scheduler())
    errors, steps = [], []
    for decoded in rows:
        seeds = [seed_of("validation", number) for number in decoded["row"]]
        drawn = draw_rows(prepare(decoded, config), config, process, seeds)
        errors.append(prediction_error(model, process, drawn)[0].cpu())
        steps.append(drawn.timesteps)
    error, step = torch.cat(errors), torch.cat(steps)
    halves = {"noisy": error[step >= 500], "clear": error[step < 500]}
    found = {name: values.mean().item() for name, values in halves.items() if len(values)}
    return {"score": -error.mean().item(), "error": error.mean().item(), **found}


def pictures(model: nn.Module, rows: Columns, config: Config) -> np.ndarray:
    """Return a sheet uint8: visible pictures over what is made of their thermal ones, told nothing, by eight steps."""
    assert isinstance(model, Translator)
    device, few = device_of(model), {name: values[:8] for name, values in rows.items()}
    celsius = torch.from_numpy(np.stack([fill(one) for one in few["thermal"]]))
    thermal = thermal_latents(_autoencoder(config.autoencoder), celsius).to(device)
    told, who = encode_words([{}] * len(celsius), config.shape.words).to(device), None
    if config.recogniser:
        who = torch.from_numpy(prepare(few, config)["who"][:, 0].astype(np.float32)).to(device)
    conditions = model.guide(told, thermal, who)
    latents = sample(
        denoiser(model.unet, conditions, conditions, Guidance(1.0)),
        NamedNoise([str(k) for k in range(len(celsius))], "translate"),
        (model.unet.config.out_channels, *thermal.shape[2:]),
        new_scheduler(),
        8,
        device=device,
    )
    made = decode(cache.autoencoder(config.vae), latents.cpu()).numpy()
    return np.concatenate([np.concatenate(list(line), 1) for line in (few["visible"], made)])


def export(model: nn.Module, config: Config, folder: Path, card: Card) -> None:
    """Write the folder of the part (`models.translation.network`) and the card."""
    assert isinstance(model, Translator)
    named = {VAE: config.vae, ATTRIBUTES: config.thermal_attributes, RECOGNISER: config.recogniser}
    copied = {name: cache.from_root(source) for name, source in named.items() if source}
    if config.recogniser:
        copied[f"{LANDMARKS}/70"] = cache.from_root(config.landmarks) / "70"
    save_translator(model, _autoencoder(config.autoencoder), copied, folder)
    block = config.shape.block
    mixing = block.mixing if block.mixing == "attention" else f"{block.mixing} and windows of {block.window}"
    facts: dict[str, Any] = {"title": "Thermal to visible", "summary": SUMMARY.format(mixing=mixing), "limits": LIMITS}
    card.model_copy(update=facts).write(folder)
