"""FaceSynthetics (FAKE): ID.png, ID_seg.png with the 19 classes, ID_ldmks.txt with 70 lines `x y` in pixels."""

from collections.abc import Iterator
from pathlib import PurePath

from models.errors import UserError
from pipelines.config.gather import GatherJob
from pipelines.pictures.open import open_classes
from pipelines.readers.item import Item, Sample, one_sample, open_samples, stem
from pipelines.readers.points import read_points
from pipelines.storage.uri import Storage

MASK, POINTS, STANDARD = "_seg.png", "_ldmks.txt", 70


def list_items(job: GatherJob, files: dict[str, int], out: Storage | None) -> Iterator[Item]:
    """Yield a row for every ID that any of the three files has."""
    found = find_partners(files)
    if not found:
        raise UserError(f"{job.images} holds no FaceSynthetics: no ID.png with ID{MASK} and ID{POINTS}")
    for name, have in found.items():
        # A row needs all three files; the first that is missing is its reason.
        lacking = [what for what, there in zip(("picture", "mask", "landmarks"), have, strict=True) if not there]
        visible, mask, points = (file if there else "" for file, there in zip(_file_names(name), have, strict=True))
        reason = f"no {lacking[0]}: the other files of {name} have none beside them" if lacking else ""
        person = PurePath(name).name
        yield Item(name, person, job.condition, visible, mask=mask, points=points, reason=reason)


def find_partners(files: dict[str, int]) -> dict[str, tuple[bool, bool, bool]]:
    """Return ID -> whether it has a picture, a mask, landmarks, sorted; pictures alone in a folder are no FaceSynthetics."""
    own = {name.removesuffix(end) for end in (MASK, POINTS) for name in files if name.endswith(end)}
    if not own:
        return {}
    pictures = {stem(name) for name in files if name.endswith(".png") and not name.endswith((MASK, "_thermal.png"))}
    return {name: tuple(file in files for file in _file_names(name)) for name in sorted(own | pictures)}  # type: ignore[misc]


def _file_names(name: str) -> tuple[str, str, str]:
    return f"{name}.png", f"{name}{MASK}", f"{name}{POINTS}"


def read_samples(item: Item, job: GatherJob, out: Storage | None) -> list[Sample]:
    """Return picture, classes and 70 points."""
    images = Storage(job.images)
    found = one_sample(open_samples((images.read(item.visible), item.visible)))
    found.classes = open_classes(images.read(item.mask), found.frame_shape)
    points = read_points(images.read(item.points), item.points, STANDARD)
    found.points = {STANDARD: points}
    return [found]
