"""Train a pose ControlNet (arXiv 2302.05543) for a visible model: the U-Net stays as it is, a copy of its first half learns to
steer it by normals of a person's bare head.

python -m cluster train controlnet --data URI --validation URI --set model=FOLDER --out DIR

A row's head has the shape that the embedding of the person's pictures says, is turned as the picture's landmarks are, and lies
on them: rendered people and photographs with landmarks are trained on alike. Arc2Face's own was trained on FFHQ for 50 epochs
at lr 1e-5.
"""

import functools
import json
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch
from diffusers import ControlNetModel
from pydantic import Field
from torch import Tensor, nn

from models.attributes import EXPRESSIONS, mirror_words
from models.captions.grammar import write_caption
from models.card import Card
from models.columns import Columns
from models.diffusion.process import DiscreteProcess, row_errors
from models.diffusion.schedulers import load_scheduler
from models.diffusion.unet import Control, predict
from models.errors import UserError
from models.landmarks.pose import estimate_pose
from models.seeds import seed_of
from models.synthworld.sampling.person import person_from_measures
from models.synthworld.sampling.scene import Scene, View
from models.tasks import Place, TrainConfig
from models.visible import cache
from models.visible.autoencoder import encode
from models.visible.head import REFERENCE, HeadReader
from models.visible.model import Loaded, condition, load_visible
from models.visible.normals import FILE, FINEST, average_measures, draw_pictures, enlarge, frame_onto, mirror_normals
from models.visible.text import prompts, tokenize
from models.weights.networks import device_of

SUMMARY = """Steers a visible model's pose, expression and shape of head by a picture of the bare head's normals (ControlNet)."""
LIMITS = """It fits the U-Net and autoencoder that it was trained with and no other. Heads are the world's parametric ones."""
COLUMNS = ("world_identity", "view", "visible", "landmarks_70", "attributes")


class Config(TrainConfig):
    steps: int = Field(2000, gt=0)
    batch: int = Field(16, gt=0)
    lr: float = Field(1e-4, gt=0)
    ema: float = Field(0.0, ge=0, lt=1)
    bf16: bool = True
    channels_last: bool = Field(False, description="group norm is slow in NHWC on CPUs")
    validate_rows: int = Field(128, gt=0)
    model: Place = Field(
        "", description="folder of the visible model to steer: U-Net, encoder, vae, tokenizer, scheduler"
    )
    faces: Place = Field("models/starter/faces", description="insightface pack whose recogniser gives the embeddings")
    captions: bool = Field(True, description="whether the model reads captions; Arc2Face's own does not")
    drop: float = Field(0.1, ge=0, le=1, description="share of rows that learn with the empty prompt and no identity")
    flip: float = Field(0.5, ge=0, le=1, description="share of rows that are seen mirrored")
    embedding_widths: tuple[int, ...] = Field(
        (16, 32, 96, 256), description="channels of the picture's encoder, one more than the autoencoder halves"
    )


class Steering(nn.Module):
    """The ControlNet that learns, and the frozen model that it steers."""

    def __init__(self, parts: Loaded, controlnet: ControlNetModel) -> None:
        super().__init__()
        self.controlnet = controlnet
        self._frozen = (parts,)

    def forward(self, noisy: Tensor, timesteps: Tensor, texts: list[str], embedding: Tensor, normals: Tensor) -> Tensor:
        """Return the steered prediction [B, C, h, w].

        embedding: [B, 512], zeros where the text is empty. normals: [B, 3, S, S] in [0, 1].
        """
        (parts,) = self._frozen
        for network in parts.networks():
            network.to(noisy.device)
        ids = tokenize(parts.tokenizer, texts).to(noisy.device)
        with torch.no_grad():
            prompt_embeds = parts.text(ids, embedding)
        conditions = condition(parts.unet, prompt_embeds, embedding, normals=normals)
        return predict(parts.unet, noisy, timesteps, conditions, control=Control(self.controlnet))

    @property
    def process(self) -> DiscreteProcess:
        """Return the forward process that the model was trained with."""
        return DiscreteProcess.of(load_scheduler(self._frozen[0].scheduler))


