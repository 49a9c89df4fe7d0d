"""How well the visible model keeps the identity that it was given, by a recogniser that had no part in making it (the judge).

    python -m models.evaluation.visible --visible models/starter/visible --faces models/starter/faces --judge models/starter-judge

People of the test split are rendered in a few views. The bundle's recogniser embeds all but the last; the model makes a
picture of their mean and of the last view's caption; the judge looks the made picture up in a gallery of true renders.
The true last view is looked up too: no generator can be expected to do better. A made picture in which no face is found
counts as a failure. The result goes on the model's card. With `--split validation` it is only
printed: guidance is chosen on those people.
"""

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from models.captions.grammar import write_caption
from models.card import update_metrics
from models.errors import UserError
from models.evaluation.faces import to_grey
from models.faces.align import align
from models.faces.metrics import unit_vectors
from models.faces.settings import Options as FacesOptions
from models.faces.stage import Stage as Faces
from models.stages import NoOptions
from models.synthworld.render.render import render
from models.synthworld.sampling import splits
from models.synthworld.sampling.domain import load_domain, sample_scene
from models.synthworld.sampling.scene import attributes
from models.visible import cache
from models.visible.sd.settings import FACES, Options, Settings
from models.visible.sd.stage import Stage
from models.weights.store import SEAL, seal


@dataclass(frozen=True)
class People:
    """N people, V views: pictures uint8 [N, V, S, S, 3], landmarks [N, V, 70, 2] px, the last view's captions [N]."""

    pictures: np.ndarray
    landmarks: np.ndarray
    captions: list[str]


GUIDED = ("identity_guidance", "identity_moves", "identity_interval")
"""Settings of guidance to the person."""
BATCH = 8
"""Pictures of one forward pass, the starter's."""


def people(count: int, views: int, size: int, split: str = "test", domain: str = "portrait") -> People:
    """Render the first `count` people of `split`, `views` views each."""
    look = load_domain(domain)
    pictures, points, captions = [], [], []
    for identity in splits.identities(split)[:count]:
        scenes = [sample_scene(look, identity, view, "warm") for view in range(views)]
        rendered = render(scenes, size)
        pictures.append(rendered.rgb.numpy())
        points.append(rendered.landmarks_70.numpy())
        captions.append(write_caption(attributes(scenes[-1]), seed=identity))
    return People(np.stack(pictures), np.stack(points), captions)


def measure(stage: Stage, settings: Settings, faces: Path, judge: Path, shown: People) -> dict[str, float]:
    """Return rank-1 shares and cosines, as the module describes them.

    faces: pack of the bundle's recogniser, which conditions the model. judge: folder of the other one. Rank-1 is the share of
    generated pictures whose nearest person in the gallery is the right one: the gallery holds the mean of a person's other
    views (`rank1`), or one picture each (`rank1_one_picture`). `rank1_true_view` looks up the true last view instead.
    """
    count, views = shown.pictures.shape[:2]
    flat, points = shown.pictures.reshape(-1, *shown.pictures.shape[2:]), shown.landmarks.reshape(-1, 70, 2)
    # Generate the last view of everybody from the mean embedding of the others.
    own = cache.embed_pictures(flat, points, str(faces.absolute())).reshape(count, views, -1)
    asked = unit_vectors(own[:, :-1].mean(axis=1))
    made = _generate(stage, settings, asked, shown.captions)
    # Find the faces in what was generated: a picture without one fails.
    found = Faces({"model": faces}, FacesOptions())({"visible": made}, NoOptions(), BATCH)
    there = found["faces"] > 0
    result = {
        "people": count,
        "face_found": there.mean(),
        "cosine_to_asked": _mean_cosine(found["found_embedding"], asked),
    }
    result["cosine_of_true_views"] = _mean_cosine(own[:, -1], asked)
    # The judge looks everybody up among the true renders, in colour and in grey.
    for name, grey in (("", False), ("grey_", True)):
        true = _embed_renders(judge, to_grey(flat) if grey else flat, points).reshape(count, views, -1)
        probe = np.full((count, true.shape[-1]), np.nan, np.float32)
        pictures = to_grey(made) if grey else made
        probe[there] = _embed_generated(judge, pictures[there], found["keypoints"][there])
        result[f"{name}rank1"] = _rank_one(probe, unit_vectors(true[:, :-1].mean(axis=1)))
        result[f"{name}rank1_one_picture"] = _rank_one(probe, true[:, 0])
        result[f"{name}rank1_true_view"] = _rank_one(true[:, -1], unit_vectors(true[:, :-1].mean(axis=1)))
    return {name: float(value) for name, value in result.items()}


