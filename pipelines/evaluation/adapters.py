"""`thermapair measure adapters`: the conversions between landmark standards of a bundle, on people nobody was trained on."""

from pathlib import Path

import numpy as np
import torch

from models.card import update_metrics
from models.columns import Columns
from models.evaluation.adapters import errors_on_predictions, errors_on_truth
from models.landmarks import adapt
from models.landmarks.detect import load_detector
from models.landmarks.standards import Standard, to_standard
from models.synthworld.render.capture import annotate
from models.synthworld.sampling.domain import load_domain
from models.weights.bundle import Bundle
from models.weights.networks import load_network
from models.weights.store import seal
from pipelines.rows.shards import Shards

POINTS = ("landmarks_70", "landmarks_478")
PICTURES = (*POINTS, "visible", "bbox", "identity_id", "view")


def measure_adapters(bundle: Bundle, training: str, test: str, *, card: bool = False) -> dict[str, dict[str, float]]:
    """Return conversion ("70-68") -> figures of `models.evaluation.adapters` on the people at `test`.

    training: shards that the affine baseline is fitted to. Predictions are the landmarkers' on visible pictures; labels are
    marked as the annotators of domain `field` do.
    """
    part = bundle.main("landmarks")
    training_rows, rows = _read_rows(training, POINTS), _read_rows(test, PICTURES)
    predicted, found = dict[int, np.ndarray](), dict[str, dict[str, float]]()
    for path in sorted((part / "adapters").glob(f"*/{adapt.FILE}")):
        model = load_network(path, adapt.build_adapter)
        source, target = model.config.source, model.config.target
        # True points of both standards, and what the landmarker of the source predicts of the same faces.
        training_pairs, pairs = (_pair(each, source, target) for each in (training_rows, rows))
        standard = 478 if source == 478 else 70
        if standard not in predicted:
            predicted[standard] = _predictions(part / str(standard), rows)
        points = predicted[standard] if source == standard else to_standard(predicted[70], predicted[70], source)
        # Errors on true points, on predicted ones, and against the labels of annotators.
        true_points = pairs[1]
        labels = _label(true_points, rows)
        figures = errors_on_truth(model, training_pairs, pairs)
        figures |= errors_on_predictions(model, points, true_points, labels, rows["identity_id"])
        found[path.parent.name] = figures
        if card:
            update_metrics(path.parent, f"{test}, {len(true_points)} faces", figures)
    if card:
        seal(part)
    return found


def _pair(rows: Columns, source: Standard, target: Standard) -> tuple[np.ndarray, np.ndarray]:
    seventy, dense = rows["landmarks_70"], rows["landmarks_478"]
    return to_standard(seventy, dense, source), to_standard(seventy, dense, target)


def _read_rows(uri: str, columns: tuple[str, ...]) -> Columns:
    shards = Shards(uri, columns, memory=0)
    return shards.rows(np.arange(len(shards)))


def _predictions(folder: Path, rows: Columns) -> np.ndarray:
    """Return a landmarker's points, float32 [N, L, 2], one look into the true box of every visible picture."""
    finder = load_detector(folder)
    looks = zip(rows["visible"], rows["bbox"], strict=True)
    return np.stack([finder.at_boxes(picture, box[None])[0].points for picture, box in looks])


def _label(points: np.ndarray, rows: Columns) -> np.ndarray:
    """Return `points` [N, L, 2] as the annotators of domain `field` mark them."""
    domain, heights = load_domain("field"), rows["bbox"][:, 3] - rows["bbox"][:, 1]
    names = zip(rows["identity_id"], rows["view"], strict=True)
    each = zip(points, heights, names, strict=True)
    return np.stack(
        [annotate(torch.from_numpy(np.asarray(p, np.float32)), float(h), domain, *name).numpy() for p, h, name in each]
    )
