"""Train the visible model: latent diffusion conditioned on an ArcFace embedding, a caption and the head to be shown.

python -m cluster train visible --data URI --validation URI --out DIR

The head's shape is read from the same embedding that conditions the picture, of other pictures of the person; its pose and
expression are the picture's own.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from diffusers.models.attention_processor import AttnProcessor
from pydantic import Field
from torch import Tensor, nn

from models.attributes import mirror_words
from models.captions.grammar import write_caption
from models.card import Card
from models.columns import Columns
from models.diffusion.guidance import Guidance, denoiser
from models.diffusion.process import DiscreteProcess, logit_normal_times, row_errors
from models.diffusion.sample import NamedNoise, sample
from models.diffusion.schedulers import Scheduler, new_scheduler
from models.diffusion.shape import widen_input
from models.diffusion.unet import predict
from models.seeds import seed_of
from models.synthworld.sampling.domain import load_domain, sample_scene
from models.tasks import Place, TrainConfig
from models.visible import cache
from models.visible.autoencoder import SHRINK, Vae, decode
from models.visible.head import FOLDED, REFERENCE, HeadReader, draw_heads, fold_heads, mirror_heads
from models.visible.model import (
    VisibleConfig,
    VisibleModel,
    condition,
    load_visible,
    new_visible,
    save_visible,
)
from models.visible.text import prompts, tokenize
from models.visible.tokenizer import corpus, new_tokenizer
from models.weights.networks import device_of, load_strictly

SUMMARY = """Draws a face of the person that an ArcFace embedding stands for, as a caption says: latent diffusion with the
embedding in a token of the prompt (Arc2Face), beside the time step, and as the bare head that it is shown, whose shape
is read from the embedding and whose pose and expression are the caption's."""
LIMITS = """It draws rendered people of the synthetic world and has seen no photograph. It understands the starter's recogniser
and captions of its own grammar. The head is the world's parametric one: shape that the recogniser does not hold (ears,
nostrils, lines) is average. It has not seen faces turned by more than 60 degrees."""

STAGE = "visible"
COLUMNS = ("world_identity", "view", "domain", "gap", "visible", "classes", "landmarks_70", "attributes")


class RowsConfig(TrainConfig):
    """What a network learns of pictures of people, whatever part of it learns: their rows, and what goes unsaid of them."""

    channels_last: bool = Field(False, description="group norm is slow in NHWC on CPUs")
    validate_rows: int = Field(256, gt=0)
    bf16: bool = True
    size: int = Field(128, gt=0, description="side of the pictures in pixels")
    vae: Place = Field("models/starter/visible/vae", description="folder of the trained autoencoder")
    faces: Place = Field("models/starter/faces", description="insightface pack whose recogniser gives the embeddings")
    face: float = Field(2.5, gt=0, description="weight of the face's latent cells; the rest has 1")
    time: float = Field(0.6, description="mean of the logit-normal time, 0 = clear, 1 = noise (arXiv 2403.03206, 3.1)")
    drop_both: float = Field(
        0.1, ge=0, le=1, description="share of rows that learn the unconditional prediction: no prompt, no identity"
    )
    drop_caption: float = Field(0.1, ge=0, le=1, description="share of rows that keep the identity alone")
    drop_attribute: float = Field(0.1, ge=0, le=1, description="chance of each attribute to go unsaid in a caption")
    drop_head: float = Field(0.1, ge=0, le=1, description="share of rows that are shown no head")
    flip: float = Field(
        0.5, ge=0, le=1, description="share of rows that are seen mirrored, their pose's word with them"
    )
    mean_share: float = Field(0.6, ge=0, le=1, description="share of rows whose identity is a mean over other pictures")


class Config(RowsConfig):
    steps: int = Field(4500, gt=0)
    batch: int = Field(32, gt=0)
    lr: float = Field(1e-3, gt=0)
    warmup: int = Field(200, ge=0)
    ema: float = Field(0.998, ge=0, lt=1)
    shape: VisibleConfig = VisibleConfig()
    vocabulary: int = Field(1024, gt=0, description="entries of the tokenizer at most, twice 256 bytes among them")
    words: int = Field(77, gt=8, description="longest prompt in tokens")


def build(config: Config) -> nn.Module:
    """Return a fresh visible model with a tokenizer learned from the captions' grammar."""
    tokenizer = new_tokenizer(corpus(2000, seed=0), config.vocabulary, config.words)
    vae = cache.autoencoder(config.vae)
    side = config.size // SHRINK
    model = new_visible(config.shape, tokenizer, vae.config.latent_channels, side)
    if not torch.cuda.is_available():  # on CPUs the backward pass of fused attention costs three times the plain one
        model.unet.set_attn_processor(AttnProcessor())
        model.text.text.set_attn_implementation("eager")
    return model


