"""A generate job: what to make. Everything here may change the output, nothing here says where it runs."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from models.attributes import ATTRIBUTES, check_words
from models.config import read_config
from models.errors import UserError
from models.gates.settings import Gates
from models.layers import Conditions, Draws, Layer, layers_of
from pipelines.config.captions import LOOK, PARSE, Captions
from pipelines.config.views import SAID, Views

JOBS = Path(__file__).resolve().parent.parent / "jobs"


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Identities(_Section):
    """The people: where their embeddings come from, and how many are taken."""

    source: str = "reference"
    """`reference`: sampled from the bundle's distribution of embeddings; else the URI of a Parquet of embeddings."""
    count: int | None = Field(default=None, ge=1)
    """How many: required for `reference`; of a Parquet the first so many, all by default. More extend a run."""
    minimum_angle: float = Field(default=50.0, ge=0, le=90)
    """Degrees between any two sampled identities."""
    sampling: Literal["rejection", "packing"] = "rejection"
    """How sampled people are kept apart: whoever is too near to one before is left out, or all are moved apart on the sphere."""
    words: dict[str, str] = {}
    """Identity words of every sampled person, in the place of those that are estimated from the embedding."""

    @field_validator("words")
    @classmethod
    def _check_words(cls, value: dict[str, str]) -> dict[str, str]:
        for name, word in value.items():
            check_words(name, [word])
            if ATTRIBUTES[name][0] != "identity":
                raise ValueError(f"{name} is not of a person but of a view: name it in views.attributes")
        return value


class Encoding(_Section):
    """How pictures are stored. Thermal pictures, classes and masks are always PNG."""

    visible: Literal["jpeg", "png"] = "jpeg"


class Stop(_Section):
    """Ends a run that goes wrong from the start, or that has made or spent enough; changes no row."""

    rejected_share: float = Field(default=0.9, gt=0, le=1)
    """Share of rejected samples among the first `first_samples` finished ones above which the run stops."""
    first_samples: int = Field(default=64, ge=1)
    pairs: int | None = Field(default=None, ge=1)
    """Pairs in the output at which the run stops."""
    hours: float | None = Field(default=None, gt=0)
    """Hours of work, of all launches together, after which it stops."""
    cost: float | None = Field(default=None, gt=0)
    """What these hours may cost, at the profile's `price`."""
    look: int = Field(default=2, ge=0)
    """Partitions after which a first report is written; 0 for none."""
    look_first: bool | None = None
    """Whether further partitions wait for it, so that pools do not grow before; by default where they may grow far."""


class GenerateJob(_Section):
    """Identities in, paired visible and thermal faces out."""

    kind: Literal["generate"] = "generate"
    name: str
    description: str = ""
    seed: int = Field(default=0, ge=0)
    identities: Identities
    views: Views = Views()
    conditions: Conditions = ("warm", "cold")
    """Words that the thermal part knows, or rooms in degrees Celsius where it takes them."""
    samples: Draws = 1
    """Thermal pictures of each condition."""
    captions: Captions = Captions()
    prompt: str = Field(default="", max_length=600)
    """What to make in somebody's own words: read into attributes, view and conditions (captions.mode parse)."""
    parts: dict[str, str] = {}
    """stage -> part, where two parts of the bundle make one stage."""
    settings: dict[str, dict[str, Any]] = {}
    """stage -> what it is asked for beyond its part's defaults (steps, guidance, ...)."""
    gates: Gates = Gates()
    encoding: Encoding = Encoding()
    stop: Stop = Stop()
    partition_samples: int = Field(default=64, ge=1)
    """Samples of one partition, the unit of commit and retry, at most (but always whole identities)."""
    limit: int | None = Field(default=None, ge=1)
    """Make only the first so many samples of the plan; a larger one goes on from there."""

    @model_validator(mode="before")
    @classmethod
    def _read_prompt(cls, value: object) -> object:
        """A prompt is there to be read, so it means the mode; a mode that does not read it is refused."""
        if not isinstance(value, dict) or not str(value.get("prompt") or "").strip():
            return value
        captions = value.get("captions", {})
        captions = {"backend": captions} if isinstance(captions, str) else captions
        return {**value, "captions": {"mode": PARSE, **captions}} if isinstance(captions, dict) else value

    @model_validator(mode="after")
    def _check_prompt(self) -> "GenerateJob":
        if self.captions.mode == PARSE and not self.prompt.strip():
            raise ValueError(
                "captions.mode parse reads the job's prompt: give one, as in prompt: an old man in a cold room"
            )
        if self.prompt.strip() and self.captions.mode != PARSE:
            raise ValueError(
                f"captions.mode {self.captions.mode} does not read a prompt: take parse, or leave out the prompt"
            )
        return self

    @model_validator(mode="after")
    def _check_pictures(self) -> "GenerateJob":
        if self.captions.mode == LOOK and self.identities.source == "reference":
            raise ValueError(
                "captions.mode look looks at pictures of people, and nobody has one of sampled people: name a Parquet with a "
                "column `reference` in identities.source"
            )
        return self

    @model_validator(mode="after")
    def _check_count(self) -> "GenerateJob":
        if self.identities.source == "reference" and self.identities.count is None:
            raise ValueError("identities.count is needed when identities are sampled from the reference distribution")
        return self

    @property
    def layers(self) -> tuple[Layer, ...]:
        """The thermal pictures of a sample, in order."""
        return layers_of(self.conditions, self.samples)


def load_job(name: str, edits: Sequence[str] = ()) -> GenerateJob:
    """Return the job called `name` (a file of `pipelines/jobs` or the path of a YAML file) with `edits` applied.

    An edit that names other people means all of them: the file's number of people was for its own; so does a grid or list
    of views.
    """
    keys = {edit.partition("=")[0]: edit.partition("=")[2] for edit in edits}
    if keys.get("identities.source", "reference") != "reference" and "identities.count" not in keys:
        edits = [*edits, "identities.count=null"]
    grids = [key for key, value in keys.items() if key.startswith("views.") and value.lstrip().startswith("[")]
    if {key.partition(".")[2] for key in grids} & {*SAID, "each"} and "views.per_identity" not in keys:
        edits = [*edits, "views.per_identity=null"]
    return read_config(GenerateJob, find_yaml(JOBS, name, "job"), edits)


def find_yaml(folder: Path, name: str, what: str) -> Path:
    """Return the YAML file that `name` means: one of `folder`, or a path."""
    for choice in (folder / f"{name}.yaml", Path(name)):
        if choice.is_file():
            return choice
    known = ", ".join(sorted(path.stem for path in folder.glob("*.yaml")))
    raise UserError(f"no {what} {name!r}: name one of {known}, or the path of a YAML file.")
