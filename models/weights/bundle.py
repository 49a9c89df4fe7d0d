"""A bundle: named parts, each the model of one stage with its weights, whose licence and digest travel along.

The file is one of the repository's, a path or a URI. A set of weights is a folder beside it, an absolute path, a URI
(`s3://...`) or `hub:owner/name@revision` with a full commit.
"""

import json
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, field_validator, model_validator

from models import stages
from models.config import parse_config, parse_yaml, read_config
from models.errors import EnvironmentFault, UserError
from models.stages import CAPTIONS, STAGES, Dtype
from models.weights import store
from models.weights.store import ROOT, SmallFiles, locate, remote

LICENCES = ("unlicensed-synthetic", "cc0-1.0", "mit", "bsd-3-clause", "apache-2.0", "openrail++", "openrail",
            "llama", "cc-by-4.0", "cc-by-nc-4.0", "research-only")  # fmt: skip
"""From the freest to the strictest; a row carries the strictest of its models."""
PART_NAME = re.compile(r"[^\W\d][\w-]*$")
"""What an edit may give to choose a part: a word, where a part itself is a mapping."""
MAIN = "model"
"""Name of the weights of a part that has one set of them."""


class Weights(BaseModel):
    """One sealed folder, and what is known of it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    uri: str
    revision: str = ""
    """Full commit of a `hub:` id that names none."""
    digest: str = ""
    """What its bytes have to be, as `thermapair seal` prints it; any by default."""
    licence: str = ""

    @property
    def address(self) -> str:
        """The URI with its revision."""
        pinned = self.uri.startswith("hub:") and self.revision and "@" not in self.uri
        return f"{self.uri}@{self.revision}" if pinned else self.uri


class Part(BaseModel):
    """The model of one stage."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    stage: str = ""
    """Which stage it makes; the part's own name by default."""
    kind: str
    weights: dict[str, Weights] = {}
    """One URI, or several by name (`{model: ..., vae: ...}`): a URI or a mapping with uri, revision, digest, licence."""
    licence: str = ""
    """Of weights that name none of their own."""
    dtype: Dtype = "float32"
    batch: int = Field(default=8, ge=1)
    """Rows of one forward pass. Fixed: shorter batches are padded, so that neighbours never change a row."""
    redraw_batch: int | None = Field(default=None, ge=1)
    """The same for samples that are drawn again; `batch` by default."""
    options: dict[str, Any] = {}
    """How the part is loaded, as its kind has them."""
    settings: dict[str, Any] = {}
    """What a job may choose, as its kind has it: this part's defaults."""

    @field_validator("kind", mode="before")
    @classmethod
    def _null(cls, value: object) -> object:
        return "null" if value is None else value  # what YAML makes of the word

    @field_validator("weights", mode="before")
    @classmethod
    def _expand(cls, value: object) -> object:
        return _expand_weights(value)

    @model_validator(mode="after")
    def _check_licences(self) -> "Part":
        lacking = [name for name, one in self.weights.items() if not (one.licence or self.licence)]
        if lacking:
            raise ValueError(
                f"weights {', '.join(lacking)}: no licence is named (licence of the part, or of the weights)"
            )
        return self

    @property
    def licences(self) -> list[str]:
        """The licences of its weights."""
        return [one.licence or self.licence for one in self.weights.values()]


