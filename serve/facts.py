"""What `/v1/models` says: the parts that answer, what they may be asked for, and whose they are."""

from typing import Any

from models.card import Card
from models.errors import UserError
from models.stages import BY_JOB, CAPTIONS, PARTLESS
from models.weights.bundle import Bundle, Part, digests, licence_of, places
from pipelines.config.captions import TEMPLATE
from pipelines.config.chain import ChainSpec, known_conditions
from pipelines.config.job import GenerateJob
from pipelines.config.profile import Limits
from serve import pairs_request
from serve.http.requests import PairsRequest


def models(
    bundle: Bundle, job: GenerateJob, chain: ChainSpec, limits: Limits, translate: ChainSpec | None = None
) -> dict[str, Any]:
    """Return the fields of `answers.ModelsAnswer`. job: what requests leave open; chain: its stages. translate: those of
    translations, where the bundle makes some.

    Raises:
        ProblemError: what requests leave open is over the service's own limits.
        EnvironmentFault: weights are missing.
    """
    resolved = pairs_request.resolve_pairs(PairsRequest(), job, chain, bundle, limits)
    # The parts in use: of the chain, and of captions if a model writes them.
    used: dict[str, tuple[Part, dict[str, Any]]] = {}
    for link in (*resolved.chain.links, *(translate.links if translate else ())):
        if link.stage not in PARTLESS:
            used[link.name] = link.part, link.settings.model_dump(mode="json", exclude=set(BY_JOB))
    caption_part = None if job.captions.backend == TEMPLATE else bundle.part_for(CAPTIONS, job.parts)
    if caption_part:
        used[caption_part[0]] = caption_part[1], {}
    # What a request may ask for, and what holds where it says nothing.
    return {
        "bundle": bundle.name,
        "description": bundle.description,
        "size": bundle.size,
        "licence": licence_of(part for part, _ in used.values()),
        "digest": resolved.recipe.digest,
        "conditions": known_conditions(chain),
        "defaults": list(job.conditions),
        "captions": job.captions.backend,
        "stages": list(chain.stages),
        "models": {name: part_facts(part, bundle.folder, settings) for name, (part, settings) in used.items()},
        "limits": limits.model_dump(),
    }


def part_facts(part: Part, folder: str, settings: dict[str, Any]) -> dict[str, Any]:
    """Return what is known of one part: how it is run, and each of its weights with digest, licence and card."""
    found, there = digests(part, folder), places(part, folder)
    weights = {
        name: {
            "address": one.address,
            "digest": found[name],
            "licence": one.licence or part.licence,
            "card": card(there[name]),
        }
        for name, one in part.weights.items()
    }
    return {**part.model_dump(include={"stage", "kind", "dtype", "batch"}), "settings": settings, "weights": weights}


def card(place: Any) -> dict[str, Any] | None:
    """Return the facts of the card beside weights of this machine, None where there is none of ours."""
    if isinstance(place, str):
        return None
    try:
        return Card.read(place).model_dump(mode="json")
    except UserError:  # weights of others come with a README of another form, or none
        return None
