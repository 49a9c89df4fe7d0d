"""`thermapair data check`: what a folder of a data set holds, before anything is gathered from it.

The listing says how many rows, pairs and people there are and what is missing; a sample of rows is opened to say sizes,
temperatures and points, and to be looked at. Nothing is written but the picture.
"""

import json
from itertools import pairwise

import cv2
import numpy as np

from models.errors import EnvironmentFault, UserError
from pipelines.config.gather import GatherJob, LayoutName
from pipelines.pictures.codecs import encode_png_rgb
from pipelines.pictures.open import BadPicture
from pipelines.readers import LAYOUTS, layout_of, list_files, list_items
from pipelines.readers.check import Check, note
from pipelines.readers.item import Item, Sample
from pipelines.readers.known import count_taken, find_archives, find_layouts, tell_archives, with_likely
from pipelines.readers.registration import measure_registration
from pipelines.readers.shape import make_row
from pipelines.readers.spread import spread_rows
from pipelines.report.sheet import colour_degrees
from pipelines.storage.errors import own_reason
from pipelines.storage.uri import Storage

SHOWN = 12
"""Rows on the picture."""


def check_data(
    images: str,
    layout: LayoutName | None = None,
    *,
    protocol: str = "",
    rows_per_person: int | None = None,
    sample: int = 24,
    picture: str = "",
    registration: bool = False,
    missing: str = "",
) -> Check:
    """Return what the folder `images` holds as `layout`; without one, as the layout that takes most of it.

    rows_per_person: at most so many of each are looked at, as `gather` takes them. sample: rows that are opened, from everywhere
    in the listing. picture: a PNG to write of some of them, a URI. registration: whether faces are looked for in both halves of
    these, to say how far they are apart. missing: a CSV to write of all rows that lack something, or that were refused when they
    were opened, a URI.

    Raises:
        UserError: the folder is missing or empty, is of no known layout, or not of the one that is named (which it looks like
            is said).
    """
    job, items, files = _list(images, layout, protocol)
    found = Check(job.images, job.layout, job.protocol, rows_per_person, archives=find_archives(files))
    if rows_per_person:
        items = list(spread_rows(items, rows_per_person, found.left))
    _count(found, items)
    shown = _open(found, job, _spread([item for item in items if not item.reason], sample))
    if registration:
        found.registration = measure_registration([opened for _, opened in shown])
    for uri, content in ((picture, lambda: _draw(shown)), (missing, found.table)):
        if uri:
            folder, _, name = uri.rpartition("/")
            Storage(folder or ".").write(name, content())
    return found


def _list(images: str, layout: LayoutName | None, protocol: str) -> tuple[GatherJob, list[Item], dict[str, int]]:
    """Return the job of a folder, its listing and its files."""

    def job_of(name: LayoutName) -> GatherJob:
        return GatherJob(layout=name, images=Storage(images).uri, protocol=protocol if name == "mcxface" else "")

    if layout:
        job = job_of(layout)
        files = list_files(job)
        try:
            return job, list(list_items(job, files)), files
        except UserError as error:
            raise with_likely(error, job, files) from None
    # The layout that takes most rows; of half a set none, and all are missing something.
    files = list_files(job_of("tfake"))
    fitting = find_layouts(job_of("mcxface"), files)
    if not fitting:
        raise UserError(
            f"{images} is of no known layout ({', '.join(name for name in LAYOUTS if name != 'plain')}); "
            f"gather it as plain, with --set columns.{tell_archives(files)}"
        )
    name = max(fitting, key=lambda one: (count_taken(fitting[one]), len(fitting[one])))
    # Of several protocols none is named: the listing raises ChooseProtocol, which says which there are.
    return job_of(name), fitting[name] or list(list_items(job_of(name), files)), files


