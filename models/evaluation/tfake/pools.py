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
CONDITIONS = ("warm", "cold")
KEPT = ("valid", "classes", "landmarks_70", "landmarks_478", "pose", "bbox")


class Held:
    """Rows in memory, as the training loop reads them."""

    def __init__(self, rows: Columns) -> None:
        self.kept = rows

    def __len__(self) -> int:
        return len(next(iter(self.kept.values())))

    def rows(self, indices: np.ndarray) -> Columns:
        """Return the rows of `indices`."""
        return {name: values[indices] for name, values in self.kept.items()}


def rendered(pool: Pool, gap: float, size: int) -> Columns:
    """Return a pool of N pictures of S = `size` pixels.

    visible uint8 [N, S, S, 3]; thermal float32 [N, S, S] degC, the true apparent temperature; valid, classes;
    landmarks_70, landmarks_478 px;
    pose, bbox; identity_id, condition text [N].
    Of a domain with a thermal camera also its picture, resized to S: twin float32 [N, S, S] degC and twin_valid, and
    grey float32 [N, S, S] in [0, 1], the delivered 8-bit picture (of a radiometric camera the stretched twin).
    And as it comes, at most S pixels wide, in the upper left corner of frame float32 [N, S, S] degC: side int64 [N] its
    width, points float32 [N, 70, 2] and labels float32 [N, 72, 2] (contour, with the annotators' noise) on it.

    The number of people is the pool's at every gap, so that intervals over identities compare.
    """
    domain = load_domain(pool.domain, gap)
    people = splits.identities(pool.split)[pool.first : pool.first + pool.people]
    names = [
        (person, view, CONDITIONS[(k + view) % 2]) for k, person in enumerate(people) for view in range(pool.views)
    ]
    parts = [_part(domain, names[k : k + TOGETHER], size) for k in range(0, len(names), TOGETHER)]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _part(domain: Domain, names: list[tuple[int, int, str]], size: int) -> Columns:
    scenes = [sample_scene(domain, *name) for name in names]
    found = render(scenes, size)
    rows: Columns = {name: getattr(found, name).numpy() for name in KEPT}
    rows |= {"visible": found.rgb.numpy(), "thermal": found.apparent.numpy()}
    rows["identity_id"] = np.array([str(name[0]) for name in names])
    rows["condition"] = np.array([name[2] for name in names])
    if domain.capture.thermal == "none":
        return rows
    each = [_taken(domain, found, k, scene.view.scale * size, names[k]) for k, scene in enumerate(scenes)]
    return rows | {name: np.stack([one[name] for one in each]) for name in each[0]}


def _taken(domain: Domain, found: Rendering, k: int, face: float, name: tuple[int, int, str]) -> Columns:
    """Return what the domain's camera makes of picture `k`."""
    size = found.apparent.shape[1]
    taken = capture(found.apparent[k], found.valid[k], face, domain, *name)
    native = taken.twin.temperature.shape[0]
    side = min(native, size)
    frame = np.zeros((size, size), np.float32)
    frame[:side, :side] = sensor.resample(taken.twin.temperature, side).numpy()
    points = found.landmarks_70[k] * (side / size) + torch.tensor(taken.shift) * (side / native)
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


def fitted_frame(celsius: np.ndarray, side: int) -> np.ndarray:
    """Return a square picture float [S, S] degC as float32 [side, side]."""
    return sensor.resample(torch.from_numpy(np.nan_to_num(celsius, nan=float(np.nanmedian(celsius)))), side).numpy()


def _grey(taken: ThermalPicture) -> torch.Tensor:
    eight = taken.picture if taken.picture.dtype == torch.uint8 else sensor.minmax(taken.picture)
    return eight.float() / 255
