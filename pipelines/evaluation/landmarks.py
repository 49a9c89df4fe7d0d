"""`thermapair measure landmarks`: a bundle's landmarker on people it has never seen."""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from models.card import update_metrics
from models.columns import Columns
from models.evaluation import crowds
from models.evaluation.landmarks import (
    THERMAL,
    calibrate,
    columns,
    evaluate_landmarker,
    fit_margin,
    measure_search,
)
from models.synthworld.sampling.domain import load_domain
from models.synthworld.sampling.ranges import Domain
from models.weights.bundle import Bundle
from models.weights.store import seal
from pipelines.evaluation.bundle import batches
from pipelines.plan.world import read_world
from pipelines.rows.shards import Shards
from pipelines.storage.uri import Storage

CROWD = 256
"""Pictures, evenly over the rows, that the people of crowded frames are taken from."""


def measure_landmarks(
    bundle: Bundle,
    test: str,
    *,
    calibration: str | None = None,
    standard: int = 70,
    frames: int = 40,
    limit: int | None = None,
    card: bool = False,
) -> dict[str, float]:
    """Return the figures of `models.evaluation.landmarks` and `crowds` on the rows at `test`.

    calibration: validation rows that the margin about boxes, the factors on the variances and the detection threshold are
    fitted to first; they are kept beside the weights. frames: with people, and as many without, of each modality; 0: none.
    Of gathered pictures, their own visible and thermal ones are read as they are: nothing is predicted, and no frame is made
    of them (nor the threshold fitted to such), for which people would have to be cut out.
    """
    part, thermalizer = bundle.main("landmarks"), str(bundle.main("thermal"))
    folder = part / str(standard)
    # What is fitted to validation pictures: margin, variances and, on frames made of them, the threshold.
    if calibration:
        _fit_calibration(folder, calibration, thermalizer, frames, limit)
        seal(part)
    # What is read on the test pictures: one look into each true box, whole pictures, crowded frames.
    domain = domain_of(test)
    found = evaluate_landmarker(folder, _read_rows(test, domain, limit), thermalizer if domain else "", domain)
    if domain and domain.capture.thermal not in ("none", "apparent"):
        found |= measure_search(folder, _read_rows(test, domain, limit), domain)
    if frames and domain:
        found |= crowds.measure_detection(folder, _spread_rows(test, domain), frames)
    if card:
        update_metrics(folder, f"{test}, one look into the true box", found)
        seal(part)
    return found


def _fit_calibration(folder: Path, calibration: str, thermalizer: str, frames: int, limit: int | None) -> None:
    """Fit what stands beside the weights of a landmarker; in a copy, so that a run that is stopped leaves all as it was."""
    known = domain_of(calibration)
    source = thermalizer if known else ""
    with tempfile.TemporaryDirectory() as scratch:
        copy = Path(scratch) / folder.name
        shutil.copytree(folder, copy)
        fit_margin(copy, _spread_rows(calibration, known), source)
        calibrate(copy, _read_rows(calibration, known, limit), source)
        if frames and known:
            crowds.fit_threshold(copy, _spread_rows(calibration, known), frames)
        for file in copy.glob("*.json"):
            shutil.copyfile(file, folder / file.name)


def domain_of(uri: str) -> Domain | None:
    """Return the domain that the rows at `uri` were rendered in, None for gathered ones."""
    found = read_world(Storage(uri))
    return load_domain(found[0].domain, found[0].gap) if found else None


def _shards(uri: str, domain: Domain | None, limit: int | None = None) -> Shards:
    optional = () if domain else THERMAL
    return Shards(uri, columns(domain), optional=optional, memory=0, limit=limit)


def _read_rows(uri: str, domain: Domain | None, limit: int | None) -> Iterator[Columns]:
    return batches(_shards(uri, domain, limit))


def _spread_rows(uri: str, domain: Domain | None) -> Columns:
    shards = _shards(uri, domain)
    return shards.rows(np.linspace(0, len(shards) - 1, min(CROWD, len(shards))).astype(int))
