"""How well the starter meets a yaw that is asked for in degrees: `python -m tests.benchmarks.view_pose [--people 40]`.

People of the world's test split, in no training of any model, as the mean embedding of two true pictures of theirs. Each is
drawn once at every size of the grid, to the left and to the right by turns, with a caption that says what a job's would. What
is left to chance (pitch, roll, framing, expression, looks) is drawn as a job draws it.

The yaw of a picture is read by the judge of pose (docs/evaluate.md), which had no part in making it and has seen all sides; and
off landmarks, as the `pose` of a row is. `made` are the pictures; `true` are renders of the same people in the same views, of
which a perfect reader would say the yaw exactly: what it errs there is the reader's own. `between` is how far apart it reads the
two, and has no part of what it errs on both alike.
"""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from models.captions.grammar import write_caption
from models.evaluation.judges import load_judges
from models.faces.metrics import unit_vectors
from models.faces.settings import Options as FacesOptions
from models.faces.stage import Stage as Faces
from models.landmarks.pose import estimate_pose
from models.landmarks.stage import Stage as Landmarks
from models.stages import NoOptions
from models.synthworld.render.render import render
from models.synthworld.sampling import splits
from models.synthworld.sampling.domain import load_domain, sample_scene
from models.synthworld.sampling.scene import Scene, attributes, pose_word
from models.visible import cache
from models.visible.head import views_of
from models.visible.sd.settings import Options, Settings
from models.visible.sd.stage import Stage

STARTER = Path("models/starter")
YAWS = (0, 15, 30, 45, 60, 75)
KNOWN = 2
"""True pictures that a person's embedding is the mean of."""
BATCH, SIZE = 8, 128
GROUP = 4
"""People whose pictures are made, and kept, together."""


@dataclass(frozen=True)
class Asked:
    """N pictures: whose (embedding float32 [N, 512]), caption, name of the noise, pose float32 [N, 3] and true scene."""

    embeddings: np.ndarray
    captions: list[str]
    names: list[str]
    poses: np.ndarray
    scenes: list[Scene]


def ask(people: Sequence[int], sizes: Sequence[float]) -> Asked:
    """Return what is asked of `people` of the world, each at a yaw of every one of `sizes` degrees."""
    look, count = load_domain("portrait"), len(people)
    shown = [[sample_scene(look, identity, view, "warm") for view in range(KNOWN)] for identity in people]
    found = [render(scenes, SIZE) for scenes in shown]
    pictures, points = (
        np.concatenate([getattr(one, name).numpy() for one in found]) for name in ("rgb", "landmarks_70")
    )
    known = cache.embed_pictures(pictures, points, str((STARTER / "faces").absolute())).reshape(count, KNOWN, -1)
    # Every size once, to the image right or left by turns.
    yaws = np.array([[size * (-1) ** (identity + k) for k, size in enumerate(sizes)] for identity in people])
    scenes, captions, names = [], [], []
    for identity, row in zip(people, yaws.tolist(), strict=True):
        for k, yaw in enumerate(row):
            scene = sample_scene(look, identity, KNOWN + k, "warm")
            captions.append(write_caption(attributes(scene) | {"pose": pose_word(yaw)}, seed=identity + k))
            names.append(f"view-pose/{identity}/{k}")
            scenes.append(scene)
    poses = np.full((count * len(sizes), 3), np.nan, np.float32)
    poses[:, 0] = yaws.ravel()
    # The true scene has the framing and the angles that the head is drawn with.
    for place, view in enumerate(views_of(captions, names, poses)):
        own = ("yaw", "pitch", "roll", "scale", "shift_x", "shift_y", "distance_m")
        turned = replace(scenes[place].view, **{name: getattr(view, name) for name in own})
        scenes[place] = replace(scenes[place], view=turned)
    return Asked(np.repeat(unit_vectors(known.mean(axis=1)), len(sizes), axis=0), captions, names, poses, scenes)


def make(asked: Asked, steps: int) -> np.ndarray:
    """Return the pictures uint8 [N, S, S, 3] that the starter makes."""
    rows = {
        "caption": np.array(asked.captions, object),
        "embedding": asked.embeddings.astype(np.float32),
        "noise_id": np.array(asked.names, object),
        "pose_asked": asked.poses,
    }
    stage = Stage({"model": STARTER / "visible"}, Options())
    return stage(rows, Settings(steps=steps, guidance=2.0), BATCH)["visible"]