class Bundle(BaseModel):
    """Which models: everything about them that may change a byte of the output."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    description: str = ""
    size: int = Field(ge=32, le=4096, multiple_of=32)
    """Side of the pictures in pixels; the networks halve it five times."""
    parts: dict[str, Part]

    NAMED: ClassVar[type[BaseModel]] = Part
    """What an edit finds by its name: `thermal.weights=URI` is of the part `thermal`."""
    _folder: str = PrivateAttr(default="")

    @field_validator("parts", mode="before")
    @classmethod
    def _fill_stages(cls, value: object) -> object:
        if not isinstance(value, dict):
            return value
        return {
            name: {**part, "stage": part.get("stage") or name} if isinstance(part, dict) else part
            for name, part in value.items()
        }

    @property
    def folder(self) -> str:
        """What relative weights are of: a URI, or a folder, relative to the rooms where it lies below them."""
        return self._folder

    def part_for(self, stage: str, chosen: Mapping[str, str] | None = None) -> tuple[str, Part] | None:
        """Return (name, part) of what makes `stage`, None where nothing does. chosen: stage -> part, as a job says it.

        Raises:
            UserError: two parts make it and none is chosen, or the chosen one is not there or makes another stage.
        """
        wanted = (chosen or {}).get(stage)
        # Of several parts a choice is needed; of one it may be given.
        serving = {name: part for name, part in self.parts.items() if part.stage == stage}
        if wanted is not None:
            if wanted not in serving:
                there = ", ".join(serving) or "none"
                raise UserError(
                    f"parts.{stage}: bundle {self.name} has no part {wanted!r} of this stage; it has: {there}."
                )
            return wanted, serving[wanted]
        if len(serving) > 1:
            raise UserError(
                f"bundle {self.name}: parts {', '.join(serving)} all make stage {stage}; say which, as in "
                f"--set parts.{stage}={next(iter(serving))}."
            )
        return next(iter(serving.items()), None)

    def part(self, stage: str, chosen: Mapping[str, str] | None = None) -> Part:
        """Return the part that makes `stage`; a UserError where there is none, or several and none is `chosen`."""
        found = self.part_for(stage, chosen)
        if found is None:
            raise UserError(f"bundle {self.name} has no part for stage {stage}: train one, and name its folder there.")
        return found[1]

    def fetch(self, stage: str) -> dict[str, Path]:
        """Return the folders of the weights of the part that makes `stage`, whole and verified."""
        return fetch(self.part(stage), self.folder)

    def main(self, stage: str) -> Path:
        """Return the folder of the main weights of the part that makes `stage`, whole and verified."""
        return self.fetch(stage)[MAIN]


def _expand_weights(weights: object) -> object:
    """Return weights as name -> mapping; a file or an edit may give one URI, or URIs by name."""
    if isinstance(weights, str):
        return {MAIN: {"uri": weights}}
    if isinstance(weights, dict):
        return {name: {"uri": one} if isinstance(one, str) else one for name, one in weights.items()}
    return weights


def strictest(licences: Sequence[str]) -> str:
    """Return the strictest of `licences`; one that is not in `LICENCES` counts as the strictest, none as the freest."""
    rank = {name: number for number, name in enumerate(LICENCES)}
    return max(licences, key=lambda name: rank.get(name, len(rank)), default=LICENCES[0])


def licence_of(parts: Iterable[Part]) -> str:
    """Return the strictest licence of the weights of `parts`: what is made with them carries it."""
    return strictest([licence for part in parts for licence in part.licences])


def places(part: Part, folder: str) -> dict[str, str | Path]:
    """Return where each set of weights of `part` lies; `folder` is the bundle's."""
    return {name: locate(one.address, folder) for name, one in part.weights.items()}


def fetch(part: Part, folder: str) -> dict[str, Path]:
    """Return the local, verified folder of each set of weights of `part`.

    Raises:
        EnvironmentFault: weights are missing, half-written, changed, or not those that the bundle names by digest.
    """
    for name, place in places(part, folder).items():
        wanted = part.weights[name].digest
        if wanted and (found := store.weights_digest(place)) != wanted:
            raise EnvironmentFault(
                f"{place}: its digest is {found}, and the bundle wants {wanted}. Fetch the right weights."
            )
    return {name: store.fetch(place) for name, place in places(part, folder).items()}


def is_elsewhere(part: Part, folder: str) -> bool:
    """Return whether any weights of `part` lie on another machine."""
    return any(isinstance(place, str) for place in places(part, folder).values())


def digests(part: Part, folder: str) -> dict[str, str]:
    """Return what identifies the bytes of each set of weights of `part`: as it names them, which `fetch` holds them to."""
    there = places(part, folder)
    return {name: one.digest or store.weights_digest(there[name]) for name, one in part.weights.items()}


