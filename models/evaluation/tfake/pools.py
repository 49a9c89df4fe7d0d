"""Pools of the recipe as arrays: rendered here, with what the domain's camera delivers of every picture."""

import numpy as np
import torch

from models.columns import Columns
from models.evaluation.tfake.recipe import Pool
from models.landmarks.standards import contour72
from models.synthworld.camera import sensor
from models.synthworld.render.capture import ThermalPicture, annotate, capture
from models.synthworld.render.render import Rendering, render
from models.synthworld.sampling import splits
from models.synthworld.sampling.domain import load_domain, sample_scene
from models.synthworld.sampling.ranges import Domain

TOGETHER = 16
"""Pictures that are rendered at once."""
CONDITIONS = ("warm", "cold")
RENDERED_COLUMNS = ("valid", "classes", "landmarks_70", "landmarks_478", "pose", "bbox")


class MemorySource:
    """Rows in memory, as the training loop reads them (`models.training.loop.Source`)."""

    def __init__(self, rows: Columns) -> None:
        self.columns = rows

    def __len__(self) -> int:
        return len(next(iter(self.columns.values())))

    def rows(self, indices: np.ndarray) -> Columns:
        """Return the rows of `indices`."""
        return {name: values[indices] for name, values in self.columns.items()}


def render_pool(pool: Pool, gap: float, size: int) -> Columns:
    """Render a pool: the columns of N pictures of S = `size` pixels.

    visible uint8 [N, S, S, 3]; thermal float32 [N, S, S] degC, the true apparent temperature; valid, classes;
    landmarks_70, landmarks_478 px;
    pose, bbox; identity_id, condition text [N].
    Of a domain with a thermal camera also its picture, resized to S: twin float32 [N, S, S] degC and twin_valid, and
    grey float32 [N, S, S] in [0, 1], the delivered 8-bit picture (of a radiometric camera the stretched twin).
    And as it comes, at most S pixels wide, in the upper left corner of frame float32 [N, S, S] degC: side int64 [N] its
    width, points float32 [N, 70, 2] and labels float32 [N, 72, 2] (contour, with the annotators' noise) on it.

    The number of people is the pool's at every gap, so that intervals over identities compare.
    """
    # Every person is seen in turn warm and cold, and persons begin with either in turn.
    domain = load_domain(pool.domain, gap)
    people = splits.identities(pool.split)[pool.first : pool.first + pool.people]
    names = [
        (person, view, CONDITIONS[(k + view) % 2]) for k, person in enumerate(people) for view in range(pool.views)
    ]
    batches = [_render(domain, names[k : k + TOGETHER], size) for k in range(0, len(names), TOGETHER)]
    return {name: np.concatenate([batch[name] for batch in batches]) for name in batches[0]}


def _render(domain: Domain, names: list[tuple[int, int, str]], size: int) -> Columns:
    """Return the columns of the pictures called `names`: person, view and condition of each."""
    scenes = [sample_scene(domain, *name) for name in names]
    rendered = render(scenes, size)
    rows: Columns = {name: getattr(rendered, name).numpy() for name in RENDERED_COLUMNS}
    rows |= {"visible": rendered.rgb.numpy(), "thermal": rendered.apparent.numpy()}
    rows["identity_id"] = np.array([str(name[0]) for name in names])
    rows["condition"] = np.array([name[2] for name in names])
    if domain.capture.thermal == "none":
        return rows
    captured = [_photograph(domain, rendered, k, scene.view.scale * size, names[k]) for k, scene in enumerate(scenes)]
    return rows | {name: np.stack([one[name] for one in captured]) for name in captured[0]}


def _photograph(domain: Domain, rendered: Rendering, k: int, face: float, name: tuple[int, int, str]) -> Columns:
    """Return what the domain's thermal camera makes of picture `k`. face: height of the face in pixels of the picture."""
    size = rendered.apparent.shape[1]
    taken = capture(rendered.apparent[k], rendered.valid[k], face, domain, *name)
    # The frame as it comes, in the upper left corner; points and labels move with it.
    native = taken.twin.temperature.shape[0]
    side = min(native, size)
    frame = np.zeros((size, size), np.float32)
    frame[:side, :side] = sensor.resample(taken.twin.temperature, side).numpy()
    points = rendered.landmarks_70[k] * (side / size) + torch.tensor(taken.shift) * (side / native)
    noisy = annotate(torch.from_numpy(contour72(points.numpy())), face * side / size, domain, *name)
    return {
        "twin": sensor.resample(taken.twin.temperature, size).numpy(),
        "twin_valid": (sensor.resample(taken.twin.valid.float(), size) > 0.5).numpy(),
        "grey": sensor.resample(_grey(taken), size).numpy(),
        "frame": frame,
        "side": np.array(side),
        "height": np.array(face * side / size, np.float32),
        "points": points.numpy(),
        "labels": noisy.numpy(),
    }


def fit_frame(celsius: np.ndarray, side: int) -> np.ndarray:
    """Resample a square picture float [S, S] degC to float32 [side, side]; NaN becomes the picture's median."""
    return sensor.resample(torch.from_numpy(np.nan_to_num(celsius, nan=float(np.nanmedian(celsius)))), side).numpy()


def _grey(taken: ThermalPicture) -> torch.Tensor:
    """Return what an 8-bit camera delivers, float [S', S'] in [0, 1]: its own picture, else the stretched temperature."""
    eight = taken.picture if taken.picture.dtype == torch.uint8 else sensor.minmax(taken.picture)
    return eight.float() / 255