def prepare(rows: Columns, config: Config) -> Columns:
    """Return what `loss` needs of decoded rows, about 11 kB each; see `prepare_rows`."""
    return prepare_rows(rows, config, "world_identity", _load_reader(config) if config.shape.head else None)


def prepare_rows(rows: Columns, config: RowsConfig, person: str, reader: HeadReader | None) -> Columns:
    """Return latents of the picture and of its mirror image, two embeddings of the person's other pictures, weights of the
    latent cells, attributes and, where `reader` reads shapes from embeddings, the drawn head.

    person: the column that says who is shown.
    """
    # The picture and its mirror image as the denoiser sees them.
    latents = cache.encode_latents(rows["visible"], config.vae)
    mirrored = cache.encode_latents(rows["visible"][:, :, ::-1], config.vae) if config.flip else latents
    # Who is shown is taken from other pictures than the row's own; the head is drawn from their mean.
    own = cache.embed_pictures(rows["visible"], rows["landmarks_70"], config.faces)
    mean, one = cache.embeddings_of_others(own, rows[person], rows["view"])
    heads = {"heads": _draw_heads(rows, reader(mean), latents.shape[-1])} if reader else {}
    return {
        "latents": latents,
        "mirrored": mirrored,
        "mean": mean.astype(np.float16),
        "one": one.astype(np.float16),
        "weight": cache.face_weight(rows["classes"], latents.shape[-1], config.face),
        "attributes": rows["attributes"],
        **heads,
    }


def _draw_heads(rows: Columns, measures: np.ndarray, side: int) -> np.ndarray:
    """Draw the heads that rows show, int8 [B, S / 2, S / 2, 6], of people's measures [B, 58]; side: of the latents."""
    names = zip(*(rows[name] for name in ("domain", "gap", "world_identity", "view")), strict=True)
    # The gap is stored in single precision: 0.3 must not become another domain than the one that was rendered.
    views = [
        sample_scene(load_domain(str(domain), round(float(gap), 6)), int(identity), int(view), "warm").view
        for domain, gap, identity, view in names
    ]
    return draw_heads(measures, views, side)


def _load_reader(config: Config) -> HeadReader:
    return HeadReader.load(cache.from_root(config.faces) / REFERENCE)


def loss(model: nn.Module, batch: Columns, config: Config, step: int) -> tuple[Tensor, dict[str, float]]:
    """Return the weighted mean squared error of the predicted velocity, v = alpha noise - sigma latents (arXiv 2202.00512,
    section 4).

    Logged as `noisy` and `clear`: its means over the rows of the later and the earlier half of the time steps.
    """
    assert isinstance(model, VisibleModel)
    process = DiscreteProcess.of(new_scheduler())
    drawn = draw_rows(batch, config, process)
    texts = ["" if text is None else prompts([text])[0] for text in drawn.captions]
    errors = prediction_error(model, process, drawn, texts)
    return errors.mean(), by_time(errors, drawn.timesteps)


@dataclass(frozen=True)
class Drawn:
    """Rows with all that is drawn for one visit to each."""

    batch: Columns
    captions: list[str | None]
    """None for the unconditional prediction, "" for the identity alone."""
    embedding: Tensor
    """float32 [B, 512], zeros for the unconditional prediction."""
    timesteps: Tensor
    noise: Tensor
    with_head: np.ndarray | None = None
    """bool [B], which rows are shown their head; all by default."""


def draw_rows(batch: Columns, config: RowsConfig, process: DiscreteProcess) -> Drawn:
    """Draw what a step needs of its rows, each from its own generator."""
    # Always in this order: flip, condition, time step, noise, head.
    rngs = [np.random.default_rng(int(seed)) for seed in batch["draw"]]
    batch = flip(batch, rngs, config.flip)
    captions, embedding = draw_conditions(batch, rngs, config)
    # What a picture shows is decided between noise and clear; most of the error near clear is grain that cannot be predicted.
    timesteps = process.timesteps(logit_normal_times(rngs, config.time))
    noise = np.stack([rng.standard_normal(batch["latents"].shape[1:], np.float32) for rng in rngs])
    with_head = np.array([rng.random() >= config.drop_head for rng in rngs])
    return Drawn(batch, captions, embedding, timesteps, torch.from_numpy(noise), with_head)


