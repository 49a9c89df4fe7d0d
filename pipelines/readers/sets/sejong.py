"""SEJONG: pairs NAME_v.jpg (visible) and NAME_t.jpg (thermal), 8 bit: grey levels of each picture's own scale, no degrees."""

from collections.abc import Iterator
from pathlib import PurePath

from models.errors import UserError
from pipelines.config.gather import GatherJob
from pipelines.pictures.open import BadPicture
from pipelines.readers.item import Item, Sample, open_samples
from pipelines.storage.uri import Storage

VISIBLE, THERMAL = "_v", "_t"
ASPECT = 0.05
"""Sides of a pair may differ so much in proportion: both pictures are squeezed to one frame."""


def list_items(job: GatherJob, files: dict[str, int], out: Storage | None) -> Iterator[Item]:
    """Yield a row for every name that has either picture; the folder it lies in is the person."""
    # name -> which of the pair -> file
    found: dict[str, dict[str, str]] = {}
    for name in files:
        path = PurePath(name)
        if path.suffix.lower() in (".jpg", ".jpeg") and path.stem[-2:] in (VISIBLE, THERMAL):
            found.setdefault(str(path.with_name(path.stem[:-2])), {})[path.stem[-2:]] = name
    if not any(THERMAL in have for have in found.values()):
        raise UserError(f"{job.images} holds no SEJONG: no NAME{VISIBLE}.jpg beside NAME{THERMAL}.jpg")
    for name, have in sorted(found.items()):
        lacking = [
            what for what, end in (("visible picture", VISIBLE), ("thermal picture", THERMAL)) if end not in have
        ]
        reason = f"no {lacking[0]}: {name} has only the other one of the pair" if lacking else ""
        person = PurePath(name).parent.name or name
        yield Item(name, person, job.condition, have.get(VISIBLE, ""), have.get(THERMAL, ""), reason=reason)


def read_samples(item: Item, job: GatherJob, out: Storage | None) -> list[Sample]:
    """Return both pictures as they are: they are registered as well as the data set is."""
    images = Storage(job.images)
    visible, thermal = ((images.read(name), name) for name in (item.visible, item.thermal))
    samples = open_samples(visible, thermal, "grey")
    for sample in samples:
        check_proportions(sample)
    return samples


def check_proportions(found: Sample) -> None:
    """Raise BadPicture when a visible and a thermal picture cannot be of one view: their proportions differ."""
    if found.visible is None or found.thermal is None:
        return
    (height, width), (high, wide) = found.visible.shape[:2], found.thermal.shape
    if abs(width * high / (height * wide) - 1) > ASPECT:
        raise BadPicture(f"mismatched: {wide} x {high} px thermal beside {width} x {height} px visible")