def weights(config: Config) -> list[Path]:
    """Return what is read beside the data."""
    return [cache.from_root(config.model), cache.from_root(config.faces)]


def build(config: Config) -> nn.Module:
    """Return a ControlNet that begins as a copy of the U-Net's first half and changes nothing yet."""
    parts = _load(config.model)
    if len(config.embedding_widths) != len(parts.vae.config.block_out_channels):
        raise UserError(
            f"embedding_widths names {len(config.embedding_widths)} widths; this autoencoder of "
            f"{len(parts.vae.config.block_out_channels)} levels needs as many."
        )
    controlnet = ControlNetModel.from_unet(
        parts.unet, conditioning_embedding_out_channels=tuple(config.embedding_widths)
    )
    return Steering(parts, controlnet.requires_grad_(True))


@functools.lru_cache(maxsize=1)
def _load(folder: str) -> Loaded:
    """Return the model to steer. Raises a UserError for one that is shown heads beside its latents already."""
    if not folder:
        raise UserError("which visible model is to be steered? Give its folder: --set model=FOLDER.")
    parts = load_visible({"model": cache.from_root(folder)})
    if parts.shows_head:
        raise UserError(
            f"{folder} is shown the head beside its latents already: a ControlNet would say the same again."
        )
    return parts


def prepare(rows: Columns, config: Config) -> Columns:
    """Return what `loss` needs: latents of the picture and of its mirror image, the person's embedding, the head's normals."""
    # The picture and its mirror image as the denoiser sees them.
    parts, pictures = _load(config.model), rows["visible"]
    latents, mirrored = (
        encode(parts.vae, torch.from_numpy(np.ascontiguousarray(values))).half().numpy()
        for values in (pictures, pictures[:, :, ::-1])
    )
    # Who is shown, by the person's other pictures, and the bare head in the row's pose and expression.
    own = cache.embed_pictures(pictures, rows["landmarks_70"], config.faces)
    embedding, _ = cache.embeddings_of_others(own, rows["world_identity"], rows["view"])
    said = [json.loads(str(text)) for text in rows["attributes"]]
    normals = _draw(rows["landmarks_70"], [words.get("expression", "") for words in said], embedding, pictures, config)
    return {
        "latents": latents,
        "mirrored": mirrored,
        "embedding": embedding.astype(np.float16),
        "normals": normals,
        "attributes": rows["attributes"],
    }


def _draw(
    points: np.ndarray, expressions: list[str], embedding: np.ndarray, pictures: np.ndarray, config: Config
) -> np.ndarray:
    """Draw the rows' heads uint8 [B, s, s, 3] onto their landmarks [B, 70, 2]; the average head where no map reads embeddings."""
    path, size = cache.from_root(config.faces) / REFERENCE, pictures.shape[1]
    measures = average_measures()[None].repeat(len(points), axis=0)
    if path.is_file():
        measures = HeadReader.load(path)(embedding)
    scenes = []
    for values, where, turn, expression in zip(measures, points, estimate_pose(points), expressions, strict=True):
        yaw, pitch, roll = map(float, turn)
        view = View(yaw=yaw, pitch=pitch, roll=roll, expression=expression if expression in EXPRESSIONS else "neutral")
        scenes.append(frame_onto(Scene(person_from_measures(values), view), where, size))
    return draw_pictures(scenes, min(size, FINEST))