def pin(bundle: Bundle, names: Sequence[str]) -> Bundle:
    """Return `bundle` with the digests of the weights of the parts `names` written out: `fetch` then refuses other bytes.

    Raises:
        EnvironmentFault: weights are missing or not sealed.
    """
    pinned = dict(bundle.parts)
    for name in names:
        part = bundle.parts[name]
        found = digests(part, bundle.folder)
        weights = {key: one.model_copy(update={"digest": found[key]}) for key, one in part.weights.items()}
        pinned[name] = part.model_copy(update={"weights": weights})
    return bundle.model_copy(update={"parts": pinned})


def small_files(part: Part, folder: str) -> dict[str, SmallFiles]:
    """Return the small files of each set of weights of `part`."""
    return {name: SmallFiles(place) for name, place in places(part, folder).items()}


def load_bundle(name: str, edits: Sequence[str] = ()) -> Bundle:
    """Return the bundle called `name` (`starter`, a file of `models/bundles`, or the path or URI of a YAML file).

    edits: `key.key=value`; `thermal.weights=URI` finds the part of that name. Relative weights in `edits` are of the
    working directory; those in the file are beside it. `parts.STAGE=NAME` leaves out the other parts of a stage: how a
    command without a job says which of two it means.

    Raises:
        UserError: no such bundle, or a stage, kind, weights, option or setting that is not known; named with what is.
    """
    # Edits name a part, the file nests it below `parts`; some only choose one of two parts.
    edits, chosen = _split_choices([_make_absolute(_add_parts_prefix(edit)) for edit in edits])

    def prepare(content: dict[str, Any]) -> None:
        _expand_content(content)
        _check_names(content, edits, name)

    # Read the file where it lies; relative weights are beside it.
    if remote(name):
        bundle = parse_config(Bundle, store.read_uri(name), name, edits, prepare)
        bundle._folder = name.rpartition("/")[0]
    else:
        path = _find(name)
        bundle = read_config(Bundle, path, edits, prepare)
        folder = path.resolve().parent
        bundle._folder = str(folder.relative_to(ROOT)) if folder.is_relative_to(ROOT) else str(folder)
    # Refuse what is not known, then leave out the parts that were not chosen.
    for part_name, part in bundle.parts.items():
        _check_part(bundle, part_name, part)
    for stage, part_name in chosen.items():
        bundle.part_for(stage, chosen)  # refuses one that is not there
        kept = {key: part for key, part in bundle.parts.items() if part.stage != stage or key == part_name}
        bundle = bundle.model_copy(update={"parts": kept})
    return bundle


def _find(name: str) -> Path:
    """Return the file of a bundle of this repository, or at a path."""
    choices = [ROOT / "models" / name / "bundle.yaml", ROOT / "models" / "bundles" / f"{name}.yaml",
               Path(name.removeprefix("file://"))]  # fmt: skip
    path = next((choice for choice in choices if choice.is_file()), None)
    if path is None:
        known = [p.parent.name for p in ROOT.glob("models/*/bundle.yaml")]
        known += [p.stem for p in ROOT.glob("models/bundles/*.yaml")]
        raise UserError(
            f"no bundle {name!r}: name one of {', '.join(sorted(known))}, or the path or URI of a YAML file."
        )
    return path


