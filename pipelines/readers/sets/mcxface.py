"""MCXFace, and any set with Idiap's protocol files: PROTOCOL/{norm/train_world,dev/for_models,dev/for_probes,eval/...}.csv.

A line has PATH (with or without an extension), REFERENCE_ID and facts. Which camera took a picture is said by a column
MODALITY, else by a word of the path (thermal; vis, rgb, color); NIR, SWIR and depth are not read. The lists train, validate
(dev) and test (eval), and a row's facts say whether it enrols (model) or asks (probe). `--set protocol=NAME` chooses one of
several; halves are rows of their own.
"""

import csv
import io
import json
import re
from collections.abc import Iterator
from pathlib import PurePath

from models.errors import UserError
from pipelines.config.gather import GatherJob
from pipelines.readers.item import Item, Sample
from pipelines.readers.sets.pairs import PICTURE, add_half, read_grey
from pipelines.storage.uri import Storage

LISTS = {
    ("norm", "train_world"): ("train", "train"),
    ("dev", "for_models"): ("validation", "model"),
    ("dev", "for_probes"): ("validation", "probe"),
    ("eval", "for_models"): ("test", "model"),
    ("eval", "for_probes"): ("test", "probe"),
}
"""Folder and file of a list -> split and role of its rows."""
MODALITIES = {
    "thermal": "thermal", "therm": "thermal", "lwir": "thermal", "tir": "thermal", "vis": "visible", "visible": "visible",
    "rgb": "visible", "color": "visible", "colour": "visible", "nir": "", "swir": "", "depth": "",
}  # fmt: skip
PERSON = ("reference_id", "subject_id", "subject", "client_id")


class ChooseProtocol(UserError):
    """Lists of several protocols are there, and none of them is named."""


def list_items(job: GatherJob, files: dict[str, int], out: Storage | None) -> Iterator[Item]:
    """Yield a row for every line of the protocol's lists."""
    lists = _lists(job, files)
    pictures = dict[str, list[str]]()
    for name in files:
        if PurePath(name).suffix.lower() in PICTURE:
            pictures.setdefault(PurePath(name).stem.lower(), []).append(name)
    seen = set[str]()
    for name in lists:
        for item in _read_list(name, pictures, job):
            # A picture may enrol and ask, or stand in two lists of training.
            if item.name not in seen:
                seen.add(item.name)
                yield item


def _lists(job: GatherJob, files: dict[str, int]) -> list[str]:
    """Return the files of the one protocol that is there or chosen."""
    found = [
        name
        for name in files
        if (PurePath(name).parent.name, PurePath(name).stem) in LISTS and name.lower().endswith(".csv")
    ]
    protocols = sorted({PurePath(name).parent.parent.name for name in found})
    if not found:
        raise UserError(
            f"{job.images} holds no protocol: no norm/train_world.csv, dev/for_models.csv, dev/for_probes.csv"
        )
    chosen = job.protocol or (protocols[0] if len(protocols) == 1 else "")
    if chosen not in protocols:
        which = f"{job.images} has no protocol {chosen}; it" if chosen else job.images
        raise ChooseProtocol(
            f"{which} has the protocols {', '.join(protocols)}: --protocol NAME chooses one (gather: --set protocol=NAME)"
        )
    order = list(LISTS)
    own = [name for name in found if PurePath(name).parent.parent.name == chosen]
    return sorted(own, key=lambda name: order.index((PurePath(name).parent.name, PurePath(name).stem)))


def _read_list(name: str, pictures: dict[str, list[str]], job: GatherJob) -> Iterator[Item]:
    """Yield the rows of one list; a line whose picture is not there has its reason."""
    split, role = LISTS[PurePath(name).parent.name, PurePath(name).stem]
    try:
        lines = csv.DictReader(io.StringIO(Storage(job.images).read(name).decode("utf-8-sig")), skipinitialspace=True)
        columns = {column.strip().lower(): column for column in lines.fieldnames or []}
        person = next((columns[key] for key in PERSON if key in columns), None)
        if "path" not in columns or person is None:
            raise UserError(f"{job.images}/{name} needs the columns PATH and REFERENCE_ID; it has {list(columns)[:8]}")
        for line in lines:
            path = (line[columns["path"]] or "").strip()
            facts = {key: line[own] for key, own in columns.items() if key != "path" and line[own]}
            yield _item(path, line[person] or "", facts | {"role": role}, split, pictures, name, job)
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{job.images}/{name} is no table of text: {error}") from None


def _item(
    path: str,
    person: str,
    facts: dict[str, str],
    split: str,
    pictures: dict[str, list[str]],
    table: str,
    job: GatherJob,
) -> Item:
    """Return the row of a line."""
    # The picture whose path ends as the line says, with any extension.
    wanted = PurePath(path.replace("\\", "/"))
    stem = wanted.with_suffix("") if wanted.suffix.lower() in (*PICTURE, ".h5", ".hdf5") else wanted
    ends = [
        name
        for name in pictures.get(stem.name.lower(), [])
        if f"/{PurePath(name).with_suffix('')}".lower().endswith(f"/{stem}".lower())
    ]
    # Which camera: as the list says, else as the nearest folder or the name does.
    words = [facts.get("modality", ""), *reversed(stem.parts)]
    tokens = [token for word in words for token in re.split(r"[^a-z]+", word.lower()) if token in MODALITIES]
    modality = MODALITIES[tokens[0]] if tokens else None
    # Why a line gives no row; the first of its faults is enough.
    reason = ""
    if not ends:
        reason = f"no picture: {path} of {table} is not there"
    elif len(ends) > 1:
        reason = f"duplicated: {path} of {table} is {' and '.join(sorted(ends)[:2])}"
    elif not person.strip():
        reason = f"no person: a line of {table} says nobody for {path}"
    elif not modality:
        reason = f"modality: {tokens[0] if tokens else 'nothing'} of {path} is neither visible nor thermal"
    item = Item(
        f"{split}/{facts['role']}/{stem}", person, job.condition, facts=json.dumps(facts), split=split, reason=reason
    )
    return item if reason else add_half(item, ends[0], modality == "thermal")


def read_samples(item: Item, job: GatherJob, out: Storage | None) -> list[Sample]:
    """Return one half, a thermal one in grey levels."""
    return read_grey(item, job)
