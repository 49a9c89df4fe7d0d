"""What layouts of pairs share: both halves of a name, and halves that no pixel joins."""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace

from pipelines.config.gather import GatherJob
from pipelines.pictures.open import BadPicture
from pipelines.readers.item import Item, Sample, open_samples
from pipelines.storage.uri import Storage

ASPECT = 0.05
"""Sides of a pair may differ so much in proportion: both pictures are squeezed to one frame."""
PICTURE = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp")


def natural(name: str) -> list[tuple[int, int, str]]:
    """Return what names are sorted by so that 2 comes before 10."""
    parts = re.split(r"(\d+)", name.lower())
    return [(0, int(part), "") if part.isdigit() else (1, 0, part) for part in parts if part]


def add_half(item: Item, file: str, thermal: bool) -> Item:
    """Return the item with one more of its two pictures, and with a reason where it has that one already: which is right is not
    known."""
    if before := item.thermal if thermal else item.visible:
        kind = "thermal" if thermal else "visible"
        return replace(item, reason=f"duplicated: {before} and {file} are both the {kind} picture of {item.name}")
    return replace(item, thermal=file) if thermal else replace(item, visible=file)


def pair_up(halves: Mapping[str, Item]) -> Iterator[Item]:
    """Yield registered pairs, and those that lack a half with the reason; `halves` by their name."""
    for name, item in sorted(halves.items(), key=lambda entry: natural(entry[0])):
        lacking = [what for what, file in (("visible", item.visible), ("thermal", item.thermal)) if not file]
        reason = f"no {lacking[0]} picture: {name} has only the other one of the pair" if lacking else ""
        yield replace(item, reason=item.reason or reason)


def split_up(halves: Iterable[Item]) -> Iterator[Item]:
    """Yield each half of pairs that no pixel joins as a row of its own, of the same person: NAME/visible and NAME/thermal."""
    for item in sorted(halves, key=lambda one: natural(one.name)):
        if item.visible:
            yield replace(item, name=f"{item.name}/visible", thermal="")
        if item.thermal:
            yield replace(item, name=f"{item.name}/thermal", visible="")


def read_grey(item: Item, job: GatherJob) -> list[Sample]:
    """Return a row's pictures as they are, the thermal one in grey levels. Raises BadPicture for halves of two shapes."""
    images = Storage(job.images)
    visible, thermal = ((images.read(name), name) if name else None for name in (item.visible, item.thermal))
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
