"""A thermalize job: which pictures to see in thermal, and how; its chain of stages, and its recipe."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from models.layers import Conditions, Draws, Layer, layers_of
from models.weights.bundle import Bundle, licence_of
from pipelines.config.chain import ChainSpec, resolve_chain
from pipelines.config.job import Encoding
from pipelines.config.persons import parse_person
from pipelines.config.recipe import PARTITION_BYTES, Recipe, stage_recipes

BRINGS = ("sample_id", "identity_id", "name", "view", "draw", "seed", "attempt", "partition", "noise_id", "visible",
          "content_box")  # fmt: skip
"""Columns that the plan brings to the chain, and `classes` where masks are given."""


class ThermalizeJob(BaseModel):
    """Visible pictures in, the same faces in thermal out."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["thermalize"] = "thermalize"
    name: str = "thermalize"
    images: str
    masks: str = ""
    """Folder of class pictures; without one the bundle's parser finds the classes (a Parquet brings its own `classes`)."""
    person: str = ""
    """Who is shown: `folder:LEVEL`, `pattern:REGEX` on the path, or `column:NAME` of a Parquet (its identity_id by default)."""
    conditions: Conditions = ("warm", "cold")
    samples: Draws = 1
    size: int = Field(ge=32, le=4096, multiple_of=32)
    """Side of the thermal picture in pixels."""
    layout: Literal["record", "tfake"] = "record"
    encoding: Encoding = Encoding()
    parts: dict[str, str] = {}
    settings: dict[str, dict[str, Any]] = {}
    partition_samples: int = Field(default=64, ge=1)
    limit: int | None = Field(default=None, ge=1)

    @field_validator("person")
    @classmethod
    def _check_person(cls, value: str) -> str:
        parse_person(value)
        return value

    @property
    def layers(self) -> tuple[Layer, ...]:
        """The thermal pictures of a photograph, in order."""
        return layers_of(self.conditions, self.samples)


def source_columns(has_classes: bool) -> tuple[str, ...]:
    """Return the columns that a plan brings; has_classes: its pictures come with classes."""
    return (*BRINGS, "classes") if has_classes else BRINGS


def chain_for(job: ThermalizeJob, bundle: Bundle, has_classes: bool) -> ChainSpec:
    """Return the stages of a thermalize job. Raises what `resolve_chain` raises; imports neither torch nor diffusers."""
    return resolve_chain(
        bundle,
        given=source_columns(has_classes),
        wanted=("thermal",),
        layers=job.layers,
        parts=job.parts,
        settings=job.settings,
    )


def recipe_for(job: ThermalizeJob, chain: ChainSpec, person: str = "") -> Recipe:
    """Return everything that may change a byte of what the job makes. person: what says who is shown."""
    return Recipe(
        kind="thermalize",
        source={"images": job.images, "masks": job.masks, "person": person, "layout": job.layout},
        size=job.size,
        layers=job.layers,
        stages=stage_recipes(chain),
        encoding=job.encoding.model_dump(mode="json"),
        partition=max(1, min(job.partition_samples, PARTITION_BYTES // (job.size**2 * (4 + 2 * len(job.layers))))),
        licence=licence_of(link.part for link in chain.links),
    )
