"""Tufts: TD_RGB_E_Set1/PARTICIPANT/TD_RGB_E_K.jpg, and TD_IR_E, TD_RGB_A, TD_IR_A likewise; K counts pictures of a person.

E has five expressions and A the cameras around the person; their number joins the halves of a moment, but no pixel does: the
cameras stood apart, so each half is a row of its own. Thermal pictures are grey levels. Nothing says a split.
"""

import json
import re
from collections.abc import Iterator
from pathlib import PurePath

from models.errors import UserError
from pipelines.config.gather import GatherJob
from pipelines.readers.item import Item, Sample
from pipelines.readers.sets.pairs import PICTURE, add_half, natural, read_grey, split_up
from pipelines.storage.uri import Storage

FOLDER = re.compile(r"TD[_ ](RGB|IR)[_ ]([AE])\b|TD_(RGB|IR)_([AE])_", re.IGNORECASE)
NUMBER = re.compile(r"(\d+)$")
EXPRESSIONS = ("neutral", "smile", "eyes closed", "shocked", "sunglasses")
"""Of TD_RGB_E and TD_IR_E, 1 to 5."""


def list_items(job: GatherJob, files: dict[str, int], out: Storage | None) -> Iterator[Item]:
    """Yield a row for every picture of the thermal and of the colour camera; NIR, sketches and 3-D are not read."""
    found = dict[str, Item]()
    for (modality, kind, person), names in sorted(_group(files).items()):
        numbers = [NUMBER.search(PurePath(name).stem) for name in names]
        # Without numbers in the names, their order counts.
        counted = all(numbers)
        for place, name in enumerate(names, start=1):
            match = numbers[place - 1]
            number = int(match[1]) if counted and match else place
            facts = {"set": kind, "number": number}
            if kind == "E" and 1 <= number <= len(EXPRESSIONS):
                facts["expression"] = EXPRESSIONS[number - 1]
            key = f"{kind}/{person}/{number}"
            item = found.get(key) or Item(key, person, job.condition, facts=json.dumps(facts))
            found[key] = add_half(item, name, modality == "IR")
    if not any(item.thermal for item in found.values()):
        raise UserError(f"{job.images} holds no Tufts: no TD_IR_E or TD_IR_A with folders of participants")
    yield from split_up(found.values())


def _group(files: dict[str, int]) -> dict[tuple[str, str, str], list[str]]:
    """Return pictures in their order by (RGB or IR, A or E, participant)."""
    groups = dict[tuple[str, str, str], list[str]]()
    for name in sorted(files, key=natural):
        path = PurePath(name)
        marks = [match for part in path.parts if (match := FOLDER.search(part))]
        if marks and path.suffix.lower() in PICTURE and path.parent.name.strip().isdigit():
            modality, kind = (marks[-1][1] or marks[-1][3], marks[-1][2] or marks[-1][4])
            groups.setdefault((modality.upper(), kind.upper(), str(int(path.parent.name))), []).append(name)
    return groups


def read_samples(item: Item, job: GatherJob, out: Storage | None) -> list[Sample]:
    """Return one half, a thermal one in grey levels."""
    return read_grey(item, job)
