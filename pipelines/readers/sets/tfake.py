"""T-FAKE: ID_thermal.png of 16 bit, in a folder per condition, beside FaceSynthetics' pictures, masks and 70 points.

0 to 65535 is 20 to 40 degrees Celsius; both ends are no reading. `annotations.pkl` beside the pictures holds 478 points of
some of them, in shares of the picture; it is converted once to `annotations.npz`, without running anything of it.
"""

from collections.abc import Iterator
from dataclasses import replace
from functools import lru_cache
from pathlib import PurePath

import numpy as np

from models.errors import UserError
from pipelines.config.gather import GatherJob
from pipelines.pictures.arrays import ArrayArchive
from pipelines.pictures.open import BadPicture
from pipelines.readers.item import Item, Sample, one_sample, open_samples
from pipelines.readers.sets import facesynthetics
from pipelines.readers.sets.unpickle import MAX_BYTES, arrays, npz_of
from pipelines.storage.uri import Storage

THERMAL, CONDITIONS, DENSE = "_thermal.png", ("warm", "cold"), 478
PICKLE, NPZ = "annotations.pkl", "annotations.npz"
CONVERTED = f"_plan/{NPZ}"


def list_items(job: GatherJob, files: dict[str, int], out: Storage | None) -> Iterator[Item]:
    """Yield a row for every picture and condition; pairs are found by the number that the names stand for."""
    # Dense points must be readable before a picture is opened.
    convert(job, files, out)
    thermal, twice = _list_thermal(job, files)
    # FaceSynthetics' rows, once for every condition that there is.
    for item in facesynthetics.list_items(job, files, out):
        conditions = thermal.pop(_pair_key(item.name), {})
        if not conditions:
            yield replace(item, reason=item.reason or f"no thermal picture: none is called {item.name}{THERMAL}")
        for condition, name in conditions.items():
            yield replace(item, condition=condition, thermal=name)
    # Thermal pictures that found no partner, or two of them.
    for conditions in thermal.values():
        for condition, name in conditions.items():
            lone = name.removesuffix(THERMAL)
            yield Item(lone, condition=condition, thermal=name, reason="no picture: FaceSynthetics' one is not there")
    for name in twice:
        yield Item(
            name.removesuffix(THERMAL), thermal=name, reason="duplicated: another file has its number and condition"
        )


def _list_thermal(job: GatherJob, files: dict[str, int]) -> tuple[dict[str, dict[str, str]], list[str]]:
    """Return number -> condition -> file, and files that repeat one; the folder says which condition a file is of."""
    names = [name for name in (Storage(job.thermal).list() if job.thermal else files) if name.endswith(THERMAL)]
    if not names:
        raise UserError(f"{job.thermal or job.images} holds no T-FAKE: no ID{THERMAL} (--set thermal=DIR says where)")
    # By number and condition; names of a number may differ in leading zeros.
    found, twice = dict[str, dict[str, str]](), list[str]()
    for name in sorted(names):
        condition = _find_condition(name, job)
        if not condition:
            raise UserError(
                f"{name}: no folder of its path says warm or cold (and not both); "
                "give one condition's folder as thermal and its name with --condition"
            )
        own = found.setdefault(_pair_key(name.removesuffix(THERMAL)), {})
        if condition in own:
            twice.append(name)
        else:
            own[condition] = name
    return {key: dict(sorted(own.items(), reverse=True)) for key, own in found.items()}, twice


def _find_condition(name: str, job: GatherJob) -> str:
    """Return the condition that the nearest folder of a path names, else the job's."""
    for folder in reversed((PurePath(job.thermal or job.images).name, *PurePath(name).parent.parts)):
        named = [condition for condition in CONDITIONS if condition in folder.lower()]
        if len(named) == 1:
            return named[0]
    return job.condition


def _pair_key(name: str) -> str:
    """Return what pairs names: the number, where the name is one."""
    last = PurePath(name).name
    return str(int(last)) if last.isdigit() else last


def convert(job: GatherJob, files: dict[str, int], out: Storage | None) -> None:
    """Write the dense points of `annotations.pkl` as an .npz into `out`, once; nothing without a pickle or beside an .npz."""
    # Nothing to do, or done already.
    if PICKLE not in files or NPZ in files:
        return
    images = Storage(job.images)
    if out is None:
        raise UserError(f"{images.shown(PICKLE)} must be converted once: `thermapair gather` does it")
    if out.exists(CONVERTED):
        return
    if files[PICKLE] > MAX_BYTES:
        raise UserError(f"{images.shown(PICKLE)} has {files[PICKLE]} bytes; the limit is {MAX_BYTES}")
    with images.fsspec.open(images.path(PICKLE), "rb") as file:
        found = arrays(file, images.path(PICKLE))
    out.write(CONVERTED, npz_of(found))


def read_samples(item: Item, job: GatherJob, out: Storage | None) -> list[Sample]:
    """Return FaceSynthetics' sample with the temperature of its condition and, where they are known, 478 points."""
    # The thermal picture lies on the visible one, pixel by pixel.
    (found,) = facesynthetics.read_samples(item, job, out)
    folder = Storage(job.thermal or job.images)
    found.celsius = one_sample(open_samples(None, (folder.read(item.thermal), item.thermal), "tfake")).celsius
    assert found.celsius is not None and found.visible is not None
    height, width = found.visible.shape[:2]
    if found.celsius.shape != (height, width):
        high, wide = found.celsius.shape
        raise BadPicture(f"mismatched: {wide} x {high} px thermal beside {width} x {height} px visible")
    # Dense points are shares of the picture.
    dense = _read_dense(item, job, out)
    if dense is not None:
        found.points[DENSE] = dense * np.array([width, height], np.float32)
    return [found]


def _read_dense(item: Item, job: GatherJob, out: Storage | None) -> np.ndarray | None:
    known = _open_dense(Storage(job.images).uri, out.uri if out else "")
    name = f"{PurePath(item.name).name}.png"
    if known is None or name not in known:
        return None
    points = known[name]
    if points.ndim != 2 or len(points) != DENSE or points.shape[1] < 2 or not np.isfinite(points).all():
        raise BadPicture(f"landmarks: {NPZ} has shape {points.shape} for {name}, {DENSE} points are needed")
    return points[:, :2].astype(np.float32)


@lru_cache(2)
def _open_dense(images: str, out: str) -> ArrayArchive | None:
    """Return the dense points, read member by member; those beside the pictures before converted ones."""
    for uri, name in ((images, NPZ), (out, CONVERTED)):
        if uri and (storage := Storage(uri)).exists(name):
            return ArrayArchive(storage.fsspec.open(storage.path(name), "rb"), storage.path(name))
    return None