def loss(model: nn.Module, batch: Columns, config: Config, step: int) -> tuple[Tensor, dict[str, float]]:
    """Return the mean squared error of the steered prediction at uniform time steps, as the frozen model was trained."""
    assert isinstance(model, Steering)
    # Every row draws from its own generator, and always in this order: flip, drop, caption, time step, noise.
    rngs = [np.random.default_rng(int(seed)) for seed in batch["draw"]]
    flip = np.array([rng.random() < config.flip for rng in rngs])[:, None, None, None]
    drop = np.array([rng.random() < config.drop for rng in rngs])
    seeds = [int(rng.integers(2**62)) for rng in rngs]
    times = np.array([rng.random() for rng in rngs])
    latents = np.where(flip, batch["mirrored"], batch["latents"])
    noise = np.stack([rng.standard_normal(latents.shape[1:], np.float32) for rng in rngs])
    normals = np.where(flip, mirror_normals(batch["normals"]), batch["normals"])
    texts = _texts(batch, seeds, flip.ravel(), drop, config)
    embedding = batch["embedding"].astype(np.float32) * ~drop[:, None]
    return _errors(model, latents, noise, times, texts, embedding, normals).mean(), {}


def _texts(batch: Columns, seeds: list[int], flip: np.ndarray, drop: np.ndarray, config: Config) -> list[str]:
    """Return prompts: of mirrored pictures with the pose's side swapped, empty where `drop` is."""
    said = [json.loads(str(text)) for text in batch["attributes"]]
    words = [mirror_words(one) if mirrored else one for one, mirrored in zip(said, flip, strict=True)]
    captions = [write_caption(one, seed) if config.captions else "" for one, seed in zip(words, seeds, strict=True)]
    return ["" if quiet else text for quiet, text in zip(drop, prompts(captions), strict=True)]


def _errors(
    model: Steering,
    latents: np.ndarray,
    noise: np.ndarray,
    times: np.ndarray,
    texts: list[str],
    embedding: np.ndarray,
    normals: np.ndarray,
) -> Tensor:
    """Return the squared error of each row, float32 [B]. times: [0, 1), 1 = noise."""
    device, process = device_of(model), model.process
    timesteps = process.timesteps(times)
    clean, added = torch.from_numpy(latents).float(), torch.from_numpy(noise)
    noisy, target = (make(clean, added, timesteps).to(device) for make in (process.add_noise, process.target))
    size = latents.shape[-1] * model._frozen[0].factor
    shown = enlarge(torch.from_numpy(normals), size).to(device)
    prediction = model(noisy, timesteps.to(device), texts, torch.from_numpy(embedding).to(device), shown)
    return row_errors(prediction, target)


def validate(model: nn.Module, rows: Iterable[Columns], config: Config) -> dict[str, float]:
    """Return the error on fixed draws, and how much worse it gets with another picture's head (`pose_gain`)."""
    assert isinstance(model, Steering)
    own: list[Tensor] = []
    others: list[Tensor] = []
    for decoded in rows:
        # The same draws at every validation.
        batch = prepare(decoded, config)
        rngs = [np.random.default_rng(seed_of("validation", row)) for row in decoded["row"]]
        times = np.array([rng.random() for rng in rngs])
        noise = np.stack([rng.standard_normal(batch["latents"].shape[1:], np.float32) for rng in rngs])
        never = np.zeros(len(rngs), bool)
        texts = _texts(batch, [int(row) for row in decoded["row"]], never, never, config)
        embedding = batch["embedding"].astype(np.float32)
        # With the row's own head, and with another row's.
        for errors, normals in ((own, batch["normals"]), (others, np.roll(batch["normals"], 1, axis=0))):
            errors.append(_errors(model, batch["latents"], noise, times, texts, embedding, normals))
    error, swapped = torch.cat(own).mean().item(), torch.cat(others).mean().item()
    return {"score": -error, "error": error, "pose_gain": swapped / error - 1}


def export(model: nn.Module, config: Config, folder: Path, card: Card) -> None:
    """Write the ControlNet in diffusers' layout, in float16, what its pictures are framed by, and the card."""
    assert isinstance(model, Steering)
    folder.mkdir(parents=True, exist_ok=True)
    model.controlnet.half().save_pretrained(str(folder))
    (folder / FILE).write_text(json.dumps({"framing": "view"}) + "\n")
    facts = {"title": "Pose ControlNet", "summary": SUMMARY, "limits": LIMITS}
    card.model_copy(update=facts).write(folder)
