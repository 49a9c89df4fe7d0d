"""What limits the starter's pictures: decoder, U-Net, steps or data? `python -m tests.benchmarks.visible_limits --data URI`.

--data: two views of people whom nothing was trained on, as `thermapair world --domain portrait --split test --count 200 --views 2
--out URI` writes them; --trained: likewise of people whom the visible model was trained on (split generator, from person 0).

Everybody is asked for by the bundle's embedding of the first view, in the caption and pose of the second. The judge looks up

    true            the second view itself
    decoded         the same, encoded and decoded: no U-Net can do better with this autoencoder
    one step, t     its latents with noise of level t, denoised by the U-Net in one step (teacher-forced: what the U-Net adds)
    sampled         what a job makes, from noise alone

in a gallery of the first views. `sharp` is the power of the finest third of the picture's frequencies over that of the true ones:
below one is smeared. `error` is the mean squared error of the predicted velocity, which training minimises; where people who were
trained on have as large a one, more people would not help, and a larger U-Net or more steps would.
"""

import argparse
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from models.attributes import ATTRIBUTES
from models.captions.grammar import write_caption
from models.card import Card
from models.columns import Columns
from models.diffusion.conditions import Conditions
from models.diffusion.process import DiscreteProcess
from models.diffusion.unet import predict
from models.evaluation.judges import load_judges
from models.evaluation.lapig.distances import ranks
from models.evaluation.lapig.tables import UNREAD
from models.evaluation.spectra import radial_power
from models.judges.attributes import label
from models.seeds import generator
from models.visible import cache
from models.visible.autoencoder import decode, encode
from models.visible.model import condition
from models.visible.sd.settings import Options, Settings
from models.visible.sd.stage import Stage
from models.visible.text import prompts, tokenize
from pipelines.rows.shards import Shards

STARTER, JUDGE = Path("models/starter"), Path("models/starter-judge")
COLUMNS = ("world_identity", "view", "visible", "landmarks_70", "attributes", "pose", "classes")
TIMES = (0.2, 0.4, 0.6, 0.8)
BATCH = 8
Told = list[tuple[np.ndarray, Conditions]]
"""Rows of each batch, and what the U-Net is told of them: drawn once, for the head takes long."""


@dataclass(frozen=True)
class Asked:
    """N people: first and second views uint8 [N, S, S, 3], their points [N, 70, 2], and what is asked: embedding float32
    [N, 512], captions, poses [N, 3]; kept: bool [N, S, S], the person's pixels in the second view; words: int [N, 15], what is
    asked of each attribute."""

    first: np.ndarray
    second: np.ndarray
    points: tuple[np.ndarray, np.ndarray]
    embedding: np.ndarray
    captions: list[str]
    poses: np.ndarray
    kept: np.ndarray
    words: np.ndarray


def ask(data: str, count: int) -> Asked:
    """Return the first `count` people of shards that have two views."""
    shards = Shards(data, COLUMNS, memory=0, limit=4 * count)
    rows: Columns = shards.rows(np.arange(len(shards)))
    views = [
        np.flatnonzero((rows["world_identity"] == who) & (rows["view"] < 2))
        for who in np.unique(rows["world_identity"])
    ]
    pairs = np.array(
        [own[np.argsort(rows["view"][own])][[0, -1]] for own in views if len(set(rows["view"][own])) == 2][:count]
    )
    one, two = pairs.T
    points = rows["landmarks_70"].reshape(-1, 70, 2)
    own = cache.embed_pictures(rows["visible"][one], points[one], str((STARTER / "faces").absolute()))
    captions = [write_caption(json.loads(str(text)), seed=k) for k, text in enumerate(rows["attributes"][two])]
    return Asked(
        rows["visible"][one], rows["visible"][two], (points[one], points[two]), own, captions,
        rows["pose"][two].astype(np.float32), rows["classes"][two] > 0, label(rows["attributes"][two]),
    )  # fmt: skip


@torch.inference_mode()
def denoise_once(stage: Stage, asked: Asked, told_all: Told, time: float) -> tuple[np.ndarray, float]:
    """Return what the U-Net makes in one step of the true latents with noise of level `time`, uint8 [N, S, S, 3], and the mean
    squared error of its prediction."""
    process = DiscreteProcess.of(stage._scheduler("folder"))
    made, errors = list[np.ndarray](), list[float]()
    for rows, told in told_all:
        latents = encode(stage.parts.vae, torch.from_numpy(np.ascontiguousarray(asked.second[rows])))
        noise = torch.stack([torch.randn(latents.shape[1:], generator=generator("limits", int(row))) for row in rows])
        timesteps = process.timesteps(np.full(len(rows), time))
        noisy = process.add_noise(latents, noise, timesteps)
        prediction = predict(stage.parts.unet, noisy, timesteps, told.to(stage.device, stage.parts.unet.dtype)).float()
        errors += ((prediction - process.target(latents, noise, timesteps)) ** 2).mean(dim=(1, 2, 3)).tolist()
        made.append(decode(stage.parts.vae, process.clean(prediction, noisy, timesteps)).numpy())
    return np.concatenate(made), float(np.mean(errors))


