"""Which package makes a stage: stage -> kind -> package, strings only, so that reading this imports nothing.

A package has `settings.py`, quick to import, to check a job with, and `stage.py`, which imports torch, to run one:

    # settings.py
    WEIGHTS: dict[str, bool]             # names of the weights it takes -> whether it cannot do without
    class Options(BaseModel)             # how the part is loaded
    class Settings(BaseModel)            # what a job or a request may choose; the part's own are the defaults
    def columns(options, settings, files) -> Flow
                                         # files: weight name -> `Files`, the small JSON beside the weights

    # stage.py
    class Stage:
        def __init__(self, weights: dict[str, Path], options, *, dtype: str, threads: int)
        def __call__(self, rows: Columns, settings, batch: int) -> Columns      # the columns it writes, row by row

Some offer more: `settings.py` of faces `reference` and `recogniser`, of a thermal kind that works by words
`conditions(files)`, of a visible kind that takes angles of the head `takes_pose(files)`, of a kind whose scans have several
kernels `open_scans(options, files)`, those for which `options.kernel` leaves it open which; `stage.py` of faces `find` and
`embed`, of landmarks `at_boxes`, for pictures of any size.

`module:Name` in place of a package is a class with all five as attributes, in one file that is quick to import.

Two fields of a `Settings` are filled by the job and never set by hand: `layers` (its conditions and draws) and `size`
(side of the bundle's pictures). A setting that a kind does not have is an error, never dropped.
"""

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

from pydantic import BaseModel, ConfigDict, ValidationError

from models.columns import Columns
from models.errors import UserError

STAGES: dict[str, dict[str, str]] = {
    "portrait": {"latent-diffusion": "models.visible.portrait", "null": "models.null.kinds:Portrait"},
    "visible": {
        "latent-diffusion": "models.visible.sd",
        "faceclip-sdxl": "models.visible.faceclip",
        "null": "models.null.kinds:Visible",
    },
    "parser": {"unet": "models.parser", "null": "models.null.kinds:Parser"},
    "thermal": {
        "unet": "models.thermal.unet",
        "room-unet": "models.thermal.room_unet",
        "latent-diffusion": "models.thermal.latent",
        "null": "models.null.kinds:Thermal",
    },
    "translate": {"latent-diffusion": "models.translation", "null": "models.null.kinds:Translate"},
    "faces": {"insightface": "models.faces", "null": "models.null.kinds:Faces"},
    "gates": {"limits": "models.gates"},
    "landmarks": {"mobilenet": "models.landmarks", "null": "models.null.kinds:Landmarks"},
}
"""In the order that breaks ties where columns leave it open. Captions have a table of their own: `pipelines/captions`."""
PARTLESS = {"gates": "limits"}
"""Stages that need no part in a bundle, and the kind that makes them."""
CAPTIONS = "captions"
BY_JOB = ("layers", "size")
"""Fields of a `Settings` that come from the job and the bundle."""

Dtype = Literal["float32", "bfloat16", "float16"]


@dataclass(frozen=True)
class Flow:
    """What a stage does with columns: those it needs, those it looks at where they are there, those it writes.

    compares: of those it needs, the ones by which it compares rows with each other, see `Comparing`; none for most stages.
    """

    reads: tuple[str, ...]
    writes: tuple[str, ...]
    reads_if_there: tuple[str, ...] = ()
    compares: tuple[str, ...] = ()


class NoOptions(BaseModel):
    """A part or a stage without anything to choose."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Files(Protocol):
    """The small files of one set of weights, read where they lie."""

    def __contains__(self, name: str) -> bool: ...

    def json(self, name: str) -> dict[str, Any]: ...


class SettingsModule(Protocol):
    """What `settings.py` of a package offers."""

    WEIGHTS: Mapping[str, bool]
    Options: type[BaseModel]
    Settings: type[BaseModel]

    def columns(self, options: Any, settings: Any, files: Mapping[str, Files]) -> Flow: ...


class Stage(Protocol):
    """What `stage.py` of a package offers. A stage returns as many rows as it gets, and only the columns it writes."""

    def __init__(self, weights: dict[str, Path], options: Any, *, dtype: str, threads: int) -> None: ...

    def __call__(self, rows: Columns, settings: Any, batch: int) -> Columns:
        """Return what `rows` become: `sample_id`, the columns that the stage reads, and of those that it looks at where they
        are there, those that are. batch: rows of one forward pass; shorter ones are padded to it, so that neighbours never
        change a row."""


class Comparing(Stage, Protocol):
    """A stage whose flow has `compares`. A batch of rows holds a part of a person's alone, so what all of them decide is a step
    of its own."""

    def compare(self, rows: Columns, settings: Any) -> Columns:
        """Return the columns it writes of `rows` once more, after all batches: the rows of one partition, or of one request, that
        none has rejected, what was accepted at an earlier attempt first. rows: `compares`, and what was written of them."""


def package_of(stage: str, kind: str, where: str) -> str:
    """Return the package that makes `stage` by `kind`. Raises a UserError that begins with `where` and names what is known."""
    if stage not in STAGES:
        raise UserError(f"{where}: no stage {stage!r}; known: {', '.join([*STAGES, CAPTIONS])}.")
    if kind not in STAGES[stage]:
        raise UserError(f"{where}: no kind {kind!r} of stage {stage}; known: {', '.join(STAGES[stage])}.")
    return STAGES[stage][kind]


def import_settings(package: str) -> SettingsModule:
    """Return `settings.py` of a package, or the class that stands for it; imports no torch."""
    return _import(package, "settings")


def import_stage(package: str) -> Callable[..., Stage]:
    """Return the class that makes the stage of a package; imports what it computes with."""
    return _import(package, "stage").Stage


def _import(package: str, module_name: str) -> Any:
    """Return a module of a package, or the class that stands for both of its modules. A UserError where there is none."""
    module, _, name = package.partition(":")
    try:
        if name:
            return getattr(importlib.import_module(module), name)
        return importlib.import_module(f"{package}.{module_name}")
    except (ModuleNotFoundError, AttributeError) as error:
        if isinstance(error, ModuleNotFoundError) and not f"{package}.{module_name}".startswith(str(error.name)):
            raise  # the package is there, and something that it imports is not
        raise UserError(
            f"models/stages.py names {package!r}, and there is no such package or class: {error}."
        ) from None


def parse_settings(model: type[BaseModel], values: Mapping[str, Any], where: str) -> Any:
    """Return `values` as `model`, a kind's `Settings` or `Options`.

    Raises a UserError that names every wrong key after `where`, what is wrong with it and which are known.
    """
    try:
        return model.model_validate(dict(values))
    except ValidationError as error:
        known = [name for name in model.model_fields if name not in BY_JOB]
        lines = []
        for item in error.errors():
            key = ".".join([where, *map(str, item["loc"])])
            if item["type"] == "extra_forbidden":
                lines.append(f"{key}: unknown key; known here: {', '.join(known) or 'none'}")
            else:
                lines.append(f"{key}: {item['msg'].removeprefix('Value error, ')}")
        raise UserError("; ".join(lines)) from None