def by_time(errors: Tensor, timesteps: Tensor) -> dict[str, float]:
    """Return the mean error of the rows in the later (`noisy`) and the earlier half (`clear`) of the time steps."""
    noisy = (timesteps >= 500).to(errors.device)
    metrics = {"noisy": errors[noisy].mean().item()} if noisy.any() else {}
    metrics |= {"clear": errors[~noisy].mean().item()} if (~noisy).any() else {}
    return metrics


def flip(batch: Columns, rngs: list[np.random.Generator], share: float) -> Columns:
    """Return the rows with `share` of them mirrored: latents, weights, heads and the side that the pose's word names."""
    # Latents of the mirrored picture are prepared; all else is mirrored here.
    mirrored = np.array([rng.random() < share for rng in rngs])
    of_row = mirrored[:, None, None]
    heads = batch.get("heads")
    flipped = {} if heads is None else {"heads": np.where(of_row[..., None], mirror_heads(heads), heads)}
    # Words and weights name sides, too.
    return {
        **batch,
        **flipped,
        "flipped": mirrored,
        "latents": np.where(of_row[..., None], batch["mirrored"], batch["latents"]),
        "weight": np.where(of_row, batch["weight"][..., ::-1], batch["weight"]),
        "attributes": np.array(
            [_mirror(str(text)) if f else text for text, f in zip(batch["attributes"], mirrored, strict=True)]
        ),
    }


def _mirror(attributes: str) -> str:
    """Return the attributes (JSON) of the mirrored picture."""
    return json.dumps(mirror_words(json.loads(attributes)))


def draw_conditions(
    batch: Columns, rngs: list[np.random.Generator], config: RowsConfig
) -> tuple[list[str | None], Tensor]:
    """Return what the rows are told: captions, and embeddings float32 [B, 512].

    `drop_both` of the rows get no prompt (None) and a zero embedding, as the unconditional prediction of guidance has them;
    `drop_caption` of them get an empty caption: the identity alone.
    """
    captions: list[str | None] = []
    embeddings = []
    for row, rng in enumerate(rngs):
        drop, source, seed = rng.random(), rng.random(), int(rng.integers(2**62))
        attributes = json.loads(str(batch["attributes"][row]))
        attributes = {name: word for name, word in attributes.items() if rng.random() >= config.drop_attribute}
        unconditional = drop < config.drop_both
        without_caption = drop < config.drop_both + config.drop_caption
        captions.append(None if unconditional else "" if without_caption else write_caption(attributes, seed))
        # The mean over a person's other views says more of them; a single view is what a user often has.
        embedding = batch["mean" if source < config.mean_share else "one"][row].astype(np.float32)
        embeddings.append(embedding * (not unconditional))
    return captions, torch.from_numpy(np.stack(embeddings))


def prediction_error(
    model: VisibleModel, process: DiscreteProcess, drawn: Drawn, texts: list[str], words: Tensor | None = None
) -> Tensor:
    """Return the weighted squared error of what the U-Net predicts per row, float32 [B].

    texts: the rows' prompts. words: [B, T', width], what a text branch reads.
    """
    device = device_of(model)
    latents = torch.from_numpy(drawn.batch["latents"]).float()
    noisy_latents = process.add_noise(latents, drawn.noise, drawn.timesteps)
    target = process.target(latents, drawn.noise, drawn.timesteps)
    weight = torch.from_numpy(drawn.batch["weight"]).float()[:, None]

    inputs = (noisy_latents, drawn.timesteps, drawn.embedding, target, weight, tokenize(model.tokenizer, texts))
    noisy_latents, timesteps, embedding, target, weight, ids = (values.to(device) for values in inputs)
    head = head_input(drawn.batch, drawn.with_head)
    head = None if head is None else head.to(device)
    conditions = condition(model.unet, model.text(ids, embedding), embedding, head, words=words)
    return row_errors(predict(model.unet, noisy_latents, timesteps, conditions), target, weight)


def head_input(batch: Columns, with_head: np.ndarray | None = None) -> Tensor | None:
    """Return the rows' heads as the U-Net takes them, zero where they are not shown; None for a model without."""
    if "heads" not in batch:
        return None
    heads = fold_heads(batch["heads"])
    return heads if with_head is None else heads * torch.from_numpy(with_head).view(-1, 1, 1, 1)


