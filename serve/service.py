"""What the endpoints do: requests in, rows out, the computing done by the deployments of the stage groups."""

import asyncio
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from models.columns import Columns
from models.errors import UserError
from models.landmarks.settings import Standard
from models.temperature import UnitName
from pipelines.captions.choose import append_words, templates
from pipelines.captions.read import Reading, read_by_words
from pipelines.config.captions import GIVEN, INVENT, TEMPLATE, Captions, Source
from pipelines.config.chain import ChainSpec
from pipelines.config.job import GenerateJob
from pipelines.config.request import Request
from pipelines.config.thermalize import ThermalizeJob
from pipelines.config.translate import TranslateJob
from pipelines.plan.people.identities import Reference
from serve import facts, pairs_request, rows
from serve.choices import request_choices
from serve.deployments import Deployments
from serve.http import problems
from serve.http.fields import Modality
from serve.http.problems import ProblemError
from serve.http.requests import CaptionsRequest, PairsRequest, ThermalizeRequest, TranslateRequest
from serve.pairs_request import ResolvedRequest, check_limit

Result = TypeVar("Result")


class Service:
    """A bundle that answers.

    request: bundle and profile, the job that says what requests leave open, and the chain of its pairs.
    stage_deployments: the stages of each deployment, in order, and its handle. caption_deployment: the handle of the language
    model's; None where none runs.
    """

    def __init__(
        self,
        request: Request,
        stage_deployments: Sequence[tuple[Sequence[str], Any]],
        caption_deployment: Any = None,
    ) -> None:
        self.bundle, self.profile, self.chain = request.bundle, request.profile, request.chain
        self.limits = request.profile.serve.limits
        self.most_requests = most_requests(request)
        batch = call_rows(request.chain)
        self.deployments = Deployments(stage_deployments, caption_deployment, request.profile, batch)
        self.admission = self.deployments.admission
        source: Source = request.job.captions.backend if caption_deployment else "template"
        self.job = request.job.model_copy(update={"captions": Captions(backend=source), "prompt": ""})
        self.thermalize_chain = pairs_request.thermalize_chain(self.job, self.chain, self.bundle)
        self.translate_chain = pairs_request.translate_chain(self.bundle)
        self.reference = Reference.find(self.bundle, self.job.parts)
        self.facts = facts.models(self.bundle, self.job, self.chain, self.limits, self.translate_chain)
        words, model = self.facts["conditions"], caption_deployment is not None
        chains = (self.chain, self.thermalize_chain, self.translate_chain)
        self.thermal_faces = bool(pairs_request.thermal_faces(self.bundle))
        self.choices = request_choices(self.limits, self.job.gates, *chains, words, model, self.thermal_faces)

    async def resolve_pairs(self, request: PairsRequest) -> tuple[PairsRequest, ResolvedRequest[GenerateJob]]:
        """Return a request for pairs with its prompt read, and what it resolves to.

        Raises a ProblemError that names what is wrong with it.
        """
        also = ""
        if request.prompt is not None:
            check_limit("views", request.views, self.limits.views)  # before a model is asked
            (reading,) = await self._read_prompts([request.prompt], request.captions)
            request, also = pairs_request.apply_reading(request, reading), reading.also
        return request, await self._resolve(
            lambda: pairs_request.resolve_pairs(request, self.job, self.chain, self.bundle, self.limits, also)
        )

    async def resolve_thermalize(self, request: ThermalizeRequest) -> ResolvedRequest[ThermalizeJob]:
        """Return what a request for thermal pictures resolves to. Raises a ProblemError that names what is wrong with it."""
        return await self._resolve(
            lambda: pairs_request.resolve_thermalize(request, self.job, self.thermalize_chain, self.bundle, self.limits)
        )

    async def resolve_translate(self, request: TranslateRequest) -> ResolvedRequest[TranslateJob]:
        """Return what a request for translations resolves to.

        Raises a ProblemError that names what is wrong with it, also where the bundle has no translator.
        """
        if self.translate_chain is None:
            raise ProblemError(
                "not-in-bundle",
                f"the bundle {self.bundle.name!r} has no translate part",
                "Start the service with a bundle that has one (docs/translate.md).",
            )
        chain = self.translate_chain
        return await self._resolve(lambda: pairs_request.resolve_translate(request, chain, self.bundle, self.limits))

    async def pairs(
        self, request: PairsRequest, resolved: ResolvedRequest[GenerateJob], photo: bytes | None
    ) -> tuple[Columns, int]:
        """Return the finished rows of a request (arrays, rejects among them) and how many shared their batch.

        photo: an encoded picture of the person, None where the request says otherwise who is shown.
        """
        works = self.deployments.chain_works(resolved.chain, resolved.attempts, request.views)
        if photo is not None:
            works.append(self.deployments.picture_work("faces", "embed", 1))
        if request.caption is None and resolved.job.captions.backend != TEMPLATE:
            works.append(self.deployments.caption_work(request.views))
        with self.admission.admit("pairs", works):
            return await self.deployments.in_time(self._make_pairs(request, resolved, photo))

    async def thermalize(self, resolved: ResolvedRequest[ThermalizeJob], files: Sequence[bytes]) -> tuple[Columns, int]:
        """Return the finished rows of encoded pictures, one each, and how many shared their batch."""
        works = self.deployments.chain_works(resolved.chain, resolved.attempts, len(files))
        with self.admission.admit("thermalize", works):
            pictures = await asyncio.to_thread(rows.photo_columns, files, self.bundle.size, self.limits)
            run = self.deployments.run_chain(resolved.chain, resolved.attempts, pictures)
            done, together = await self.deployments.in_time(run)
        _check_taken(done)
        return done, together

    async def translate(
        self, request: TranslateRequest, resolved: ResolvedRequest[TranslateJob], files: Sequence[bytes]
    ) -> tuple[Columns, int]:
        """Return the finished rows of encoded thermal pictures, one for each draw, and how many shared their batch."""
        count = len(files) * request.samples
        low, high = resolved.recipe.source["grey"]
        with self.admission.admit("translate", self.deployments.chain_works(resolved.chain, 1, count)):
            frames = await asyncio.to_thread(
                rows.frame_columns, files, resolved.job, (low, high), request.seed, self.limits
            )
            done, together = await self.deployments.in_time(self.deployments.run_chain(resolved.chain, 1, frames))
        _check_taken(done, request.samples)
        return done, together

    async def embed(
        self, photos: Sequence[bytes], modality: Modality = "visible", unit: UnitName | None = None
    ) -> tuple[list[dict[str, Any]], int]:
        """Return a row for every encoded picture: its face and embedding, or the reason why it has none; and how many shared
        their batch. unit: of thermal values of more than 8 bits.

        Raises a ProblemError for thermal pictures where the bundle has no recogniser for them.
        """
        if modality == "thermal" and not self.thermal_faces:
            raise ProblemError(
                "not-in-bundle",
                f"the bundle {self.bundle.name!r} has no recogniser for thermal faces",
                "Start the service with faces.weights.thermal, what `thermapair train hfr` wrote (docs/train.md).",
            )
        with self.admission.admit("embed", [self.deployments.embed_work(modality, len(photos))]):
            return await self.deployments.in_time(self.deployments.embed(photos, modality, unit))

    async def captions(self, request: CaptionsRequest) -> list[dict[str, Any]]:
        """Return a caption for every attribute set or prompt; the k-th has the seed `seed + k`."""
        readings = await self._read_prompts(request.prompts, request.captions) if request.prompts else []
        seeds = [request.seed + k for k in range(len(request.attributes) or len(readings))]
        chosen = [pairs_request.choose_words(one, seed) for one, seed in zip(readings, seeds)]
        sets = [dict(words) for words in request.attributes or chosen]
        source = request.captions or self.job.captions.backend
        works = [] if source == TEMPLATE else [self.deployments.caption_work(len(seeds))]
        with self.admission.admit("captions", works):
            if request.mode == INVENT:
                found = await self.deployments.in_time(self._invent(sets, seeds, source))
            else:
                texts, sources = await self.deployments.in_time(self._write_captions(sets, seeds, source))
                found = list(zip(texts, sources, sets, strict=True))
        rows = [{"caption": c, "caption_source": s, "attributes": a, "seed": k} for (c, s, a), k in zip(found, seeds)]
        # What a prompt says beside its attributes.
        for row, reading in zip(rows, readings):
            row |= {"conditions": list(reading.conditions), "also": reading.also}
            row["caption"] = append_words(str(row["caption"]), reading.also)
        return rows

    async def landmarks(self, photos: Sequence[bytes], points: Standard) -> tuple[list[dict[str, Any]], int]:
        """Return a row for every face of every encoded picture: where it is, its landmarks and their variance; and how many
        shared their batch.

        Raises:
            ProblemError: the bundle has no landmarks part, or none of so many points; a picture is not taken.
        """
        if "landmarks" not in self.chain.stages:
            raise ProblemError(
                "not-in-bundle",
                f"the bundle {self.bundle.name!r} has no landmarks part",
                "Start the service with a bundle that has one; /v1/embed finds five points with what this one has.",
            )
        work = self.deployments.picture_work("landmarks", f"landmarks {points}", len(photos))
        with self.admission.admit("landmarks", [work]):
            return await self.deployments.in_time(self.deployments.landmarks(photos, points))

    async def _make_pairs(
        self, request: PairsRequest, resolved: ResolvedRequest[GenerateJob], photo: bytes | None
    ) -> tuple[Columns, int]:
        """Return what `pairs` does, once the request is let in."""
        # Who is shown.
        embedding = request.embedding if photo is None else await self._embed_face(photo)
        try:
            person = rows.person_of(request, embedding, self.reference)
        except UserError as error:
            raise ProblemError("invalid", str(error), "Send an embedding as /v1/embed returns it.") from None
        rows.check_reference(person, self.limits)
        # What every view shows, in words.
        table = rows.sample_table(request, resolved, person)
        if request.caption is None:
            words = [json.loads(text) for text in table["attributes"].to_pylist()]
            own = resolved.job.captions
            texts, sources = await self._write_captions(words, table["seed"].to_pylist(), own.backend)
            captions = [append_words(text, own.also) for text in texts]
        else:
            captions, sources = [request.caption] * len(table), [GIVEN] * len(table)
        # The pictures.
        given = resolved.chain.given
        samples = rows.sample_columns(table, person, captions, sources, self.bundle.size, given)
        return await self.deployments.run_chain(resolved.chain, resolved.attempts, samples)

    async def _embed_face(self, photo: bytes) -> list[float]:
        """Return the embedding of the one face in an encoded picture."""
        ((row,), _) = await self.deployments.embed([photo])
        if row["reason"]:
            raise ProblemError("no-face", f"picture 0: {row['reason']}", "Send a picture that shows exactly one face.")
        return list(row["embedding"])

    async def _write_captions(
        self, asked: Sequence[Mapping[str, str]], seeds: Sequence[int], source: Source
    ) -> tuple[list[str], list[str]]:
        """Return captions of the attribute sets `asked`, and who wrote each."""
        # The grammar needs no deployment; the language model's checks its own texts.
        if source == TEMPLATE:
            return templates([dict(words) for words in asked], seeds, set()), [TEMPLATE] * len(asked)
        self._check_model()
        return await self.deployments.write_captions(asked, seeds)

    async def _invent(
        self, given: Sequence[Mapping[str, str]], seeds: Sequence[int], source: Source
    ) -> list[tuple[str, str, dict[str, str]]]:
        """Return caption, who wrote it and all attributes of people of whom some are `given`."""
        if source == TEMPLATE:
            raise ProblemError("invalid", "template does not invent", "Ask for captions: llm, or for mode: describe.")
        self._check_model()
        found = await self.deployments.invent(rows.rows_to_invent(given, seeds), self.job.views.attributes)
        return [(one.caption, one.source, one.attributes) for one in found]

    async def _read_prompts(self, prompts: Sequence[str], captions: Source | None) -> list[Reading]:
        """Return what prompts ask for: by the language model, or by the reader alone where templates are asked for."""
        conditions = self.facts["conditions"] or []
        check_limit("prompts", len(prompts), self.limits.captions)
        if (captions or self.job.captions.backend) == TEMPLATE:
            return [read_by_words(prompt, conditions) for prompt in prompts]
        self._check_model()
        with self.admission.admit("captions", [self.deployments.caption_work(len(prompts))]):
            return await self.deployments.in_time(self.deployments.read(prompts, conditions))

    def _check_model(self) -> None:
        """Raise a ProblemError where no language model runs."""
        if self.deployments.captions is None:
            raise ProblemError(
                "not-in-bundle",
                "this service runs without a language model",
                "Ask for captions: template, or start the service with --set captions=llm and a bundle that has one.",
            )

    async def _resolve(self, resolve: Callable[[], Result]) -> Result:
        """Return what a request resolves to, which reads small files; what it does not know becomes a problem."""
        try:
            return await asyncio.to_thread(resolve)
        except UserError as error:
            raise problems.of_failure(error, self.profile.serve.retry_seconds) from error


def _check_taken(done: Columns, samples: int = 1) -> None:
    """Raise a ProblemError for a picture that a stage could not take. samples: rows of each."""
    for number, reason in enumerate(done["reject"]):
        if reason:
            raise ProblemError("bad-picture", f"picture {number // samples}: {reason}", "Send another picture.")


def calls_at_once(chain: ChainSpec) -> int:
    """Return how many calls a replica takes: a batch that is computed, and as many more that gather: each kind fills its own."""
    return 4 * call_rows(chain)


def most_requests(request: Request) -> int:
    """Return how many requests to one path are of use to a gateway: of any more the calls would be refused by their queue."""
    profile, chain = request.profile, request.chain
    replicas = max(group.actors[1] for group in profile.assign(chain.stages))
    return profile.serve.queue + max(calls_at_once(chain) * replicas, profile.captions.batch * profile.captions.engines)


def call_rows(chain: ChainSpec) -> int:
    """Return how many rows a call of a deployment has at most: the first stage's batch."""
    return chain.links[0].batch(0)
