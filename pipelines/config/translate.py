"""A translate job: which thermal pictures to see as visible ones, and how; its chain of stages, and its recipe."""

from dataclasses import replace
from typing import Any, Literal

from pydantic import Field

from models.layers import Layer
from models.temperature import Unit
from models.weights.bundle import Bundle, Part, licence_of, small_files
from pipelines.config.chain import ChainSpec, FaceCut, Frames, landmarks_link, resolve_chain
from pipelines.config.persons import FacesJob
from pipelines.config.recipe import PARTITION_BYTES, Recipe, stage_recipe, stage_recipes

BRINGS = ("sample_id", "identity_id", "name", "view", "draw", "seed", "attempt", "partition", "noise_id", "thermal",
          "thermal_kind", "content_box")  # fmt: skip
"""Columns that the plan brings to the chain."""
LAYER = Layer("measured")
"""The one layer of a sample: the thermal picture that came."""
GREY = (20.0, 36.0)
"""Degrees Celsius for which grey levels 0 and 255 are taken where the translator does not say."""


class TranslateJob(FacesJob):
    """Thermal pictures in, the same faces in visible light out. `faces` are the surest of a frame."""

    kind: Literal["translate"] = "translate"
    name: str = "translate"
    unit: Unit = "centikelvin"
    """Of pictures of more than 8 bits. Grey levels of 8 bits are taken as they are, and marked."""
    palette: Literal["white-hot", "any"] = "white-hot"
    """`any` also takes grey pictures whose middle is darker than their border, as black-hot ones are."""
    samples: int = Field(default=1, ge=1, le=64)
    """Translations of each picture."""

    @property
    def masks(self) -> str:
        """No classes are read."""
        return ""

    @property
    def layout(self) -> str:
        """The record's is the only one."""
        return "record"


def chain_for(job: TranslateJob, bundle: Bundle) -> ChainSpec:
    """Return the stages of a translate job. Raises what `resolve_chain` raises; imports neither torch nor diffusers."""
    chain = resolve_chain(bundle, given=BRINGS, wanted=("translated",), parts=job.parts, settings=job.settings)
    if not job.faces:
        return chain
    frames = Frames(job.unit, job.palette, job.samples, grey_levels(chain))
    return replace(chain, cut=FaceCut(landmarks_link(bundle), job.faces, job.margin, job.size, frames))


def grey_levels(chain: ChainSpec) -> tuple[float, float]:
    """Return the degrees Celsius for which the translator takes grey levels 0 and 255."""
    link = chain.link("translate")
    return grey_of(link.part, link.folder)


def grey_of(part: Part, folder: str) -> tuple[float, float]:
    """Return the same of a translator's part, which lies in a bundle's folder."""
    files = small_files(part, folder)
    if "model" not in files or "translation.json" not in files["model"]:
        return GREY
    low, high = files["model"].json("translation.json").get("celsius", GREY)
    return float(low), float(high)


def recipe_for(job: TranslateJob, chain: ChainSpec, person: str = "") -> Recipe:
    """Return everything that may change a byte of what the job makes. person: what says who is shown."""
    unit = job.unit if isinstance(job.unit, str) else job.unit.model_dump(mode="json")
    faces: dict[str, Any] = {}
    if chain.cut:
        found_by = stage_recipe(chain.cut.link).model_dump(mode="json")
        faces = {"faces": job.faces, "margin": job.margin, "found_by": found_by}
    return Recipe(
        kind="translate",
        source={
            "images": job.images,
            "unit": unit,
            "palette": job.palette,
            "person": person,
            "samples": job.samples,
            "grey": list(grey_levels(chain)),
            **faces,
        },
        size=job.size,
        layers=(LAYER,),
        stages=stage_recipes(chain),
        encoding=job.encoding.model_dump(mode="json"),
        partition=max(1, min(job.partition_samples, PARTITION_BYTES // (job.size**2 * 5 * job.samples))),
        licence=licence_of(link.part for link in chain.weighted),
    )
