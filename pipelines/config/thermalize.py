"""A thermalize job: which pictures to see in thermal, and how; its chain of stages, and its recipe."""

from dataclasses import replace
from typing import Any, Literal, Self

from pydantic import model_validator

from models.layers import Conditions, Draws, Layer, layers_of
from models.weights.bundle import Bundle, licence_of
from pipelines.config.chain import ChainSpec, FaceCut, faces_link, resolve_chain
from pipelines.config.persons import FacesJob
from pipelines.config.recipe import PARTITION_BYTES, Recipe, stage_recipe, stage_recipes

BRINGS = ("sample_id", "identity_id", "name", "view", "draw", "seed", "attempt", "partition", "noise_id", "visible",
          "content_box")  # fmt: skip
"""Columns that the plan brings to the chain, and `classes` where masks are given."""


class ThermalizeJob(FacesJob):
    """Visible pictures in, the same faces in thermal out. `faces` are the largest of a picture."""

    kind: Literal["thermalize"] = "thermalize"
    name: str = "thermalize"
    masks: str = ""
    """Folder of class pictures; without one the bundle's parser finds the classes (a Parquet brings its own `classes`)."""
    conditions: Conditions = ("warm", "cold")
    samples: Draws = 1
    layout: Literal["record", "tfake"] = "record"

    @model_validator(mode="after")
    def _check_faces(self) -> Self:
        if self.faces and self.masks:
            raise ValueError("faces are cut out of pictures without masks: drop --masks, or --faces")
        if self.faces and self.layout == "tfake":
            raise ValueError("--layout tfake pairs whole pictures pixel by pixel: use --layout record with --faces")
        return self

    @property
    def layers(self) -> tuple[Layer, ...]:
        """The thermal pictures of a photograph, in order."""
        return layers_of(self.conditions, self.samples)


def source_columns(has_classes: bool) -> tuple[str, ...]:
    """Return the columns that a plan brings; has_classes: its pictures come with classes."""
    return (*BRINGS, "classes") if has_classes else BRINGS


def chain_for(job: ThermalizeJob, bundle: Bundle, has_classes: bool) -> ChainSpec:
    """Return the stages of a thermalize job. Raises what `resolve_chain` raises; imports neither torch nor diffusers."""
    chain = resolve_chain(
        bundle,
        given=source_columns(has_classes and not job.faces),
        wanted=("thermal",),
        layers=job.layers,
        parts=job.parts,
        settings=job.settings,
    )
    return cut_faces(chain, bundle, job.faces, job.margin, job.size)


def cut_faces(chain: ChainSpec, bundle: Bundle, faces: int, margin: float, size: int) -> ChainSpec:
    """Return the chain with faces cut out before its first stage; the same chain for 0 faces."""
    return replace(chain, cut=FaceCut(faces_link(bundle), faces, margin, size)) if faces else chain


def recipe_for(job: ThermalizeJob, chain: ChainSpec, person: str = "") -> Recipe:
    """Return everything that may change a byte of what the job makes. person: what says who is shown."""
    source: dict[str, Any] = {"images": job.images, "masks": job.masks, "person": person, "layout": job.layout}
    if chain.cut:
        stage = stage_recipe(chain.cut.link).model_dump(mode="json")
        source |= {"faces": job.faces, "margin": job.margin, "found_by": stage}
    return Recipe(
        kind="thermalize",
        source=source,
        size=job.size,
        layers=job.layers,
        stages=stage_recipes(chain),
        encoding=job.encoding.model_dump(mode="json"),
        partition=max(1, min(job.partition_samples, PARTITION_BYTES // (job.size**2 * (4 + 2 * len(job.layers))))),
        licence=licence_of(link.part for link in chain.weighted),
    )
