"""SF-TL54: gray/{train,val,test}/{images,json} (labelme, 54 points), and the visible pictures in rgb/{train,val,test}.

Pictures of the iron palette are not read. A visible picture belongs to the thermal one of its name; where names differ, to that
in the same place of the sorted folder, if both hold as many. The subject is the first number of a name, as in SpeakingFaces.
"""

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import PurePath

from models.errors import UserError
from pipelines.config.gather import GatherJob
from pipelines.readers.item import Item, Sample, one_sample
from pipelines.readers.points import read_points
from pipelines.readers.sets.pairs import PICTURE, natural, read_grey
from pipelines.readers.sets.tfw import SPLITS
from pipelines.storage.uri import Storage

SUBJECT = re.compile(r"(\d+)_")


def list_items(job: GatherJob, files: dict[str, int], out: Storage | None) -> Iterator[Item]:
    """Yield a row for every thermal picture."""
    # Files by (gray, rgb or json) and split.
    found = dict[tuple[str, str], list[str]]()
    for name in sorted(files, key=natural):
        parts = [
            part.lower() for part in reversed(PurePath(name).parts[:-1])
        ]  # what lies above the set may be called so, too
        split = next((SPLITS[part] for part in parts if part in SPLITS), None)
        kind = next((part for part in parts if part in ("gray", "grey", "rgb")), None)
        suffix = PurePath(name).suffix.lower()
        if split and kind and (suffix in PICTURE or suffix == ".json"):
            key = "json" if suffix == ".json" else "rgb" if kind == "rgb" else "gray"
            if key != "json" or kind != "rgb":
                found.setdefault((key, split), []).append(name)
    if not any(key == "gray" for key, _ in found):
        raise UserError(f"{job.images} holds no SF-TL54: no gray/train/images with gray/train/json")
    for split in ("train", "validation", "test"):
        yield from _read_split(split, found, job)


def _read_split(split: str, found: dict[tuple[str, str], list[str]], job: GatherJob) -> Iterator[Item]:
    """Yield the rows of one split."""
    thermal, visible = found.get(("gray", split), []), found.get(("rgb", split), [])
    labels = {PurePath(name).stem: name for name in found.get(("json", split), [])}
    # By name, else by place.
    by_name = {PurePath(name).stem: name for name in visible}
    if not by_name.keys() & {PurePath(name).stem for name in thermal} and len(visible) == len(thermal):
        by_name = {PurePath(one).stem: other for one, other in zip(thermal, visible, strict=True)}
    for name in thermal:
        stem = PurePath(name).stem
        match = SUBJECT.match(stem)
        item = Item(
            f"{split}/{stem}", match[1] if match else "", job.condition, by_name.get(stem, ""), name,
            points=labels.get(stem, ""), split=split,
        )  # fmt: skip
        yield item if item.points else replace(item, reason=f"no landmarks: {stem}.json is not there")


def read_samples(item: Item, job: GatherJob, out: Storage | None) -> list[Sample]:
    """Return the pair, or the thermal picture alone, in grey levels, and its points among the 70."""
    found = one_sample(read_grey(item, job))
    found.points[70] = read_points(Storage(job.images).read(item.points), item.points, 70, picture=item.thermal)
    return [found]
