"""Train the visible model: latent diffusion conditioned on an ArcFace embedding, a caption and the head to be shown.

The head's shape is read from the same embedding that conditions the picture, of other pictures of the person; its pose and
expression are the picture's own.
"""

import json
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch
from diffusers.models.attention_processor import AttnProcessor
from pydantic import Field
from torch import Tensor, nn

from models.captions.grammar import caption
from models.card import Card
from models.columns import Columns
from models.seeds import seed_of
from models.synthworld.sampling.domain import load_domain, sample_scene
from models.tasks import TrainConfig
from models.visible import cache
from models.visible.autoencoder import SHRINK, decode
from models.visible.head import HeadReader, drawn, folded, mirrored
from models.visible.model import VisibleConfig, VisibleModel, load_visible, new_scheduler, new_visible, save_visible
from models.visible.sampler import sample
from models.visible.text import prompts, tokens
from models.visible.tokenizer import corpus, new_tokenizer
from models.weights.networks import device_of, load_strictly

SUMMARY = """Draws a face of the person that an ArcFace embedding stands for, as a caption says: latent diffusion with the
embedding in a token of the prompt (Arc2Face), beside the time step, and as the bare head that it is shown, whose shape
is read from the embedding and whose pose and expression are the caption's."""
LIMITS = """It draws rendered people of the synthetic world and has seen no photograph. It understands the starter's recogniser
and captions of its own grammar. The head is the world's parametric one: shape that the recogniser does not hold (ears,
nostrils, lines) is average. It has not seen faces turned by more than 60 degrees."""

REFERENCE = "reference.safetensors"
STAGE = "visible"
COLUMNS = ("world_identity", "view", "domain", "gap", "visible", "classes", "landmarks_70", "attributes")


class Config(TrainConfig):
    steps: int = Field(4500, gt=0)
    batch: int = Field(32, gt=0)
    lr: float = Field(1e-3, gt=0)
    warmup: int = Field(200, ge=0)
    ema: float = Field(0.998, ge=0, lt=1)
    bf16: bool = True
    channels_last: bool = Field(False, description="group norm is slow in NHWC on CPUs")
    validate_rows: int = Field(256, gt=0)
    size: int = Field(128, gt=0, description="side of the pictures in pixels")
    vae: str = Field("models/starter/visible/vae", description="folder of the trained autoencoder")
    faces: str = Field("models/starter/faces", description="insightface pack whose recogniser gives the embeddings")
    shape: VisibleConfig = VisibleConfig()
    vocabulary: int = Field(1024, gt=0, description="entries of the tokenizer at most, twice 256 bytes among them")
    words: int = Field(77, gt=8, description="longest prompt in tokens")
    face: float = Field(2.5, gt=0, description="weight of the face's latent cells; the rest has 1")
    time: float = Field(0.6, description="mean of the logit-normal time, 0 = clear, 1 = noise (arXiv 2403.03206, 3.1)")
    drop_both: float = Field(0.1, ge=0, le=1, description="share of rows that learn the empty prompt and nobody")
    drop_caption: float = Field(0.1, ge=0, le=1, description="share of rows that keep the identity alone")
    drop_attribute: float = Field(0.1, ge=0, le=1, description="chance of each attribute to go unsaid in a caption")
    drop_head: float = Field(0.1, ge=0, le=1, description="share of rows that are shown no head")
    flip: float = Field(
        0.5, ge=0, le=1, description="share of rows that are seen mirrored, their pose's word with them"
    )
    mean_share: float = Field(0.6, ge=0, le=1, description="share of rows whose identity is a mean over other pictures")


def build(config: Config) -> nn.Module:
    tokenizer = new_tokenizer(corpus(2000, seed=0), config.vocabulary, config.words)
    vae = cache.autoencoder(config.vae)
    side = config.size // SHRINK
    model = new_visible(config.shape, tokenizer, vae.config.latent_channels, side)
    if not torch.cuda.is_available():  # on CPUs the backward pass of fused attention costs three times the plain one
        model.unet.set_attn_processor(AttnProcessor())
        model.text.text.set_attn_implementation("eager")
    return model


def prepare(rows: Columns, config: Config) -> Columns:
    """Return what `loss` needs of decoded rows: 11 kB a picture."""
    latents = cache.latents(rows["visible"], config.vae)
    mirrored = cache.latents(rows["visible"][:, :, ::-1], config.vae) if config.flip else latents
    own = cache.embeddings(rows["visible"], rows["landmarks_70"], config.faces)
    mean, one = cache.of_others(own, rows["world_identity"], rows["view"])
    heads = {"heads": _heads(rows, mean, config)} if config.shape.head else {}
    return {
        "latents": latents,
        "mirrored": mirrored,
        "mean": mean.astype(np.float16),
        "one": one.astype(np.float16),
        "weight": cache.face_weight(rows["classes"], latents.shape[-1], config.face),
        "attributes": rows["attributes"],
        **heads,
    }


