"""How well a translator keeps who is shown: its pictures as probes against a gallery of true visible ones, read by a judge.

Beside it stand two bounds: the thermal picture itself as a probe, in grey, and the true visible picture. A probe is never
of the view that is in the gallery, whatever its room. Intervals are over people.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import cv2
import numpy as np

from models.attributes import ATTRIBUTES
from models.columns import Columns
from models.errors import UserError
from models.evaluation.bootstrap import interval, mean
from models.evaluation.faces import to_grey
from models.faces.metrics import unit_vectors, verify
from models.metrics import balanced_accuracy

COLUMNS = ("identity_id", "view", "visible", "thermal", "attributes", "landmarks_70")
GALLERY = 100
"""People whom a probe is looked up among, where there are so many."""

Embed = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""(pictures uint8 [B, S, S, 3], landmarks [B, 70, 2]) -> embeddings [B, D] of the judge."""


@dataclass(frozen=True)
class Split:
    """Rows of the gallery, one a person, and of the probes, by number."""

    gallery: np.ndarray
    probes: np.ndarray


def split_rows(identity: np.ndarray, view: np.ndarray, people: int = GALLERY) -> Split:
    """Return the first row of each of the first `people` identities [N], and all their rows of other views [N].

    Raises a UserError where fewer than two people have two views.
    """
    _, first, place = np.unique(identity, return_index=True, return_inverse=True)
    # The same view in another room shows the same visible picture, which would find itself.
    other = view != view[first[place]]
    chosen = [k for k in np.argsort(first) if other[place == k].any()][:people]
    if len(chosen) < 2:
        raise UserError("a gallery needs two people at least, each with two views (columns identity_id, view)")
    probes = np.flatnonzero(np.isin(place, chosen) & other)
    return Split(first[chosen], probes)


def match(probes: np.ndarray, who: np.ndarray, gallery: np.ndarray, known: np.ndarray) -> dict[str, float]:
    """Return how probes [P, D] of people `who` find theirs among gallery vectors [G, D] of people `known`, one each.

    `cosine` to the own one, `rank1`, both the mean over people with `_low` and `_high`, the interval over them; of all pairs of
    a probe and a gallery vector `auc`, `eer`, and the rates of genuine pairs accepted of `RATES`.
    """
    # Every probe against everybody: the own one, and whether the nearest is that.
    similarity = unit_vectors(probes) @ unit_vectors(gallery).T
    same = who[:, None] == known[None]
    own = similarity[same]
    hits = same[np.arange(len(who)), similarity.argmax(axis=1)].astype(float)
    found: dict[str, float] = {}
    # A person counts once, however many probes they have, for their probes are not independent.
    people, place = np.unique(who, return_inverse=True)
    for name, values in (("cosine", own), ("rank1", hits)):
        per_person = np.bincount(place, values, len(people)) / np.bincount(place, minlength=len(people))
        estimate = interval(mean, [per_person[None]])
        found |= {name: estimate.value, f"{name}_low": estimate.low, f"{name}_high": estimate.high}
    return found | verify(own, similarity[~same])


def psnr(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Return the peak signal-to-noise ratio in dB of pictures uint8 [B, S, S, 3] in grey (BT.601), [B]; 99 for equal ones."""
    square = (_grey(one) - _grey(other)) ** 2
    return np.minimum(10 * np.log10(255**2 / np.maximum(square.mean(axis=(1, 2)), 1e-9)), 99.0)


def ssim(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Return the structural similarity of pictures uint8 [B, S, S, 3] in grey, [B]; 11 x 11 Gaussian of 1.5 (Wang 2004)."""

    def blur(values: np.ndarray) -> np.ndarray:
        return np.stack([cv2.GaussianBlur(value, (11, 11), 1.5) for value in values])

    # Local means, variances and covariance.
    x, y = _grey(one), _grey(other)
    mean_x, mean_y = blur(x), blur(y)
    spread_x, spread_y = blur(x * x) - mean_x**2, blur(y * y) - mean_y**2
    both = blur(x * y) - mean_x * mean_y
    # The two factors of equation 13, whose constants keep flat places from dividing by nothing; borders saw a mirrored edge.
    steady, textured = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    luminance = (2 * mean_x * mean_y + steady) / (mean_x**2 + mean_y**2 + steady)
    structure = (2 * both + textured) / (spread_x + spread_y + textured)
    return np.asarray((luminance * structure)[:, 5:-5, 5:-5].mean(axis=(1, 2)))


def _grey(pictures: np.ndarray) -> np.ndarray:
    return to_grey(pictures)[..., 0].astype(np.float64)


def show_thermal(celsius: np.ndarray) -> np.ndarray:
    """Return degrees [B, S, S] as grey pictures uint8 [B, S, S, 3], each stretched over its own range: the raw probe."""
    low, high = (np.nanpercentile(celsius, q, axis=(1, 2), keepdims=True) for q in (1, 99))
    level = np.nan_to_num((celsius - low) / np.maximum(high - low, 1e-3)).clip(0, 1)
    return np.repeat(np.rint(level * 255).astype(np.uint8)[..., None], 3, axis=-1)


def evaluate_translation(
    rows: Columns,
    draws: np.ndarray,
    embed: Embed,
    judged: Mapping[str, np.ndarray] | None = None,
    people: int = GALLERY,
) -> dict[str, dict[str, float]]:
    """Return figures of `translated`, `raw` (the thermal picture as a probe) and `true` (the visible one), by name.

    rows: of `COLUMNS`. draws: translations of the rows' thermal pictures, uint8 [K, N, S, S, 3]; the first is the probe, and
    their spread is told as `diversity`: the standard deviation over the draws in grey levels. judged: attribute -> the number
    of the word that a judge reads in the first translation, [N]; observable ones are compared with what the rows say.
    """
    # Who is in the gallery, and which pictures ask.
    identity = np.unique(np.asarray(rows["identity_id"]).astype(str), return_inverse=True)[1]
    split, points = (
        split_rows(identity, np.asarray(rows["view"]), people),
        np.asarray(rows["landmarks_70"]).reshape(-1, 70, 2),
    )
    # The same probes as translations, as the thermal pictures themselves, and as the true visible ones.
    gallery = embed(rows["visible"][split.gallery], points[split.gallery])
    probes = {"translated": draws[0], "raw": show_thermal(rows["thermal"]), "true": rows["visible"]}
    found = {}
    for name, pictures in probes.items():
        vectors = embed(pictures[split.probes], points[split.probes])
        found[name] = {
            "people": float(len(split.gallery)),
            "probes": float(len(split.probes)),
            **match(vectors, identity[split.probes], gallery, identity[split.gallery]),
            "psnr": float(psnr(pictures, rows["visible"]).mean()),
            "ssim": float(ssim(pictures, rows["visible"]).mean()),
        }
    found["translated"]["diversity"] = float(np.std(draws.astype(np.float32), axis=0).mean()) if len(draws) > 1 else 0.0
    return found | ({"attributes": read_attributes(rows, judged)} if judged else {})


def read_attributes(rows: Columns, judged: Mapping[str, np.ndarray]) -> dict[str, float]:
    """Return the balanced accuracy of each observable attribute beside that of always the same word (`NAME_same`)."""
    words = [json.loads(text) for text in rows["attributes"]]
    found = {}
    for name, (_, seen, known) in ATTRIBUTES.items():
        if seen == "observable" and name in judged:
            truth = np.array([known.index(row[name]) for row in words])
            found[name] = balanced_accuracy(judged[name], truth, len(known))
            found[f"{name}_same"] = 1 / len(np.unique(truth))
    return found
