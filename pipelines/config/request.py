"""What a command asks for: three files with their edits, read and checked against each other before Ray is even imported."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel

from models.config import apply_edit, check, sort_edits
from models.errors import UserError
from models.stages import CAPTIONS
from models.weights.bundle import Bundle, load_bundle
from pipelines.config.captions import LLM, check_captions, check_writer
from pipelines.config.chain import ChainSpec, check_profile
from pipelines.config.generate import chain_for
from pipelines.config.job import GenerateJob, load_job
from pipelines.config.profile import Profile, load_profile
from pipelines.config.thermalize import ThermalizeJob
from pipelines.config.thermalize import chain_for as thermalize_chain
from pipelines.config.translate import TranslateJob
from pipelines.config.translate import chain_for as translate_chain


@dataclass(frozen=True)
class Request:
    """A generate job with everything that decides how it runs."""

    job: GenerateJob
    bundle: Bundle
    profile: Profile
    chain: ChainSpec


def load_request(
    bundle: str, profile: str, job: str, overrides: Sequence[str] = (), limit: int | None = None
) -> Request:
    """Return a generate job, checked; names or paths of YAML files and `key.key=value` edits of any of them.

    limit: only the first so many samples.

    Raises:
        UserError: an unknown key, stage, kind, part, weights' name, option, setting or condition, a column that nobody or two
            stages write, or a profile that does not fit the chain; by name, with what is known.
        EnvironmentFault: small files of the weights cannot be read.
    """
    models: dict[str, type[BaseModel]] = {"job": GenerateJob, "profile": Profile, "bundle": Bundle}
    edits = sort_edits([*overrides, *([f"job.limit={limit}"] if limit else [])], models)
    chosen, wanted = load_bundle(bundle, edits["bundle"]), load_job(job, edits["job"])
    return check_request(wanted, chosen, load_profile(profile, edits["profile"]))


def check_request(job: GenerateJob, bundle: Bundle, profile: Profile) -> Request:
    """Return the three as a request, checked against each other; raises what `load_request` raises."""
    check_captions(bundle)
    if job.captions.backend == LLM or CAPTIONS in job.parts:
        bundle.part_for(CAPTIONS, job.parts)  # refuses two that nobody chose from, and one that is not there
    check_writer(job.captions, bundle, job.parts)
    if job.stop.cost is not None and not profile.price:
        raise UserError("stop.cost counts with the price of an hour: give it, as in --set profile.price=12")
    chain = chain_for(job, bundle)
    check_profile(profile, chain, job.gates.attempts)
    return Request(job, bundle, profile, chain)


@dataclass(frozen=True)
class ThermalizeRequest:
    """A thermalize job with everything that decides how it runs."""

    job: ThermalizeJob
    bundle: Bundle
    profile: Profile


def load_thermalize(
    images: str, *, bundle: str, profile: str, overrides: Sequence[str] = (), **values: Any
) -> ThermalizeRequest:
    """Return a thermalize job, checked before a folder is listed; `values` are its fields, None for its defaults.

    overrides: `key.key=value` edits of the job, the bundle or the profile. Raises what `load_request` raises.
    """
    # The files with their edits.
    edits = sort_edits(overrides, {"job": ThermalizeJob, "profile": Profile, "bundle": Bundle})
    chosen, where = load_bundle(bundle, edits["bundle"]), load_profile(profile, edits["profile"])
    # The job: defaults, what the command says, and edits of it.
    wanted = {"size": chosen.size, "images": images, **{key: one for key, one in values.items() if one is not None}}
    for edit in edits["job"]:
        apply_edit(wanted, edit)
    job = check(ThermalizeJob, wanted, "thermalize")
    # Without a part that finds classes they may still come in a Parquet: the plan, which lists it, has the last word.
    has_classes = bool(job.masks) or not any(part.stage == "parser" for part in chosen.parts.values())
    check_profile(where, thermalize_chain(job, chosen, has_classes))
    return ThermalizeRequest(job, chosen, where)


@dataclass(frozen=True)
class TranslateRequest:
    """A translate job with everything that decides how it runs."""

    job: TranslateJob
    bundle: Bundle
    profile: Profile


def load_translate(
    images: str, *, bundle: str, profile: str, overrides: Sequence[str] = (), **values: Any
) -> TranslateRequest:
    """Return a translate job, checked before a folder is listed; `values` are its fields, None for its defaults.

    overrides: as for `load_thermalize`. Raises what `load_request` raises.
    """
    edits = sort_edits(overrides, {"job": TranslateJob, "profile": Profile, "bundle": Bundle})
    chosen, where = load_bundle(bundle, edits["bundle"]), load_profile(profile, edits["profile"])
    wanted = {"size": chosen.size, "images": images, **{key: one for key, one in values.items() if one is not None}}
    for edit in edits["job"]:
        apply_edit(wanted, edit)
    job = check(TranslateJob, wanted, "translate")
    check_profile(where, translate_chain(job, chosen))
    return TranslateRequest(job, chosen, where)