def validate(model: nn.Module, rows: Iterable[Columns], config: Config) -> dict[str, float]:
    """Return the training error on fixed draws, and how much worse it gets with someone else's embedding (`identity_gain`)."""
    assert isinstance(model, VisibleModel)
    process = DiscreteProcess.of(new_scheduler())
    errors, errors_of_others = [], []
    for decoded in rows:
        drawn = draw_validation(prepare(decoded, config), decoded["row"])
        # The same noise twice: with the person's own embedding, and with that of a row half a batch away.
        other = replace(drawn, embedding=drawn.embedding.roll(len(drawn.embedding) // 2, dims=0))
        texts = prompts([str(text) for text in drawn.captions])
        errors.append(prediction_error(model, process, drawn, texts))
        errors_of_others.append(prediction_error(model, process, other, texts))
    own, swapped = torch.cat(errors).mean().item(), torch.cat(errors_of_others).mean().item()
    return {"score": -own, "error": own, "identity_gain": swapped / own - 1}


def draw_validation(batch: Columns, row: np.ndarray) -> Drawn:
    """Return prepared rows with a whole caption, a time step and noise each, which follow from `row` int [B] alone."""
    rngs = [np.random.default_rng(seed_of("validation", number)) for number in row]
    said = zip(batch["attributes"], row, strict=True)
    captions: list[str | None] = [write_caption(json.loads(str(text)), int(number)) for text, number in said]
    timesteps = torch.tensor([int(rng.integers(1000)) for rng in rngs])
    noise = np.stack([rng.standard_normal(batch["latents"].shape[1:], np.float32) for rng in rngs])
    embedding = torch.from_numpy(batch["mean"].astype(np.float32))
    return Drawn(batch, captions, embedding, timesteps, torch.from_numpy(noise))


def pictures(model: nn.Module, rows: Columns, config: Config) -> np.ndarray:
    """Return a sheet uint8: eight pictures, and below each what the model makes of its embedding and caption."""
    assert isinstance(model, VisibleModel)
    few = {name: values[:8] for name, values in rows.items()}
    batch = prepare(few, config)
    texts = prompts([write_caption(json.loads(str(text)), 0) for text in batch["attributes"]])
    return draw_sheet(model, new_scheduler(), cache.autoencoder(config.vae), few["visible"], batch, texts)


def draw_sheet(
    model: VisibleModel,
    scheduler: Scheduler,
    vae: Vae,
    shown: np.ndarray,
    batch: Columns,
    texts: list[str],
    words: tuple[Tensor, Tensor] | tuple[None, None] = (None, None),
) -> np.ndarray:
    """Return pictures `shown` uint8 [B, S, S, 3] in a line, and below each what the model makes of its conditions.

    batch: the prepared rows. texts: their prompts. words: what a text branch reads of captions, and of empty ones.
    """
    # Conditions as sampling has them.
    device = device_of(model)
    embedding = torch.from_numpy(batch["mean"].astype(np.float32)).to(device)
    prompt_embeds = model.text(tokenize(model.tokenizer, texts).to(device), embedding)
    empty_prompt_embeds = model.text(tokenize(model.tokenizer, [""]).to(device)).expand(len(texts), -1, -1)
    head = head_input(batch)
    head = None if head is None else head.to(device)
    cond = condition(model.unet, prompt_embeds, embedding, head, words=words[0])
    uncond = condition(model.unet, empty_prompt_embeds, torch.zeros_like(embedding), head, words=words[1])
    # The same noise in every sheet, so that sheets can be compared.
    names = [f"sheet-{row}" for row in range(len(texts))]
    latents = sample(
        denoiser(model.unet, cond, uncond, Guidance(2.0)),
        NamedNoise(names, "visible"),
        batch["latents"].shape[1:],
        scheduler,
        16,
        device=device,
    )
    made = decode(vae, latents.cpu()).numpy()
    return np.concatenate([np.concatenate(list(line), 1) for line in (shown, made)])


def begin(model: nn.Module, folder: Path) -> None:
    """Fill `model` from a visible part. From one that is shown no heads it begins with zero weights for them, so that it
    draws what the part drew.
    """
    assert isinstance(model, VisibleModel)
    part = load_visible({"model": folder})
    load_strictly(model.unet, widen_input(part.unet.state_dict(), model.unet, FOLDED), folder / "unet")
    load_strictly(model.text, part.text.state_dict(), folder / "encoder")
    # The encoder's vectors are of the part's own tokens: another tokenizer would number them otherwise.
    model.tokenizer, model.text.id_token = part.tokenizer, part.text.id_token


def export(model: nn.Module, config: Config, folder: Path, card: Card) -> None:
    """Write the visible part in diffusers' layout, in float16, with the autoencoder, and the card."""
    assert isinstance(model, VisibleModel)
    save_visible(model, cache.from_root(config.vae), folder, _load_reader(config) if config.shape.head else None)
    facts = {"title": "Visible face from embedding and caption", "summary": SUMMARY, "limits": LIMITS}
    card.model_copy(update=facts).write(folder)
