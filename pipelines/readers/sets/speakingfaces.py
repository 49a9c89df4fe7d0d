"""SpeakingFaces: train_data/sub_N/trial_N/{thr_image,rgb_image_aligned}/SUB_TRIAL_SESSION_POS[_CMD]_FRAME_STREAM.png.

Stream 1 is thermal in grey levels (the set has no temperatures), 2 the visible camera as it saw, 3 that picture brought to
the thermal one: pairs are 1 with 3. Subjects 1 to 100 train, 101 to 120 validate, 121 to 142 test.
"""

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import PurePath

from models.errors import UserError
from pipelines.config.gather import GatherJob
from pipelines.readers.item import Item, Sample
from pipelines.readers.sets.pairs import add_half, pair_up, read_grey
from pipelines.storage.uri import Storage

FILE = re.compile(r"(\d+)_(\d+)_(\d+)_(\d+)_(?:(\d+)_)?(\d+)_([123])\.(?:png|jpe?g)", re.IGNORECASE)
FACTS = ("trial", "session", "position", "command", "frame")
THERMAL, RAW, ALIGNED = "1", "2", "3"


def list_items(job: GatherJob, files: dict[str, int], out: Storage | None) -> Iterator[Item]:
    """Yield a row for every frame; those of the raw visible camera alone are refused, since no pixel joins them."""
    found, raw = dict[str, Item](), set[str]()
    for file in files:
        if not (match := FILE.fullmatch(PurePath(file).name)):
            continue
        subject, stream, name = match[1], match[7], PurePath(file).stem.rpartition("_")[0]
        facts = {key: value for key, value in zip(FACTS, match.groups()[1:6], strict=True) if value}
        item = found.get(name) or Item(
            name, str(int(subject)), job.condition, facts=json.dumps(facts), split=split_of_subject(int(subject))
        )
        # The raw visible picture is no half of a pair, but says why there is none.
        if stream == RAW:
            raw.add(name)
        found[name] = item if stream == RAW else add_half(item, file, stream == THERMAL)
    if not any(item.thermal for item in found.values()):
        raise UserError(f"{job.images} holds no SpeakingFaces: no SUB_TRIAL_SESSION_POS_FRAME_1.png")
    for item in pair_up(found):
        if item.reason and item.name in raw and not item.visible:
            reason = f"not registered: {item.name} has the raw visible picture alone; run the set's own alignment"
            item = replace(item, reason=reason)
        yield item


def split_of_subject(number: int) -> str:
    """Return the published split of a subject."""
    return "train" if number <= 100 else "validation" if number <= 120 else "test"


def read_samples(item: Item, job: GatherJob, out: Storage | None) -> list[Sample]:
    """Return a registered pair in grey levels."""
    return read_grey(item, job)
