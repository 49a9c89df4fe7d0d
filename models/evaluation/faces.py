"""Measure a face part on people it has never seen: are they found, and recognised with and without colour?"""

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from models.columns import Columns
from models.errors import EnvironmentFault, UserError
from models.faces.align import align, five_points
from models.faces.metrics import count_recalled, gallery_split, rank_one, verification
from models.faces.pack import Pack, embed, open_sessions
from models.faces.recogniser import EMBEDDING
from models.faces.scrfd import STRIDES

BATCH = 32
GALLERIES = (100, 1000, 10_000)
COLUMNS = ("identity_id", "visible", "landmarks_70", "bbox")


def evaluate_recogniser(
    folder: Path, batches: Iterable[Columns], *, threads: int = 2, rounds: int = 200
) -> dict[str, float]:
    """Return metrics of the recogniser in `folder` on rows of `COLUMNS`, each picture once, and of its
    detector if there is one.

    Aligned on the true landmarks: TAR at FAR 1e-3 with its 95 % interval over identities, rank-1 in galleries of 100,
    1,000 and 10,000 people (where there are so many), and both with probe and gallery in grey (`grey_`). With a
    detector: recall at IoU 0.5, faces too many a picture, and recognition from its own points (`detected_`), where a
    missed face matches nobody.

    Raises:
        EnvironmentFault: no recogniser in `folder`. UserError: no rows.
    """
    detector, recogniser = open_sessions(folder, threads)
    if recogniser is None:
        raise EnvironmentFault(f"{folder} holds no recogniser (an ONNX file of 112 px crops). Train it first.")
    pack = Pack(folder, threads=threads) if detector else None
    # Embed every picture: aligned on the true points, in grey, and on the detector's own points.
    names, vectors, finds = [], [], []
    for batch in batches:
        pictures, points = batch["visible"], five_points(np.asarray(batch["landmarks_70"]).reshape(-1, 70, 2))
        names.append(batch["identity_id"].astype(str))
        crops = align(pictures, points)
        found = {"": embed(recogniser, crops, BATCH), "grey_": embed(recogniser, to_grey(crops), BATCH)}
        if pack is not None:
            found["detected_"], counts = _embed_detected(pack, pictures, batch["bbox"])
            finds.append(counts)
        vectors.append(found)
    if not names:
        raise UserError("there are no rows to evaluate on")
    # Compare all pictures with each other.
    known, people = np.unique(np.concatenate(names), return_inverse=True)
    result: dict[str, float] = {"pictures": float(len(people)), "people": float(len(known))}
    for prefix in vectors[0]:
        embeddings = np.concatenate([part[prefix] for part in vectors])
        metrics = recognition_metrics(embeddings, people, rounds)
        result |= {f"{prefix}{name}": value for name, value in metrics.items()}
    if finds:
        hits, extra = np.concatenate(finds).T
        result |= {"recall_iou_0.5": float(hits.mean()), "false_faces_per_picture": float(extra.mean())}
    return result


def recognition_metrics(embeddings: np.ndarray, identity: np.ndarray, rounds: int) -> dict[str, float]:
    """Return verification and rank-1 metrics of embeddings [N, 512] of people `identity` [N]."""
    found = verification(embeddings, identity, 1e-3, rounds=rounds)
    result = {
        "tar_at_far_1e-3": found.tar,
        "tar_low": found.low,
        "tar_high": found.high,
        "threshold": found.threshold,
        "impostor_pairs": float(found.impostor),
    }
    # Galleries of one picture a person, where there are so many people.
    for size in GALLERIES:
        if len(np.unique(identity)) >= size:
            gallery, probes = gallery_split(identity, size)
            rank = rank_one(embeddings[gallery], identity[gallery], embeddings[probes], identity[probes])
            result[f"rank1_of_{size}"] = rank
    return result


def to_grey(pictures: np.ndarray) -> np.ndarray:
    """Return pictures uint8 [..., 3] with their luminance (ITU-R BT.601) in all three channels."""
    luminance = (pictures @ np.array([0.299, 0.587, 0.114])).round().astype(np.uint8)
    return np.repeat(luminance[..., None], 3, axis=-1)


def _embed_detected(pack: Pack, pictures: np.ndarray, boxes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return embeddings [B, 512] from the detector's own points (zero for a missed face), and [B, 2] hits and extras."""
    vectors = np.zeros((len(pictures), EMBEDDING), np.float32)
    counts = np.zeros((len(pictures), 2))
    crops = []
    # One look at each picture whole, at the nearest side that the detector's strides divide.
    side = max(STRIDES) * round(pictures.shape[1] / max(STRIDES))
    for row, found in enumerate(pack.find(list(pictures), [(side, side)])):
        counts[row, 0] = count_recalled(found.boxes, boxes[row][None])
        counts[row, 1] = len(found.boxes) - counts[row, 0]
        if len(found.boxes):
            best = found.main(*pictures.shape[1:3])
            crops.append((row, align(pictures[row][None], found.points[best][None])[0]))
    if crops:
        vectors[[row for row, _ in crops]] = pack.embed(np.stack([crop for _, crop in crops]))
    return vectors, counts
