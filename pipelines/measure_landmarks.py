"""`thermapair measure landmarks`: a bundle's landmarker on people it has never seen."""

from collections.abc import Iterator
from pathlib import Path

from models.bundle import fetch, load_bundle, seal
from models.card import update_metrics
from models.errors import UserError
from models.landmarks import evaluate
from pipelines.measure import batches
from pipelines.shards import Rows, Shards

CROWD = 64
"""Pictures that the people of crowded frames are taken from."""


def run(
    bundle: str,
    test: str,
    *,
    calibration: str | None = None,
    standard: int = 70,
    frames: int = 40,
    limit: int | None = None,
    card: bool = False,
) -> dict[str, float]:
    """Return the figures of `models.landmarks.evaluate` on the rows at `test`.

    calibration: validation rows that the factors on the variances are fitted to first; they are kept beside the weights.
    """
    chosen = load_bundle(bundle)
    if chosen.landmarks is None:
        raise UserError(f"bundle {chosen.name} has no part `landmarks`: train one and name its folder there.")
    part, thermalizer = fetch(chosen.landmarks, chosen), str(fetch(chosen.thermal, chosen))
    folder = part / str(standard)
    if calibration:
        evaluate.calibrate(folder, _rows(calibration, limit), thermalizer)
        seal(part)
    found = evaluate.evaluate_landmarker(folder, _rows(test, limit), thermalizer)
    if frames:
        found |= evaluate.detection(folder, _rows(test, CROWD), frames)
    if card:
        _write(folder, part, test, found)
    return found


def _rows(uri: str, limit: int | None) -> Iterator[Rows]:
    return batches(Shards(uri, evaluate.COLUMNS, memory=0, limit=limit))


def _write(folder: Path, part: Path, test: str, found: dict[str, float]) -> None:
    update_metrics(folder, f"{test}, one look into the true box", found)
    seal(part)
