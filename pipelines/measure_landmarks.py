"""`thermapair measure landmarks`: a bundle's landmarker on people it has never seen."""

import json
from collections.abc import Iterator

import numpy as np

from models.bundle import fetch, load_bundle, seal
from models.card import update_metrics
from models.errors import UserError
from models.landmarks import crowds, evaluate
from models.synthworld.domain import load_domain
from models.synthworld.ranges import Domain
from pipelines.measure import batches
from pipelines.shards import Rows, Shards
from pipelines.storage import Storage

CROWD = 256
"""Pictures, evenly over the rows, that the people of crowded frames are taken from."""


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
    """Return the figures of `models.landmarks.evaluate` and `crowds` on the rows at `test`.

    calibration: validation rows that the margin about boxes, the factors on the variances and the detection threshold are
    fitted to first; they are kept beside the weights. frames: with people, and as many without, of each modality; 0: none.
    """
    chosen = load_bundle(bundle)
    if chosen.landmarks is None:
        raise UserError(f"bundle {chosen.name} has no part `landmarks`: train one and name its folder there.")
    part, thermalizer = fetch(chosen.landmarks, chosen), str(fetch(chosen.thermal, chosen))
    folder = part / str(standard)
    if calibration:
        known = world_of(calibration)
        evaluate.fit_margin(folder, _spread(calibration, known), thermalizer)
        evaluate.calibrate(folder, _rows(calibration, known, limit), thermalizer)
        if frames:
            crowds.fit_threshold(folder, _spread(calibration, known), frames)
        seal(part)
    domain = world_of(test)
    found = evaluate.evaluate_landmarker(folder, _rows(test, domain, limit), thermalizer, domain)
    if domain.capture.thermal not in ("none", "apparent"):
        found |= evaluate.searched(folder, _rows(test, domain, limit), domain)
    if frames:
        found |= crowds.detection(folder, _spread(test, domain), frames)
    if card:
        update_metrics(folder, f"{test}, one look into the true box", found)
        seal(part)
    return found


def world_of(uri: str) -> Domain:
    """Return the domain that the rows at `uri` were rendered in."""
    try:
        job = json.loads(Storage(uri).read("world.json"))["job"]
    except FileNotFoundError:
        raise UserError(f"{uri} holds no pictures of the world: render some with `thermapair world`") from None
    return load_domain(job["domain"], job["gap"])


def _rows(uri: str, domain: Domain, limit: int | None) -> Iterator[Rows]:
    return batches(Shards(uri, evaluate.columns(domain), memory=0, limit=limit))


def _spread(uri: str, domain: Domain) -> Rows:
    shards = Shards(uri, evaluate.columns(domain), memory=0)
    return shards.rows(np.linspace(0, len(shards) - 1, min(CROWD, len(shards))).astype(int))
