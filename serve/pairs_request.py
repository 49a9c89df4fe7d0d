"""What a request resolves to: the job that would make the same, checked as a job is."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Generic, TypeVar

from pydantic import ValidationError

from models.errors import UserError
from models.layers import Layer
from models.seeds import seed_of
from models.stages import PARTLESS
from models.weights.bundle import Bundle
from pipelines.captions.read import Reading
from pipelines.config import generate, thermalize, translate
from pipelines.config.captions import GIVEN
from pipelines.config.chain import ChainSpec, Link
from pipelines.config.job import Encoding, GenerateJob
from pipelines.config.profile import Limits
from pipelines.config.recipe import Recipe
from pipelines.config.thermalize import ThermalizeJob
from pipelines.config.translate import TranslateJob
from pipelines.config.views import SAID
from pipelines.plan.embed import thermal_links
from pipelines.rows.record import RecordSpec
from serve.http.problems import ProblemError, of_validation
from serve.http.requests import PairsRequest, ThermalizeRequest, TranslateRequest

REQUEST = "request"
"""In a recipe, where people or pictures come from that came with a request."""
Job = TypeVar("Job", GenerateJob, ThermalizeJob, TranslateJob)
Settings = Mapping[str, Mapping[str, Any]]
"""stage -> setting -> value"""


@dataclass(frozen=True)
class ResolvedRequest(Generic[Job]):
    """What a request resolved to: the job that would make the same, its chain and its recipe."""

    job: Job
    chain: ChainSpec
    recipe: Recipe
    attempts: int = 1

    @property
    def record(self) -> RecordSpec:
        """What rows of the record need to know of it."""
        visible = str(self.recipe.encoding["visible"])
        low, high = self.recipe.source.get("grey", (0.0, 0.0))
        return RecordSpec(
            self.recipe.digest, self.recipe.layers, self.recipe.licence, self.chain, visible, grey=(low, high)
        )


def resolve_pairs(
    request: PairsRequest, defaults: GenerateJob, chain: ChainSpec, bundle: Bundle, limits: Limits, also: str = ""
) -> ResolvedRequest[GenerateJob]:
    """Return what a request resolves to, of one person's pairs on `chain`; what the request leaves open is as in `defaults`.

    also: words that every caption ends with.

    Raises:
        ProblemError: it asks for more than `limits`, or for words that are not in the vocabulary.
        UserError: a stage, setting or condition that is not known.
    """
    # What is limited is checked before anything is made of it.
    gates = defaults.gates.model_copy(update=request.gates.model_dump(exclude_unset=True) if request.gates else {})
    check_limit("views", request.views, limits.views)
    check_limit("gates.attempts", gates.attempts, limits.attempts)
    # The job of one person.
    drawn = request.embedding is None and request.picture is None
    try:
        job = GenerateJob.model_validate(
            {
                "name": "serve",
                "seed": request.seed,
                "identities": {
                    **defaults.identities.model_dump(),
                    "source": "reference" if drawn else REQUEST,
                    "count": 1,
                },
                "views": {
                    "per_identity": request.views,
                    "attributes": request.attributes,
                    **request.model_dump(include=set(SAID), exclude_none=True),
                },
                **_layers(request, defaults, limits),
                "captions": {"backend": request.captions or defaults.captions.backend, "also": also},
                "parts": defaults.parts,
                "settings": _merge_settings(defaults.settings, request.settings),
                "gates": gates,
                "encoding": {"visible": request.encoding},
                "partition_samples": defaults.partition_samples,
            }
        )
    except ValidationError as error:
        raise of_validation(error) from None
    # Its chain with the settings written out, and the recipe that follows; words that came with the request nobody wrote.
    if "gates" in request.settings:
        raise UserError("settings.gates: the gates have a field of their own, gates.")
    chain = replace(chain, given=generate.source_columns(job.views))
    chain = _resolve_chain(chain, bundle, {**job.settings, "gates": gates.model_dump()}, job.layers, limits)
    generate.check_views(job.views, chain)
    chain = generate.over_source(chain, job.views)
    for name in generate.OF_PEOPLE:
        if getattr(request, name) is not None and name not in chain.given:
            raise ProblemError(
                "not-in-bundle",
                f"{name}: the visible part of this bundle has no adapter that looks at it",
                "Leave it out, or start the service with a bundle that has one.",
            )
    recipe = generate.recipe_for(job, bundle, chain)
    if request.caption is not None:
        recipe = recipe.model_copy(update={"captions": {"source": GIVEN}})
    return ResolvedRequest(job, chain, recipe, gates.attempts)


def choose_words(reading: Reading, seed: int) -> dict[str, str]:
    """Return one word of each attribute of a reading: of a pose without a side, one side by the seed."""
    return {name: words[seed_of(seed, "prompt", name) % len(words)] for name, words in reading.attributes.items()}


def apply_reading(request: PairsRequest, reading: Reading) -> PairsRequest:
    """Return a request with what its prompt says; what it names itself wins. Its angle is a pose, too."""
    named = {name for name, word in (("pose", request.yaw), ("expression", request.expression)) if word is not None}
    words = {name: word for name, word in choose_words(reading, request.seed).items() if name not in named}
    conditions = request.conditions or reading.conditions or None
    return request.model_copy(
        update={"prompt": None, "attributes": {**words, **request.attributes}, "conditions": conditions}
    )


def resolve_thermalize(
    request: ThermalizeRequest, defaults: GenerateJob, chain: ChainSpec, bundle: Bundle, limits: Limits
) -> ResolvedRequest[ThermalizeJob]:
    """Return what a request resolves to, of thermal pictures on `chain`. Raises as `resolve_pairs`."""
    job = _thermalize_job(bundle, **_layers(request, defaults, limits))
    # Of the service's settings those of stages that this chain has; the request's own win over them.
    own = {stage: values for stage, values in defaults.settings.items() if stage in chain.stages}
    chain = _resolve_chain(chain, bundle, _merge_settings(own, request.settings), job.layers, limits)
    return ResolvedRequest(job, chain, thermalize.recipe_for(job, chain))


def thermalize_chain(defaults: GenerateJob, chain: ChainSpec, bundle: Bundle) -> ChainSpec:
    """Return the stages of a thermalize job, made by the parts of `chain`, that of pairs."""
    used = {link.name: link.part for link in chain.links if link.stage not in PARTLESS}
    job = _thermalize_job(bundle, conditions=defaults.conditions, samples=defaults.samples)
    return thermalize.chain_for(job, bundle.model_copy(update={"parts": used}), has_classes=False)


def resolve_translate(
    request: TranslateRequest, chain: ChainSpec, bundle: Bundle, limits: Limits
) -> ResolvedRequest[TranslateJob]:
    """Return what a request resolves to, of translations on `chain`. Raises as `resolve_pairs`."""
    check_limit("samples", request.samples, limits.layers)
    job = _translate_job(bundle, unit=request.unit, palette=request.palette, samples=request.samples)
    given = {"translate": {"attributes": request.attributes}} if request.attributes else {}
    chain = _resolve_chain(chain, bundle, _merge_settings(request.settings, given), (translate.LAYER,), limits)
    return ResolvedRequest(job, chain, translate.recipe_for(job, chain))


def translate_chain(bundle: Bundle) -> ChainSpec | None:
    """Return the stages of a translate job; None where the bundle has no part for it."""
    if not any(part.stage == "translate" for part in bundle.parts.values()):
        return None
    return translate.chain_for(_translate_job(bundle), bundle)


def served_chain(chain: ChainSpec, bundle: Bundle) -> ChainSpec:
    """Return all stages that a service loads: those of `chain`, that of pairs, and what translates."""
    other = translate_chain(bundle)
    more = [link for link in other.links if link.stage not in chain.stages] if other else []
    return replace(chain, links=(*chain.links, *more))


def thermal_faces(bundle: Bundle) -> list[Link]:
    """Return the parts that embed thermal faces; none where the bundle has no recogniser for them."""
    try:
        return thermal_links(bundle)
    except UserError:
        return []


def _translate_job(bundle: Bundle, **asked: Any) -> TranslateJob:
    return TranslateJob(images=REQUEST, size=bundle.size, encoding=Encoding(visible="png"), **asked)


def _thermalize_job(bundle: Bundle, **asked: Any) -> ThermalizeJob:
    return ThermalizeJob(images=REQUEST, size=bundle.size, encoding=Encoding(visible="png"), **asked)


def _layers(request: PairsRequest | ThermalizeRequest, defaults: GenerateJob, limits: Limits) -> dict[str, Any]:
    """Return the conditions and thermal samples of a request, no more than `limits` allow."""
    conditions = request.conditions or defaults.conditions
    draws = request.samples or defaults.samples
    check_limit("conditions x samples", len(conditions) * draws, limits.layers)
    return {"conditions": conditions, "samples": draws}


def _merge_settings(defaults: Settings, wanted: Settings) -> dict[str, dict[str, Any]]:
    return {
        stage: {**defaults.get(stage, {}), **wanted.get(stage, {})} for stage in dict.fromkeys([*defaults, *wanted])
    }


def _resolve_chain(
    chain: ChainSpec, bundle: Bundle, wanted: Settings, layers: Sequence[Layer], limits: Limits
) -> ChainSpec:
    """Return `chain` asked for `wanted`. Raises a UserError for what it does not know, a ProblemError for too many steps."""
    chain = chain.with_settings(bundle, wanted, layers)
    for link in chain.links:
        check_limit(f"settings.{link.stage}.steps", getattr(link.settings, "steps", 0), limits.steps)
    return chain


def check_limit(name: str, value: float, limit: float) -> None:
    """Raise a ProblemError if `value` is over the service's limit for `name`."""
    if value > limit:
        raise ProblemError(
            "over-limit", f"{name} is {value}, at most {limit} are taken", "Ask for less, or in several requests."
        )