def _count(found: Check, items: list[Item]) -> None:
    """Count rows, people and what is missing."""
    for item in items:
        if item.reason:
            note(found.missing, item.name, item.reason)
            continue
        both = bool(item.visible) and bool(item.thermal)
        found.halves["pairs" if both else "visible alone" if item.visible else "thermal alone"] += 1
        for half, file in (("visible", item.visible), ("thermal", item.thermal)):
            found.shown[half] |= {item.identity} if file else set()
        if role := json.loads(item.facts).get("role"):
            found.roles[role] += 1
        found.rows[item.split] += 1
        found.conditions[item.condition] += 1
        found.people.setdefault(item.split, set()).add(item.identity)
        found.each[item.split, item.identity] += bool(item.identity)
    # Nobody may be trained on and tested.
    who = [people - {""} for split, people in found.people.items() if split]
    found.shared = sorted(
        set().union(*(one & other for one, other in pairwise([*who, *who[:1]]))) if len(who) > 1 else set()
    )


def _spread(items: list[Item], count: int) -> list[Item]:
    """Return at most `count` items from everywhere in a list."""
    places = np.linspace(0, len(items) - 1, min(count, len(items))).astype(int)
    return [items[place] for place in np.unique(places)]


def _open(found: Check, job: GatherJob, items: list[Item]) -> list[tuple[Item, Sample]]:
    """Open rows, note what is in them, and return the first page of each that can be taken."""
    taken = []
    for item in items:
        found.opened += 1
        try:
            samples = layout_of(job).read_samples(item, job, None)
            make_row(samples[0], item, job)
        except (EnvironmentFault, FileNotFoundError) as error:
            note(found.refused, item.name, f"unreadable: {own_reason(error)}")  # raises what is wrong with the storage
            continue
        except (BadPicture, UserError) as error:
            note(found.refused, item.name, str(error))
            continue
        for one in samples:
            _measure(found, one)
        taken.append((item, samples[0]))
    return taken


def _measure(found: Check, sample: Sample) -> None:
    """Note the sizes, temperatures and points of a row."""
    for kind, values in (("visible", sample.visible), ("thermal", sample.thermal)):
        if values is not None:
            found.sizes[kind][f"{values.shape[1]} x {values.shape[0]} px"] += 1
    if sample.celsius is not None:
        known = sample.celsius[np.isfinite(sample.celsius)]
        found.degrees.append(known[:: max(1, len(known) // 4096)])
    found.grey += sample.grey is not None
    found.joined += sample.thermal is not None and sample.visible is not None and sample.visible_kind == "rgb"
    found.points.update(sample.points.keys())


def _draw(rows: list[tuple[Item, Sample]], side: int = 160) -> bytes:
    """Return a PNG of rows, four to a line: visible, thermal with its points; degrees in a palette of the row's own range."""
    if not rows:
        raise UserError("no row could be opened: there is nothing to draw")
    cells = [np.concatenate(_tiles(sample, side), axis=1) for _, sample in rows[:SHOWN]]
    cells += [np.zeros_like(cells[0])] * (-len(cells) % 4)
    return encode_png_rgb(np.concatenate([np.concatenate(cells[k : k + 4], axis=1) for k in range(0, len(cells), 4)]))


def _tiles(sample: Sample, side: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the visible and the thermal picture of a row, uint8 [side, side, 3], black where there is none."""
    pictures = list[np.ndarray]()
    for values in (sample.visible, sample.thermal):
        tile = np.zeros((side, side, 3), np.uint8)
        if values is not None:
            pixels = values
            if values.dtype != np.uint8:
                low, high = np.nanpercentile(values, (1, 99))
                pixels = colour_degrees(np.nan_to_num(values, nan=low), (low, max(high, low + 1)))
            pixels = np.repeat(pixels[..., None], 3, axis=2) if pixels.ndim == 2 else pixels
            scale = side / max(pixels.shape[:2])
            width, height = (max(1, round(length * scale)) for length in pixels.shape[1::-1])
            small = np.ascontiguousarray(cv2.resize(pixels, (width, height), interpolation=cv2.INTER_AREA))
            # Points lie on the visible picture, without it on the thermal one.
            zoom = np.array([width / sample.frame_shape[1], height / sample.frame_shape[0]])
            for points in sample.points.values():
                for x, y in points[np.isfinite(points).all(axis=1)] * zoom:
                    cv2.circle(small, (int(x), int(y)), 1, (0, 255, 0), -1)
            tile[:height, :width] = small
        pictures.append(tile)
    return pictures[0], pictures[1]
