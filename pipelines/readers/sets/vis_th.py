"""VIS-TH (EURECOM): TH_SUBJECT_SESSION_NUMBER_CODE.tiff and VIS_ ... .jpg; a pair is the name without its beginning.

The two lenses of the camera see different frames (160 x 120 beside 1920 x 1080 px), so each half is a row of its own. Codes say
what was varied (NN neutral, E expressions, P poses, O occlusions, L light). Nothing says a split.
"""

import json
import re
from collections.abc import Iterator
from pathlib import PurePath

from models.errors import UserError
from pipelines.config.gather import GatherJob
from pipelines.readers.item import Item, Sample
from pipelines.readers.sets.pairs import add_half, read_grey, split_up
from pipelines.storage.uri import Storage

FILE = re.compile(r"(TH|VIS)_(\d+)_(\d+)_(\d+)_([A-Za-z]+)\.(?:tiff?|jpe?g|png|bmp)", re.IGNORECASE)


def list_items(job: GatherJob, files: dict[str, int], out: Storage | None) -> Iterator[Item]:
    """Yield a row for every picture."""
    found = dict[str, Item]()
    for name in files:
        if not (match := FILE.fullmatch(PurePath(name).name)):
            continue
        key = PurePath(name).stem.partition("_")[2]
        facts = json.dumps({"session": match[3], "variation": match[5]})
        item = found.get(key) or Item(key, str(int(match[2])), job.condition, facts=facts)
        found[key] = add_half(item, name, match[1].upper() == "TH")
    if not any(item.thermal for item in found.values()):
        raise UserError(f"{job.images} holds no VIS-TH: no TH_SUBJECT_SESSION_NUMBER_CODE.tiff")
    yield from split_up(found.values())


def read_samples(item: Item, job: GatherJob, out: Storage | None) -> list[Sample]:
    """Return one half, a thermal one in grey levels."""
    return read_grey(item, job)