@torch.inference_mode()
def tell(stage: Stage, asked: Asked) -> Told:
    """Return what the U-Net is told of them: as a job tells it, without guidance."""
    told: Told = []
    for start in range(0, len(asked.captions), BATCH):
        rows = np.arange(start, min(start + BATCH, len(asked.captions)))
        captions = [asked.captions[row] for row in rows]
        embedding = torch.from_numpy(asked.embedding[rows])
        names = [f"limits/{row}" for row in rows]
        side = asked.second.shape[1] // stage.parts.factor
        heads = stage._heads(captions, embedding, names, asked.poses[rows], len(rows), side, locate=False)
        text = stage.parts.text(tokenize(stage.parts.tokenizer, prompts(captions)), embedding)
        told.append((rows, condition(stage.parts.unet, text, embedding, heads.folded)))
    return told


def sample(stage: Stage, asked: Asked, settings: Settings, chosen: slice = slice(None)) -> np.ndarray:
    """Return what a job makes of the `chosen` ones of them, uint8 [N, S, S, 3]."""
    rows = {
        "caption": np.array(asked.captions, object),
        "embedding": asked.embedding,
        "noise_id": np.array([f"limits/{row}" for row in range(len(asked.captions))], object),
        "pose_asked": asked.poses,
    }
    return stage({name: values[chosen] for name, values in rows.items()}, settings, BATCH)["visible"]


def look_up(asked: Asked, pictures: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return whether the judge names the right one, and its cosine to the true view, each [N], aligned on the true points."""
    folder = str(JUDGE.absolute())
    gallery, probes, true = (
        cache.embed_pictures(shown, points, folder)
        for shown, points in (
            (asked.first, asked.points[0]),
            (pictures, asked.points[1]),
            (asked.second, asked.points[1]),
        )
    )
    hits = ranks(probes, np.arange(len(probes)), gallery, (100,))[100]
    return hits, (probes * true).sum(axis=1)


def judge(asked: Asked, pictures: np.ndarray) -> dict[str, float]:
    """Return rank-1, cosine and the share of asked words that are there by the judges, and how sharp pictures are, beside the
    true ones."""
    hits, cosines = look_up(asked, pictures)
    power = [radial_power(shown.mean(axis=3), asked.kept) for shown in (pictures, asked.second)]
    fine = slice(2 * len(power[0]) // 3, None)
    found = load_judges(JUDGE).judge_attributes(pictures)
    seen = np.stack([found[name].argmax(axis=1) for name in ATTRIBUTES], axis=1)
    read = [place for place, name in enumerate(ATTRIBUTES) if name not in UNREAD]
    return {
        "rank1": float(hits.mean()),
        "cosine to the true view": float(cosines.mean()),
        "words": float((seen == asked.words)[:, read].mean()),
        "sharp": float(power[0][fine].mean() / power[1][fine].mean()),
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="shards of people nobody was trained on")
    parser.add_argument("--trained", default="", help="shards of people whom the visible model was trained on")
    parser.add_argument("--people", type=int, default=100)
    parser.add_argument("--no-sampling", action="store_true", help="leave out what takes most of the time")
    given = parser.parse_args()
    stage, asked = Stage({"model": STARTER / "visible"}, Options()), ask(given.data, given.people)
    print(f"{len(asked.captions)} people; a gallery of as many, 100 at most", flush=True)
    show("true", judge(asked, asked.second))
    with torch.inference_mode():
        latents = encode(stage.parts.vae, torch.from_numpy(np.ascontiguousarray(asked.second)))
        show("decoded", judge(asked, decode(stage.parts.vae, latents).numpy()))
    told, trained = tell(stage, asked), ask(given.trained, given.people) if given.trained else None
    told_trained = tell(stage, trained) if trained else []
    for time in TIMES:
        made, error = denoise_once(stage, asked, told, time)
        others = {} if trained is None else {"error, trained on": denoise_once(stage, trained, told_trained, time)[1]}
        show(f"one step, {time:g}", judge(asked, made) | {"error": error} | others)
    if not given.no_sampling:
        show("sampled", judge(asked, sample(stage, asked, Settings(steps=16, guidance=2.0))))
    # What the cards say of the trainings: errors on validation people at the end, and how long they learned.
    for name in ("visible", "visible/vae"):
        card = Card.read(STARTER / name)
        print(
            f"card of {name}: {card.steps} steps, {card.parameters:,} parameters, validation {card.metrics.get('validation')}"
        )


def show(name: str, figures: dict[str, float]) -> None:
    """Print a line."""
    print(f"{name:16}" + "  ".join(f"{key} {value:.3f}" for key, value in figures.items()), flush=True)


if __name__ == "__main__":
    main()
