"""`thermapair measure adapters`: the conversions between landmark standards of a bundle, on people nobody was trained on."""

from pathlib import Path

import numpy as np
import torch

from models.card import update_metrics
from models.columns import Columns
from models.evaluation import adapters as conversion
from models.landmarks import adapt
from models.landmarks.detect import load_detector
from models.landmarks.standards import Standard, to_standard
from models.synthworld.render.capture import annotate
from models.synthworld.sampling.domain import load_domain
from models.weights.bundle import load_bundle
from models.weights.networks import load_network
from models.weights.store import seal
from pipelines.rows.shards import Shards

POINTS = ("landmarks_70", "landmarks_478")
PICTURES = (*POINTS, "visible", "bbox", "identity_id", "view")


def run(bundle: str, training: str, test: str, *, card: bool = False) -> dict[str, dict[str, float]]:
    """Return conversion ("70-68") -> figures of `models.evaluation.adapters` on the people at `test`.

    training: shards that the affine baseline is fitted to. Predictions are the landmarkers' on visible pictures; labels are
    marked as the annotators of domain `field` do.
    """
    chosen = load_bundle(bundle)
    part = chosen.main("landmarks")
    fitted, rows = _all(training, POINTS), _all(test, PICTURES)
    predicted, found = dict[int, np.ndarray](), dict[str, dict[str, float]]()
    for path in sorted((part / "adapters").glob(f"*/{adapt.FILE}")):
        model = load_network(path, adapt.build_adapter)
        source, target = model.config.source, model.config.target
        learnt, pairs = (_pair(part_rows, source, target) for part_rows in (fitted, rows))
        placed = 478 if source == 478 else 70
        if placed not in predicted:
            predicted[placed] = _predictions(part / str(placed), rows)
        given = predicted[placed] if source == placed else to_standard(predicted[70], predicted[70], source)
        wanted = pairs[1]
        figures = conversion.on_truth(model, learnt, pairs)
        figures |= conversion.on_predictions(model, given, wanted, _marked(wanted, rows), rows["identity_id"])
        found[path.parent.name] = figures
        if card:
            update_metrics(path.parent, f"{test}, {len(wanted)} faces", figures)
    if card:
        seal(part)
    return found


def _pair(rows: Columns, source: Standard, target: Standard) -> tuple[np.ndarray, np.ndarray]:
    seventy, dense = rows["landmarks_70"], rows["landmarks_478"]
    return to_standard(seventy, dense, source), to_standard(seventy, dense, target)


def _all(uri: str, columns: tuple[str, ...]) -> Columns:
    shards = Shards(uri, columns, memory=0)
    return shards.rows(np.arange(len(shards)))


def _predictions(folder: Path, rows: Columns) -> np.ndarray:
    """Return a landmarker's points, float32 [N, L, 2], one look into the true box of every visible picture."""
    finder = load_detector(folder)
    looks = zip(rows["visible"], rows["bbox"], strict=True)
    return np.stack([finder.at_boxes(picture, box[None])[0].points for picture, box in looks])


def _marked(points: np.ndarray, rows: Columns) -> np.ndarray:
    """Return `points` [N, L, 2] as the annotators of domain `field` mark them."""
    domain, heights = load_domain("field"), rows["bbox"][:, 3] - rows["bbox"][:, 1]
    names = zip(rows["identity_id"], rows["view"], strict=True)
    each = zip(points, heights, names, strict=True)
    return np.stack(
        [annotate(torch.from_numpy(np.asarray(p, np.float32)), float(h), domain, *name).numpy() for p, h, name in each]
    )