def _generate(stage: Stage, settings: Settings, asked: np.ndarray, captions: list[str]) -> np.ndarray:
    names = np.array([f"judge-{row}" for row in range(len(asked))])
    rows = {"caption": np.array(captions, object), "embedding": asked, "noise_id": names}
    return stage(rows, settings, BATCH)["visible"]


def _embed_renders(judge: Path, pictures: np.ndarray, landmarks: np.ndarray) -> np.ndarray:
    """Return the judge's unit embeddings of renders, aligned on their true landmarks."""
    return cache.embed_pictures(pictures, landmarks, str(judge.absolute()))


def _embed_generated(judge: Path, pictures: np.ndarray, keypoints: np.ndarray) -> np.ndarray:
    """Return the judge's unit embeddings of made pictures, aligned on the five points that were found."""
    return cache.embed_crops(align(pictures, keypoints), str(judge.absolute()))


def _rank_one(probes: np.ndarray, gallery: np.ndarray) -> float:
    """Return the share of probes [N, 512] nearest to their own row of `gallery` [N, 512]; a NaN probe fails."""
    best = np.nan_to_num(probes @ gallery.T, nan=-2).argmax(axis=1)
    return float(((best == np.arange(len(gallery))) & np.isfinite(probes).all(axis=1)).mean())


def _mean_cosine(found: np.ndarray, asked: np.ndarray) -> float:
    """Return the mean cosine of rows of unit vectors, over rows with a face."""
    return float(np.nanmean((found * asked).sum(axis=1)))


def main(arguments: list[str] | None = None) -> None:
    """Measure, print, write on the card, and seal the folder again if it was sealed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--visible", type=Path, required=True, help="folder of the visible model")
    parser.add_argument("--faces", type=Path, required=True, help="insightface pack of the bundle")
    parser.add_argument("--judge", type=Path, required=True, help="folder of the judge")
    parser.add_argument("--people", type=int, default=100)
    parser.add_argument("--split", default="test", help="whose people; test alone goes on the card")
    parser.add_argument("--views", type=int, default=4)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--guidance", type=float, default=2.0)
    parser.add_argument(
        "--identity-guidance", type=float, default=0.0, help="towards the person, by the recogniser of --faces"
    )
    parser.add_argument("--identity-moves", type=int, default=2, help="at each step")
    parser.add_argument("--identity-interval", type=float, nargs=2, default=(0.0, 1.0), help="shares of the steps")
    parser.add_argument("--threads", type=int, default=2)
    given = parser.parse_args(arguments)
    try:
        # Pictures of the size that the U-Net was trained for.
        guided = {name: getattr(given, name) for name in GUIDED}
        settings = Settings(steps=given.steps, guidance=given.guidance, **guided)
        weights = {"model": given.visible, FACES: given.faces} if given.identity_guidance else {"model": given.visible}
        stage = Stage(weights, Options(), threads=given.threads)
        side = stage.parts.unet.config.sample_size * stage.parts.factor
        shown = people(given.people, given.views, side, given.split)
        values = measure(stage, settings, given.faces, given.judge, shown)
    except UserError as error:
        print(error, file=sys.stderr)
        raise SystemExit(error.exit_code) from None
    values |= {"steps": given.steps, "guidance": given.guidance}
    if given.identity_guidance:
        values |= {"identity_guidance": given.identity_guidance, "identity_moves": given.identity_moves}
    for name, value in values.items():
        print(f"{name:24} {value:.4g}")
    if given.split != "test":
        return
    # The card is part of the sealed folder.
    update_metrics(given.visible, "judge, guided to the person" if given.identity_guidance else "judge", values)
    if (given.visible / SEAL).is_file():
        seal(given.visible)


if __name__ == "__main__":
    main()