def draw(people: Sequence[int], sizes: Sequence[float], steps: int) -> dict[str, np.ndarray]:
    """Return `yaw` float32 [N], and `made` and `true` pictures uint8 [N, S, S, 3] of people."""
    asked = ask(people, sizes)
    batches = [asked.scenes[k : k + BATCH] for k in range(0, len(asked.scenes), BATCH)]
    true = np.concatenate([render(scenes, SIZE).rgb.numpy() for scenes in batches])
    return {"yaw": asked.poses[:, 0], "made": make(asked, steps), "true": true}


def collect(count: int, sizes: Sequence[float], steps: int, folder: Path | None) -> dict[str, np.ndarray]:
    """Return what `draw` does of `count` people, in the order of the split; groups that lie in `folder` are not drawn again."""
    people, groups = splits.identities("test")[:count], list[dict[str, np.ndarray]]()
    for first in range(0, count, GROUP):
        own = people[first : first + GROUP]
        name = f"{own[0]}-{len(own)}-{steps}-{'-'.join(f'{size:g}' for size in sizes)}.npz"
        if folder is None or not (folder / name).is_file():
            groups.append(draw(own, sizes, steps))
            if folder:
                folder.mkdir(parents=True, exist_ok=True)
                np.savez(folder / name, **groups[-1])  # type: ignore[arg-type]
        else:
            groups.append(dict(np.load(folder / name)))
    return {name: np.concatenate([group[name] for group in groups]) for name in groups[0]}


def judge_yaw(pictures: np.ndarray, folder: Path) -> np.ndarray:
    """Return the yaw in degrees float [N] that the judge in `folder` says of pictures uint8 [N, S, S, 3]."""
    return load_judges(folder).judge_pose(pictures).degrees[:, 0]


def read_yaw(pictures: np.ndarray) -> np.ndarray:
    """Return the yaw in degrees float [N] that landmarks say of pictures uint8 [N, S, S, 3]; NaN where no face is found."""
    found = Faces({"model": STARTER / "faces"}, FacesOptions())({"visible": pictures}, NoOptions(), BATCH)
    there = np.flatnonzero(np.isfinite(found["bbox"]).all(axis=1))
    boxes = [found["bbox"][row][None] for row in there]
    faces = Landmarks({"model": STARTER / "landmarks"}, NoOptions()).at_boxes(list(pictures[there]), boxes, 70, BATCH)
    yaw = np.full(len(pictures), np.nan)
    yaw[there] = estimate_pose(np.stack([one[0].points for one in faces]))[:, 0]
    return yaw


def main() -> None:
    """Draw the pictures, read them and print the errors."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--people", type=int, default=40)
    parser.add_argument("--yaws", type=float, nargs="+", default=YAWS, help="degrees, each to both sides by turns")
    parser.add_argument("--steps", type=int, default=16, help="of the sampler; the starter's own are 16")
    parser.add_argument("--keep", type=Path, help="a folder for the pictures: what lies there is not made again")
    parser.add_argument("--judge", type=Path, help="folder of the judges, as models/starter-judge")
    given = parser.parse_args()
    pictures = collect(given.people, given.yaws, given.steps, given.keep)
    wanted = pictures.pop("yaw")
    readers = {"landmarks": read_yaw}
    if given.judge:
        readers["judge"] = partial(judge_yaw, folder=given.judge)
    for name, read in readers.items():
        print(f"read by {name}")
        found = {which: read(one) for which, one in pictures.items()}
        errors = {which: np.abs(yaw - wanted) for which, yaw in found.items()}
        tell(errors | {"between": np.abs(found["made"] - found["true"])}, wanted, given.yaws)


def tell(errors: dict[str, np.ndarray], wanted: np.ndarray, sizes: Sequence[float]) -> None:
    """Print the mean of errors float [N] in degrees, those of the lost left out, by the size of the yaw that was asked for."""
    print("yaw  pictures" + "".join(f"  {f'{name}: error':>14}  lost" for name in errors))
    for size in sizes:
        chosen = np.isclose(np.abs(wanted), size)
        line = f"{size:3.0f}  {chosen.sum():8d}"
        for error in errors.values():
            line += f"  {np.nanmean(error[chosen]):14.1f}  {np.isnan(error[chosen]).sum():4d}"
        print(line)
    for low, high in ((0, 45), (46, 75)):
        chosen = (np.abs(wanted) >= low) & (np.abs(wanted) <= high)
        if chosen.any():
            means = ", ".join(f"{name} {np.nanmean(error[chosen]):.1f}" for name, error in errors.items())
            print(f"mean of {low} to {high} degrees: {means}")


if __name__ == "__main__":
    main()