def _heads(rows: Columns, embedding: np.ndarray, config: Config) -> np.ndarray:
    """Return the heads that rows show, int8 [B, S / 2, S / 2, 6], their shapes read from `embedding` [B, 512]."""
    names = zip(*(rows[name] for name in ("domain", "gap", "world_identity", "view")), strict=True)
    # The gap is stored in single precision: 0.3 must not become another domain than the one that was rendered.
    views = [
        sample_scene(load_domain(str(domain), round(float(gap), 6)), int(identity), int(view), "warm").view
        for domain, gap, identity, view in names
    ]
    return drawn(_reader(config)(embedding), views, config.size // SHRINK)


def _reader(config: Config) -> HeadReader:
    return HeadReader.load(cache.local(config.faces) / REFERENCE)


def loss(model: nn.Module, batch: Columns, config: Config, step: int) -> tuple[Tensor, dict[str, float]]:
    """Return the weighted mean squared error of the predicted velocity (arXiv 2202.00512)."""
    assert isinstance(model, VisibleModel)
    random = [np.random.default_rng(int(seed)) for seed in batch["draw"]]
    batch = _flipped(batch, random, config.flip)
    said, embedding = _conditions(batch, random, config)
    # What a picture shows is decided between noise and clear; most of the error near clear is grain that nobody can know.
    late = [1 / (1 + np.exp(-draw.normal(config.time))) for draw in random]
    times = torch.tensor([min(999, int(1000 * value)) for value in late])
    noise = np.stack([draw.standard_normal(batch["latents"].shape[1:], np.float32) for draw in random])
    shown = np.array([draw.random() >= config.drop_head for draw in random])
    square = _error(model, batch, said, embedding, times, torch.from_numpy(noise), shown)
    early = (times >= 500).to(square.device)
    values = {"noisy": square[early].mean().item()} if early.any() else {}
    values |= {"clear": square[~early].mean().item()} if (~early).any() else {}
    return square.mean(), values


def _flipped(batch: Columns, random: list[np.random.Generator], share: float) -> Columns:
    """Return the rows with `share` of them mirrored: latents, weights, heads and the side that the pose's word names."""
    flip = np.array([draw.random() < share for draw in random])
    along = flip[:, None, None]
    heads = batch.get("heads")
    turned = {} if heads is None else {"heads": np.where(along[..., None], mirrored(heads), heads)}
    return {
        **batch,
        **turned,
        "latents": np.where(along[..., None], batch["mirrored"], batch["latents"]),
        "weight": np.where(along, batch["weight"][..., ::-1], batch["weight"]),
        "attributes": np.array(
            [_other_side(str(text)) if f else text for text, f in zip(batch["attributes"], flip, strict=True)]
        ),
    }


def _other_side(attributes: str) -> str:
    """Return the attributes (JSON) of the mirrored picture: no other word than the pose's says left or right."""
    said = json.loads(attributes)
    swap = {"left": "right", "right": "left"}
    if "pose" in said:
        said["pose"] = " ".join(swap.get(word, word) for word in said["pose"].split())
    return json.dumps(said)


def _conditions(batch: Columns, random: list[np.random.Generator], config: Config) -> tuple[list[str], Tensor]:
    """Return texts, and embeddings float32 [B, 512] that are zero where the row learns nobody."""
    texts, chosen = [], []
    for row, draw in enumerate(random):
        lot, kind, seed = draw.random(), draw.random(), int(draw.integers(2**62))
        asked = json.loads(str(batch["attributes"][row]))
        asked = {name: word for name, word in asked.items() if draw.random() >= config.drop_attribute}
        nobody = lot < config.drop_both
        silent = lot < config.drop_both + config.drop_caption
        texts.append("" if nobody else prompts(["" if silent else caption(asked, seed)])[0])
        chosen.append(batch["mean" if kind < config.mean_share else "one"][row].astype(np.float32) * (not nobody))
    return texts, torch.from_numpy(np.stack(chosen))


def _error(
    model: VisibleModel,
    batch: Columns,
    texts: list[str],
    embedding: Tensor,
    times: Tensor,
    noise: Tensor,
    shown: np.ndarray | None = None,
) -> Tensor:
    """Return the weighted squared error of the velocity per row, float32 [B]; `shown` bool [B]: whose heads are given."""
    scheduler, device = new_scheduler(), device_of(model)
    alpha = scheduler.alphas_cumprod[times].view(-1, 1, 1, 1)
    clean = torch.from_numpy(batch["latents"]).float()
    noisy = alpha.sqrt() * clean + (1 - alpha).sqrt() * noise
    velocity = alpha.sqrt() * noise - (1 - alpha).sqrt() * clean
    weight = torch.from_numpy(batch["weight"]).float()[:, None]
    inputs = (noisy, times, embedding, velocity, weight, tokens(model.tokenizer, texts))
    noisy, times, embedding, velocity, weight, ids = (values.to(device) for values in inputs)
    heads = _folded(batch, shown)
    answer = model(noisy, times, model.text(ids, embedding), embedding, None if heads is None else heads.to(device))
    return ((answer.float() - velocity) ** 2 * weight).mean(dim=(1, 2, 3))


def _folded(batch: Columns, shown: np.ndarray | None = None) -> Tensor | None:
    """Return the rows' heads as the U-Net takes them, zero where they are not shown; None for a model without."""
    if "heads" not in batch:
        return None
    heads = folded(batch["heads"])
    return heads if shown is None else heads * torch.from_numpy(shown).view(-1, 1, 1, 1)


def validate(model: nn.Module, rows: Iterable[Columns], config: Config) -> dict[str, float]:
    """Return the training error on fixed draws, and how much worse it gets with someone else's embedding (`identity_gain`)."""
    assert isinstance(model, VisibleModel)
    errors, wrong = [], []
    for part in rows:
        batch = prepare(part, config)
        random = [np.random.default_rng(seed_of("validation", row)) for row in part["row"]]
        captions = prompts(
            [
                caption(json.loads(str(text)), int(row))
                for text, row in zip(batch["attributes"], part["row"], strict=True)
            ]
        )
        times = torch.tensor([int(draw.integers(1000)) for draw in random])
        noise = torch.from_numpy(
            np.stack([draw.standard_normal(batch["latents"].shape[1:], np.float32) for draw in random])
        )
        embedding = torch.from_numpy(batch["mean"].astype(np.float32))
        errors.append(_error(model, batch, captions, embedding, times, noise))
        other = embedding.roll(len(embedding) // 2, dims=0)
        wrong.append(_error(model, batch, captions, other, times, noise))
    right, swapped = torch.cat(errors).mean().item(), torch.cat(wrong).mean().item()
    return {"score": -right, "error": right, "identity_gain": swapped / right - 1}


def pictures(model: nn.Module, rows: Columns, config: Config) -> np.ndarray:
    """Return a sheet uint8: pictures, and what the model makes of their embedding and caption."""
    assert isinstance(model, VisibleModel)
    few = {name: values[:8] for name, values in rows.items()}
    batch = prepare(few, config)
    device = device_of(model)
    embedding = torch.from_numpy(batch["mean"].astype(np.float32)).to(device)
    texts = prompts([caption(json.loads(str(text)), 0) for text in batch["attributes"]])
    states = model.text(tokens(model.tokenizer, texts).to(device), embedding)
    nothing = model.text(tokens(model.tokenizer, [""]).to(device))
    noise = torch.randn(batch["latents"].shape, generator=torch.Generator().manual_seed(0)).to(device)
    heads = _folded(batch)
    head = None if heads is None else heads.to(device)
    found = sample(model.unet, new_scheduler(), noise, states, embedding, nothing, head, steps=16, guidance=2.0)
    made = decode(cache.autoencoder(config.vae), found.cpu()).numpy()
    return np.concatenate([np.concatenate(list(block), 1) for block in (few["visible"], made)])


def begin(model: nn.Module, folder: Path) -> None:
    """Fill `model` from a visible part; one that is not shown heads begins by not looking at them."""
    assert isinstance(model, VisibleModel)
    found = load_visible({"model": folder})
    own, other = model.unet.state_dict(), dict(found.unet.state_dict())
    kernel = other["conv_in.weight"]
    if kernel.shape[1] < own["conv_in.weight"].shape[1] and kernel.shape[0] == own["conv_in.weight"].shape[0]:
        other["conv_in.weight"] = torch.zeros_like(own["conv_in.weight"])
        other["conv_in.weight"][:, : kernel.shape[1]] = kernel
    load_strictly(model.unet, other, folder / "unet")
    load_strictly(model.text, found.text.state_dict(), folder / "encoder")
    model.tokenizer, model.text.id_token = found.tokenizer, found.text.id_token  # the encoder knows no other


def export(model: nn.Module, config: Config, folder: Path, card: Card) -> None:
    """Write the visible part in diffusers' layout, in float16, with the autoencoder, and the card."""
    assert isinstance(model, VisibleModel)
    save_visible(model, cache.local(config.vae), folder, _reader(config) if config.shape.head else None)
    facts = {"title": "Visible face from embedding and caption", "summary": SUMMARY, "limits": LIMITS}
    card.model_copy(update=facts).write(folder)
