"""SEJONG: pairs NAME_v.jpg (visible) and NAME_t.jpg (thermal), 8 bit: grey levels of each picture's own scale, no degrees."""

from collections.abc import Iterator
from pathlib import PurePath

from models.errors import UserError
from pipelines.config.gather import GatherJob
from pipelines.readers.item import Item, Sample
from pipelines.readers.sets.pairs import PICTURE, add_half, pair_up, read_grey
from pipelines.storage.uri import Storage

VISIBLE, THERMAL = "_v", "_t"


def list_items(job: GatherJob, files: dict[str, int], out: Storage | None) -> Iterator[Item]:
    """Yield a row for every name that has either picture; the folder it lies in is the person."""
    found = dict[str, Item]()
    for name in files:
        path = PurePath(name)
        if path.suffix.lower() in PICTURE and path.stem[-2:].lower() in (VISIBLE, THERMAL):
            key = str(path.with_name(path.stem[:-2]))
            item = found.get(key) or Item(key, path.parent.name or key, job.condition)
            found[key] = add_half(item, name, path.stem.lower().endswith(THERMAL))
    if not any(item.thermal for item in found.values()):
        raise UserError(f"{job.images} holds no SEJONG: no NAME{VISIBLE}.jpg beside NAME{THERMAL}.jpg")
    yield from pair_up(found)


def read_samples(item: Item, job: GatherJob, out: Storage | None) -> list[Sample]:
    """Return both pictures as they are: they are registered as well as the data set is."""
    return read_grey(item, job)
