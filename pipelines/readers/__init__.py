"""Data sets as they lie on disk, read as a stream of rows: a file that is wrong is named and left out.

    for row in rows(job, refused): ...        # without Ray; never more than one row in memory

A layout is a module: `items` says which files make a row, `sample` opens them. `thermapair gather` makes shards of rows.
"""

from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any, cast

from models.errors import EnvironmentFault, UserError
from pipelines.config.gather import GatherJob, LayoutName
from pipelines.pictures.open import BadPicture
from pipelines.plan.photos import sizes
from pipelines.readers import charlotte, facesynthetics, plain, sejong, tfake
from pipelines.readers.item import Item, Layout
from pipelines.readers.shape import shaped
from pipelines.run.faults import kind_of
from pipelines.storage.uri import Storage, own_reason

LAYOUTS: dict[LayoutName, ModuleType] = {
    "facesynthetics": facesynthetics,
    "tfake": tfake,
    "sejong": sejong,
    "charlotte": charlotte,
    "plain": plain,
}


def layout_of(job: GatherJob) -> Layout:
    """Return the module that reads a job's layout."""
    return cast(Layout, LAYOUTS[job.layout])


def listed(job: GatherJob) -> dict[str, int]:
    """Return the files below a job's folder with their sizes; what runs of ours keep there (_*, manifest) is left out.

    Raises UserError for a folder that is not there or empty.
    """
    images = Storage(job.images)
    if not images.exists():
        raise UserError(f"{images.uri} does not exist (--images names the folder of a data set).")
    files = {name: size for name, size in sizes(images).items() if not name.startswith("_")}
    if not files:
        raise UserError(f"{images.uri} is empty: no file is there to gather.")
    return files


def items(job: GatherJob, files: dict[str, int], out: Storage | None = None) -> Iterator[Item]:
    """Yield the rows to be of a listing, at most `job.limit`."""
    for number, item in enumerate(layout_of(job).items(job, files, out)):
        if number == job.limit:
            return
        yield item


def row_of(item: Item, job: GatherJob, out: Storage | None = None) -> dict[str, Any]:
    """Return one row, its arrays not yet encoded (see `rows.encode`). Raises BadPicture with its reason for a bad one."""
    if item.reason:
        raise BadPicture(item.reason)
    try:
        return shaped(layout_of(job).sample(item, job, out), item, job)
    except BadPicture:
        raise
    except FileNotFoundError as error:
        raise BadPicture(f"gone: {error}") from None
    except Exception as error:
        if isinstance(error, EnvironmentFault):
            raise BadPicture(own_reason(error)) from None
        if kind_of(error) != "row" and getattr(error, "exit_code", 0) != UserError.exit_code:
            raise  # storage, memory or disk failed, not the row
        raise BadPicture(f"cannot be read: {error}") from None


def rows(
    job: GatherJob, refused: Callable[[str, str], None] = lambda name, reason: None, out: Storage | None = None
) -> Iterator[dict[str, Any]]:
    """Yield the rows of a data set one by one; `refused` is told (name, reason) of every row that cannot be taken."""
    for item in items(job, listed(job), out):
        try:
            yield row_of(item, job, out)
        except BadPicture as error:
            refused(item.name, str(error))
