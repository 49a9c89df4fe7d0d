"""What the endpoints do: requests in, rows out, the computing done by the deployments of the stage groups."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, TypeVar

from models.columns import Columns
from models.errors import UserError
from models.landmarks.standards import Standard
from pipelines.captions.choose import templates
from pipelines.config.captions import GIVEN, TEMPLATE, Source
from pipelines.config.chain import ChainSpec
from pipelines.config.job import GenerateJob
from pipelines.config.request import Request
from pipelines.config.thermalize import ThermalizeJob
from pipelines.pictures.open import BadPicture
from pipelines.plan.people.identities import Reference
from pipelines.run.chain import stack_rows
from serve import facts, pairs_request, rows
from serve.http import codecs, problems
from serve.http.problems import ProblemError
from serve.http.schemas import CaptionsRequest, PairsRequest, ThermalizeRequest
from serve.pairs_request import ResolvedRequest
from serve.stage_deployment import Call, CallResult

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
        self.stage_deployments, self.caption_deployment = list(stage_deployments), caption_deployment
        self.limits = request.profile.serve.limits
        source: Source = request.job.captions if caption_deployment else "template"
        self.job = request.job.model_copy(update={"captions": source})
        self.thermalize_chain = pairs_request.thermalize_chain(self.job, self.chain, self.bundle)
        self.reference = Reference.find(self.bundle, self.job.parts)
        self.facts = facts.models(self.bundle, self.job, self.chain, self.limits)

    async def resolve_pairs(self, request: PairsRequest) -> ResolvedRequest[GenerateJob]:
        """Return what a request for pairs resolves to. Raises a ProblemError that names what is wrong with it."""
        return await self._resolve(
            lambda: pairs_request.resolve_pairs(request, self.job, self.chain, self.bundle, self.limits)
        )

    async def resolve_thermalize(self, request: ThermalizeRequest) -> ResolvedRequest[ThermalizeJob]:
        """Return what a request for thermal pictures resolves to. Raises a ProblemError that names what is wrong with it."""
        return await self._resolve(
            lambda: pairs_request.resolve_thermalize(request, self.job, self.thermalize_chain, self.bundle, self.limits)
        )

    async def pairs(
        self, request: PairsRequest, resolved: ResolvedRequest[GenerateJob], photo: bytes | None
    ) -> tuple[Columns, int]:
        """Return the finished rows of a request (arrays, rejects among them) and how many shared their batch.

        photo: an encoded picture of the person, None where the request says otherwise who is shown.
        """
        # Who is shown.
        embedding = request.embedding if photo is None else await self._embed_face(photo)
        try:
            person = rows.person_of(request, embedding, self.reference)
        except UserError as error:
            raise ProblemError("invalid", str(error), "Send an embedding as /v1/embed returns it.") from None
        # What every view shows, in words.
        table = rows.sample_table(request, resolved, person)
        if request.caption is None:
            words = [json.loads(text) for text in table["attributes"].to_pylist()]
            captions, sources = await self._write_captions(words, table["seed"].to_pylist(), resolved.job.captions)
        else:
            captions, sources = [request.caption] * len(table), [GIVEN] * len(table)
        # The pictures.
        samples = rows.sample_columns(table, person, captions, sources)
        return await self._run_stages(resolved.chain, resolved.attempts, samples)

    async def thermalize(self, resolved: ResolvedRequest[ThermalizeJob], files: Sequence[bytes]) -> tuple[Columns, int]:
        """Return the finished rows of encoded pictures, one each, and how many shared their batch."""
        pictures = await asyncio.to_thread(rows.photo_columns, files, self.bundle.size, self.limits)
        done, together = await self._run_stages(resolved.chain, resolved.attempts, pictures)
        for number, reason in enumerate(done["reject"]):
            if reason:
                raise ProblemError("bad-picture", f"picture {number}: {reason}", "Send another picture.")
        return done, together

    async def embed(self, photos: Sequence[bytes]) -> list[dict[str, Any]]:
        """Return a row for every encoded picture: its face and embedding, or the reason why it has none."""
        handle = self._handle_of("faces")
        found = await self._call(
            asyncio.gather(*(self._embed_picture(handle, n, photo) for n, photo in enumerate(photos)))
        )
        return [{"picture": number, **row} for number, row in enumerate(found)]

    async def captions(self, request: CaptionsRequest) -> list[dict[str, Any]]:
        """Return a caption for every attribute set; the k-th has the seed `seed + k`."""
        seeds = [request.seed + k for k in range(len(request.attributes))]
        texts, sources = await self._write_captions(request.attributes, seeds, request.captions or self.job.captions)
        found = zip(texts, sources, request.attributes, seeds, strict=True)
        return [{"caption": c, "caption_source": s, "attributes": dict(a), "seed": seed} for c, s, a, seed in found]

    async def landmarks(self, photos: Sequence[bytes], points: Standard) -> list[dict[str, Any]]:
        """Return a row for every face of every encoded picture: where it is, its landmarks and their variance.

        Raises:
            ProblemError: the bundle has no landmarks part, or none of so many points; a picture is not taken.
        """
        if "landmarks" not in self.chain.stages:
            raise ProblemError(
                "not-in-bundle",
                f"the bundle {self.bundle.name!r} has no landmarks part",
                "Start the service with a bundle that has one; /v1/embed finds five points with what this one has.",
            )
        found = await self._call(
            asyncio.gather(*(self._place_landmarks(n, photo, points) for n, photo in enumerate(photos)))
        )
        return [{"picture": number, **face} for number, faces in enumerate(found) for face in faces]

    async def _place_landmarks(self, number: int, photo: bytes, points: Standard) -> list[dict[str, Any]]:
        """Return the faces of one picture: those that the faces part finds, looked at by the landmarker."""
        try:
            found = await self._handle_of("faces").find.remote(photo)
            return (
                await self._handle_of("landmarks").landmarks.remote(photo, found, points) if len(found.scores) else []
            )
        except BadPicture as error:
            raise codecs.picture_problem(getattr(error, "cause", error), number) from None

    async def _embed_face(self, photo: bytes) -> list[float]:
        """Return the embedding of the one face in an encoded picture."""
        (row,) = await self.embed([photo])
        if row["reason"]:
            raise ProblemError("no-face", f"picture 0: {row['reason']}", "Send a picture that shows exactly one face.")
        return list(row["embedding"])

    async def _embed_picture(self, handle: Any, number: int, photo: bytes) -> dict[str, Any]:
        try:
            return await handle.embed.remote(photo)
        except BadPicture as error:
            raise codecs.picture_problem(getattr(error, "cause", error), number) from None

    async def _write_captions(
        self, asked: Sequence[Mapping[str, str]], seeds: Sequence[int], source: Source
    ) -> tuple[list[str], list[str]]:
        """Return captions of the attribute sets `asked`, and who wrote each."""
        # The grammar needs no deployment; the language model's checks its own texts.
        if source == TEMPLATE:
            return templates([dict(words) for words in asked], seeds, set()), [TEMPLATE] * len(asked)
        if self.caption_deployment is None:
            raise ProblemError(
                "not-in-bundle",
                "this service runs without a language model",
                "Ask for captions: template, or start the service with --set captions=llm and a bundle that has one.",
            )
        return await self._call(self.caption_deployment.write.remote([dict(words) for words in asked], list(seeds)))

    async def _run_stages(self, chain: ChainSpec, attempts: int, samples: Columns) -> tuple[Columns, int]:
        """Return `samples` after the stages of `chain`, in calls that fit a batch, and the largest batch that they shared."""
        # A call has no more rows than one batch, so that one large request leaves room for others.
        size, count = call_rows(self.chain), len(samples["sample_id"])
        calls = [{key: values[k : k + size] for key, values in samples.items()} for k in range(0, count, size)]
        done = await self._call(asyncio.gather(*(self._run_call(chain, attempts, call) for call in calls)))
        return stack_rows([result.rows for result in done]), max(result.batch_rows for result in done)

    async def _run_call(self, chain: ChainSpec, attempts: int, samples: Columns) -> CallResult:
        """Run one call through the deployments; the first holds the gates where there are several attempts."""
        result = CallResult(samples, 0)
        for names, handle in self.stage_deployments:
            wanted = tuple(name for name in names if name in chain.stages)
            if wanted:
                done: CallResult = await handle.run.remote(Call(chain, wanted, attempts, result.rows))
                result, attempts = CallResult(done.rows, max(result.batch_rows, done.batch_rows)), 1
        return result

    async def _resolve(self, resolve: Callable[[], Result]) -> Result:
        """Return what a request resolves to, which reads small files; what it does not know becomes a problem."""
        try:
            return await asyncio.to_thread(resolve)
        except UserError as error:
            raise problems.of_failure(error, self.profile.serve.retry_seconds) from error

    async def _call(self, call: Awaitable[Result]) -> Result:
        """Return what a deployment answers; its failures become problems."""
        serving = self.profile.serve
        try:
            async with asyncio.timeout(serving.request_seconds):
                return await call
        except ProblemError:
            raise
        except Exception as error:
            raise problems.of_failure(error, serving.retry_seconds) from error

    def _handle_of(self, stage: str) -> Any:
        """Return the handle of the deployment that has `stage`."""
        return next(handle for names, handle in self.stage_deployments if stage in names)


def call_rows(chain: ChainSpec) -> int:
    """Return how many rows a call of a deployment has at most: the first stage's batch."""
    return chain.links[0].batch(0)
