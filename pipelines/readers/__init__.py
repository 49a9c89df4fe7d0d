"""Data sets as they lie on disk, in layouts of their own: a file that is wrong is named and costs its row alone.

A layout is a module: its `list_items` says which files make a row, its `read_samples` opens them.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from types import ModuleType
from typing import Any, cast

from models.errors import EnvironmentFault, UserError
from pipelines.config.gather import GatherJob, LayoutName
from pipelines.pictures.open import BadPicture
from pipelines.readers import plain
from pipelines.readers.item import Item, Layout
from pipelines.readers.sets import (
    aachen,
    charlotte,
    facesynthetics,
    mcxface,
    sejong,
    sf_tl54,
    speakingfaces,
    tfake,
    tfw,
    tufts,
    vis_th,
)
from pipelines.readers.shape import make_row
from pipelines.readers.spread import spread_rows
from pipelines.run.faults import kind_of
from pipelines.storage.errors import own_reason
from pipelines.storage.listing import list_sizes
from pipelines.storage.uri import Storage

LAYOUTS: dict[LayoutName, ModuleType] = {
    "facesynthetics": facesynthetics,
    "tfake": tfake,
    "sejong": sejong,
    "charlotte": charlotte,
    "speakingfaces": speakingfaces,
    "sf-tl54": sf_tl54,
    "tfw": tfw,
    "tufts": tufts,
    "vis-th": vis_th,
    "aachen": aachen,
    "mcxface": mcxface,
    "plain": plain,
}


THUMBNAILS = {"thumb", "thumbs", "thumbnail", "thumbnails"}
"""Folders of small copies that users of a published set keep beside its pictures."""


def layout_of(job: GatherJob) -> Layout:
    """Return the module that reads a job's layout."""
    return cast(Layout, LAYOUTS[job.layout])


def list_files(job: GatherJob) -> dict[str, int]:
    """Return the files below a job's folder with their sizes; what runs of ours keep there (_*, manifest) is left out, and
    thumbnails of a published set.

    Raises UserError for a folder that is not there or empty.
    """
    images = Storage(job.images)
    if not images.exists():
        raise UserError(f"{images.uri} does not exist (--images names the folder of a data set).")
    files = {name: size for name, size in list_sizes(images).items() if not name.startswith("_")}
    if job.layout != "plain":
        files = {name: files[name] for name in files if THUMBNAILS.isdisjoint(name.lower().split("/")[:-1])}
    if not files:
        raise UserError(f"{images.uri} is empty: no file is there to gather.")
    return files


def list_items(
    job: GatherJob, files: dict[str, int], out: Storage | None = None, left: Counter[str] | None = None
) -> Iterator[Item]:
    """Yield the rows to be of a listing, at most `job.rows_per_person` of each person (see `spread_rows`, which counts in `left`
    what it leaves out) and `job.limit` in all."""
    found = layout_of(job).list_items(job, files, out)
    if job.rows_per_person:
        found = spread_rows(found, job.rows_per_person, Counter() if left is None else left)
    for number, item in enumerate(found):
        if number == job.limit:
            return
        yield item


def read_rows(item: Item, job: GatherJob, out: Storage | None = None) -> list[dict[str, Any]]:
    """Return an item's rows, one for each page, their arrays not yet encoded (see `rows.encode`).

    The first has the item's name, the others are NAME#1, NAME#2 ... Raises BadPicture with its reason for a bad one.
    """
    if item.reason:
        raise BadPicture(item.reason)
    try:
        samples = layout_of(job).read_samples(item, job, out)
        names = [item.name, *(f"{item.name}#{page}" for page in range(1, len(samples)))]
        return [make_row(sample, replace(item, name=name), job) for sample, name in zip(samples, names, strict=True)]
    except BadPicture:
        raise
    except Exception as error:
        if isinstance(error, EnvironmentFault | FileNotFoundError):
            raise BadPicture(own_reason(error)) from None
        if kind_of(error) != "row" and getattr(error, "exit_code", 0) != UserError.exit_code:
            raise  # storage, memory or disk failed, not the row
        raise BadPicture(f"cannot be read: {error}") from None