def _check_part(bundle: Bundle, name: str, part: Part) -> None:
    """Raise a UserError for a part of an unknown stage, kind, weights, option or setting; imports no torch."""
    where = f"bundle {bundle.name}: {name}"
    if part.stage == CAPTIONS:
        return  # its kinds stand in pipelines/captions, which checks it
    if part.stage not in STAGES:
        raise UserError(f"{where}.stage: no stage {part.stage!r}; known: {', '.join([*STAGES, CAPTIONS])}.")
    # Weights: only those that the kind knows, and all that it needs.
    kind = stages.import_settings(stages.package_of(part.stage, part.kind, f"{where}.kind"))
    known = ", ".join(kind.WEIGHTS) or "none"
    if unknown := sorted(part.weights.keys() - kind.WEIGHTS.keys()):
        raise UserError(f"{where}.weights.{unknown[0]}: kind {part.kind} has no such weights; known here: {known}.")
    if lacking := [one for one, needed in kind.WEIGHTS.items() if needed and one not in part.weights]:
        raise UserError(f"{where}.weights: kind {part.kind} needs {', '.join(lacking)}; known here: {known}.")
    # Options and settings: as the kind has them, without what the job fills in.
    stages.parse_settings(kind.Options, part.options, f"{where}.options")
    if by_job := sorted(part.settings.keys() & set(stages.BY_JOB)):
        raise UserError(f"{where}.settings.{by_job[0]}: the job says it, not the part.")
    stages.parse_settings(kind.Settings, part.settings, f"{where}.settings")


def _expand_content(content: dict[str, Any]) -> None:
    """Expand the weights in the content of a bundle's file, in place, so that an edit can name one of their keys."""
    parts = content.get("parts")
    for part in parts.values() if isinstance(parts, dict) else ():
        if isinstance(part, dict) and "weights" in part:
            part["weights"] = _expand_weights(part["weights"])


def _check_names(content: Mapping[str, Any], edits: Sequence[str], name: str) -> None:
    """Raise a UserError for an edit of a part that the file of bundle `name` does not have and the edits do not make."""
    there = content.get("parts")
    # A part is made by an edit that gives it whole, or its kind.
    keys = [edit.partition("=")[0].strip().split(".") for edit in edits]
    made = {key[1] for key in keys if key[0] == "parts" and (len(key) == 2 or key[2:] == ["kind"])}
    for edit, key in zip(edits, keys, strict=True):
        if key[0] == "parts" and len(key) > 2 and isinstance(there, dict) and key[1] not in {*there, *made}:
            raise UserError(
                f"--set {edit}: bundle {name} has no part {key[1]!r}; it has: {', '.join(there)}. A new part needs its "
                f"kind: --set {key[1]}.kind=..."
            )


def _add_parts_prefix(edit: str) -> str:
    """Return an edit of a part by its name as an edit of the file."""
    first = edit.strip().partition("=")[0].partition(".")[0]
    return edit.strip() if first in Bundle.model_fields else f"parts.{edit.strip()}"


def _split_choices(edits: Sequence[str]) -> tuple[list[str], dict[str, str]]:
    """Return the edits of a bundle's file, and stage -> part of those that choose one: `parts.faces=faces_thermal`."""
    left, chosen = list[str](), dict[str, str]()
    for edit in edits:
        key, _, text = edit.partition("=")
        levels = key.strip().split(".")
        if levels[0] == "parts" and len(levels) == 2 and PART_NAME.match(text.strip()):
            chosen[levels[1]] = text.strip()
        else:
            left.append(edit)
    return left, chosen


def _make_absolute(edit: str) -> str:
    """Return an edit of a part's weights with relative folders made absolute, any other as it is."""
    key, _, text = edit.partition("=")
    levels = key.strip().split(".")
    if levels[0] != "parts" or levels[2:3] != ["weights"]:
        return edit
    try:
        value = parse_yaml(text)
    except yaml.YAMLError:
        return edit  # who applies it names what is wrong
    if not value or (len(levels) > 4 and levels[-1] != "uri"):  # nothing, or a digest, licence or revision
        return edit
    value = value if isinstance(value, str | dict) else text.strip()  # a folder may be called 2026
    return f"{key}={json.dumps(_absolute(value, inside=len(levels) > 3))}"


def _absolute(value: Any, inside: bool) -> Any:
    """Return what an edit gives for weights with absolute folders. inside: of one set of them, not of all by name."""
    if isinstance(value, dict):
        one = inside and "uri" in value
        return {name: _absolute(item, True) if not one or name == "uri" else item for name, item in value.items()}
    if not isinstance(value, str) or remote(value) or value.startswith(("hub:", "file://")):
        return value
    return os.path.abspath(os.path.expanduser(value))
