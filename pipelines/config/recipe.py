"""The recipe: everything that a run's stages are given, resolved and written out. Its digest is the run's identity.

Beside it stands the extent: how much is made (counts, limits, ceilings, the run's name). It is in no digest and no row, so
a run can be extended.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from models import stages
from models.config import digest_of
from models.errors import UserError
from models.layers import Layer
from models.stages import Flow
from models.weights.bundle import Bundle, Part, digests, small_files
from pipelines.config.captions import CHAT, DESCRIBE, Captions, vllm_options
from pipelines.config.chain import ChainSpec, Link, chain_spec

VERSION = 3
"""Of the layout of outputs: what `_plan` holds and what a row is."""
PARTITION_BYTES = 256 * 2**20
"""Bytes that a partition's columns may take, uncompressed."""


class StageRecipe(BaseModel):
    """One stage as it is run."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    stage: str
    part: str
    kind: str
    weights: dict[str, str]
    """name -> digest"""
    options: dict[str, Any]
    settings: dict[str, Any]
    dtype: str
    batch: int
    redraw_batch: int


class Recipe(BaseModel):
    """What may change a byte of the output."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    version: int = VERSION
    kind: Literal["generate", "thermalize", "translate", "gather", "world", "embed", "export", "merge"]
    seed: int = 0
    source: dict[str, Any]
    """How the source is read; what was read is in the plan's pieces."""
    size: int
    """Side of the pictures in pixels."""
    layers: tuple[Layer, ...]
    stages: tuple[StageRecipe, ...]
    captions: dict[str, Any] = {}
    """Who writes captions and with what; empty where nobody does."""
    encoding: dict[str, Any]
    partition: int
    """People, or pictures, of a partition."""
    chunk: int = 0
    """Samples whose captions share a file, at most."""
    licence: str
    """The strictest of the weights'."""

    @property
    def digest(self) -> str:
        """16 hex digits that stand for all of it."""
        return digest_of(self.model_dump(mode="json"))


def stage_recipes(chain: ChainSpec) -> tuple[StageRecipe, ...]:
    """Return the stages of a chain with options, settings and weights written out."""
    return tuple(stage_recipe(link) for link in chain.links)


def stage_recipe(link: Link) -> StageRecipe:
    """Return one stage of a chain with options, settings and weights written out."""
    options = stages.parse_settings(
        stages.import_settings(link.package).Options, link.part.options, f"{link.name}.options"
    )
    return StageRecipe(
        stage=link.stage,
        part=link.name,
        kind=link.part.kind,
        weights=digests(link.part, link.folder),
        options=options.model_dump(mode="json"),
        settings=link.settings.model_dump(mode="json"),
        dtype=link.part.dtype,
        batch=link.part.batch,
        redraw_batch=link.part.redraw_batch or link.part.batch,
    )


def caption_recipe(part: Part | None, folder: str, captions: Captions) -> dict[str, Any]:
    """Return what captions are written with: a language model's weights and options, a server's address, model and options,
    or nothing more for the grammar.
    """
    source: dict[str, Any] = {"source": captions.backend}
    if captions.mode != DESCRIBE or captions.also:
        source |= {"mode": captions.mode, "also": captions.also}
    if captions.backend == CHAT:
        server = {"url": captions.url.rstrip("/"), "model": captions.model}
        return {**source, **server, "options": captions.options.model_dump(mode="json")}
    if part is None:
        return source
    options = vllm_options(part).model_dump(mode="json", exclude={"read"})  # a reading is written out in the job
    return {
        **source,
        "kind": part.kind,
        "weights": digests(part, folder),
        "options": options,
        "dtype": part.dtype,
    }


def chain_of(recipe: Recipe, bundle: Bundle, given: Sequence[str]) -> ChainSpec:
    """Return the chain that `recipe` says, with the settings that it has written out, on the weights of `bundle`.

    Raises:
        UserError: a stage or a setting of the recipe that this version does not know.
    """
    links = []
    for one in recipe.stages:
        # The stage's package and settings, as the recipe has them written out.
        part = bundle.parts.get(one.part) or Part(kind=one.kind, stage=one.stage)
        package = stages.package_of(one.stage, one.kind, f"the recipe's {one.part}")
        kind = stages.import_settings(package)
        settings = stages.parse_settings(kind.Settings, one.settings, f"the recipe's {one.part}.settings")
        # The part as it was then: the bundle has the weights, the recipe everything else.
        part = part.model_copy(
            update={"options": one.options, "batch": one.batch, "redraw_batch": one.redraw_batch, "dtype": one.dtype}
        )
        options = stages.parse_settings(kind.Options, one.options, f"the recipe's {one.part}.options")
        flow: Flow = kind.columns(options, settings, small_files(part, bundle.folder))
        links.append(Link(one.stage, one.part, package, part, bundle.folder, settings, flow))
    return chain_spec(links, given)


def check_same(old: Mapping[str, Any], new: Recipe, where: str) -> None:
    """Raise a UserError, by name, where the recipe `old` of an output is not the `new` one."""
    if old.get("version") != VERSION:
        raise UserError(
            f"{where} was made by another version (layout {old.get('version', 1)}, this is {VERSION}): go on with the "
            "version that began it, or choose another --out."
        )
    changed = differences(name_stages(old), name_stages(new.model_dump(mode="json")))
    if changed:
        raise UserError(
            f"{where} belongs to another run; what differs: {', '.join(changed[:8])}"
            f"{f' and {len(changed) - 8} more' if len(changed) > 8 else ''}. Choose another --out, or run as before."
        )


def name_stages(recipe: Mapping[str, Any]) -> dict[str, Any]:
    """Return a recipe with its stages by name, so that a difference names the stage."""
    found = dict(recipe)
    found["stages"] = {one["stage"]: {k: v for k, v in one.items() if k != "stage"} for one in recipe["stages"]}
    return found


def differences(old: Any, new: Any, key: str = "") -> list[str]:
    """Return `key: old -> new` for every leaf in which two nested values differ."""
    if isinstance(old, dict) and isinstance(new, dict):
        names = sorted(old.keys() | new.keys())
        return [d for n in names for d in differences(old.get(n), new.get(n), f"{key}.{n}".lstrip("."))]
    return [] if old == new else [f"{key}: {old} -> {new}"]
