"""What the endpoints do: requests in, rows out, the computing done by the deployments of the stage groups."""

import asyncio
import json
from collections.abc import Awaitable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from pipelines.record import picture, thermal_pictures

from models.card import Card
from models.errors import UserError
from models.landmarks.standards import Standard
from models.weights.bundle import Bundle, Part, fetch
from models.weights.store import weights_digest
from pipelines.captions.write import TEMPLATE, templates
from pipelines.config.job import GenerateJob
from pipelines.config.profile import Profile
from pipelines.generate import rounds
from pipelines.pictures.codecs import encode_png, encode_png_rgb
from pipelines.pictures.open import BadPicture
from pipelines.plan.identities import Reference
from pipelines.run.chain import Columns, stacked
from serve import codecs, order, problems
from serve.group import Answer, Call
from serve.problems import ProblemError
from serve.schemas import CaptionsRequest, PairsRequest

Result = TypeVar("Result")
THERMALIZE = ("parser", "thermal")


class Service:
    """A bundle that answers. `groups`: the stages of each deployment, in order, and its handle; `writer`: that of captions.

    job: what a request for pairs leaves open.
    """

    def __init__(
        self,
        bundle: Bundle,
        job: GenerateJob,
        profile: Profile,
        groups: Sequence[tuple[Sequence[str], Any]],
        writer: Any = None,
    ) -> None:
        self.bundle, self.job, self.profile, self.groups, self.writer = bundle, job, profile, list(groups), writer
        self.limits, self.digest = profile.serve.limits, bundle.digest()
        there = (fetch(bundle.faces, bundle) / bundle.reference).is_file()
        self.reference = Reference.of(bundle) if there else None
        self.facts = self._facts()

    async def pairs(self, request: PairsRequest, photo: bytes | None) -> tuple[GenerateJob, Columns, int]:
        """Return the request's job, its finished rows (arrays, rejects among them) and how many shared their batch."""
        job = order.job_of(request, self.job, self.limits)
        embedding = request.embedding if photo is None else await self._face(photo)
        try:
            person = order.person_of(request, embedding, self.reference)
        except UserError as error:
            raise ProblemError("invalid", str(error), "Send an embedding as /v1/embed returns it.") from None
        table = order.samples(request, job, person)
        if request.caption is None:
            asked = [json.loads(text) for text in table["attributes"].to_pylist()]
            captions, sources = await self._written(asked, table["seed"].to_pylist(), job.captions)
        else:
            captions, sources = [request.caption] * len(table), [order.GIVEN] * len(table)
        rows = order.columns(table, person, captions, sources)
        stages = [name for names, _ in self.groups for name in names]
        return job, *await self._through(stages, job, rows)

    def records(self, job: GenerateJob, rows: Columns) -> tuple[list[dict], list[dict]]:
        """Return (pairs, rejects) of finished rows as rows of the record, pictures encoded."""
        return order.records(job, self.bundle, self.digest, rows)

    async def thermalize(
        self, pictures: Sequence[np.ndarray], conditions: Sequence[str]
    ) -> tuple[Columns, list[tuple[int, int]], int]:
        """Return (rows, sizes, rows that shared a batch): `visible`, `classes`, `thermal`, `thermal_clipped` a picture.

        sizes: height and width of what is not padding.
        """
        boxed = [codecs.fitted(one, self.bundle.size) for one in pictures]
        count = len(boxed)
        rows = {
            "sample_id": np.array([str(number) for number in range(count)], object),
            "visible": np.stack([one for one, _, _ in boxed]),
            "attempt": np.zeros(count, np.int32),
            "reject": np.array([""] * count, object),
        }
        job = self.job.model_copy(
            update={"conditions": list(conditions), "gates": self.job.gates.model_copy(update={"attempts": 1})}
        )
        done, together = await self._through(THERMALIZE, job, rows)
        for number, reason in enumerate(done["reject"]):
            if reason:
                raise ProblemError("bad-picture", f"picture {number}: {reason}", "Send another picture.")
        return done, [(height, width) for _, height, width in boxed], together

    def thermals(
        self, rows: Columns, sizes: Sequence[tuple[int, int]], conditions: Sequence[str]
    ) -> list[dict[str, Any]]:
        """Return the rows of `thermalize` encoded, one for every picture and condition."""
        found = []
        for number, (height, width) in enumerate(sizes):
            visible, classes = (rows[name][number, :height, :width] for name in ("visible", "classes"))
            for index, condition in enumerate(conditions):
                name = f"{number}-{condition}"
                found.append(
                    {
                        "picture": number,
                        "condition": condition,
                        "visible": picture(name, "visible", encode_png_rgb(visible)),
                        **thermal_pictures(name, rows["thermal"][number, index, :height, :width]),
                        "thermal_kind": "predicted",
                        "thermal_clipped": float(rows["thermal_clipped"][number, index]),
                        "classes": picture(name, "classes", encode_png(np.ascontiguousarray(classes))),
                        "width": width,
                        "height": height,
                        "licence": self.bundle.licence,
                    }
                )
        return found

    async def embed(self, photos: Sequence[bytes]) -> list[dict[str, Any]]:
        """Return a row for every encoded picture: its face and embedding, or the reason why it has none."""
        handle = self._home("faces")
        rows = await self._asked(asyncio.gather(*(self._looked_at(handle, n, photo) for n, photo in enumerate(photos))))
        return [{"picture": number, **row} for number, row in enumerate(rows)]

    async def captions(self, request: CaptionsRequest) -> list[dict[str, Any]]:
        """Return a caption for every attribute set; the k-th has the seed `seed + k`."""
        seeds = [request.seed + k for k in range(len(request.attributes))]
        texts, sources = await self._written(request.attributes, seeds, request.captions or self.job.captions)
        rows = zip(texts, sources, request.attributes, seeds, strict=True)
        return [{"caption": c, "caption_source": s, "attributes": dict(a), "seed": seed} for c, s, a, seed in rows]

    async def landmarks(self, photos: Sequence[bytes], points: Standard) -> list[dict[str, Any]]:
        """Return a row for every face of every encoded picture: where it is, its landmarks and their variance.

        Raises:
            ProblemError: the bundle has no landmarks part, or none of so many points; a picture is not taken.
        """
        if "landmarks" not in self.bundle.parts():
            raise ProblemError(
                "not-in-bundle",
                f"the bundle {self.bundle.name!r} has no landmarks part",
                "Start the service with a bundle that has one; /v1/embed finds five points with what this one has.",
            )
        found = await self._asked(asyncio.gather(*(self._placed(n, photo, points) for n, photo in enumerate(photos))))
        return [{"picture": number, **row} for number, rows in enumerate(found) for row in rows]

    async def _placed(self, number: int, photo: bytes, points: Standard) -> list[dict[str, Any]]:
        """Return the faces of one picture: those that the faces part finds, looked at by the landmarker."""
        try:
            found = await self._home("faces").find.remote(photo)
            return await self._home("landmarks").landmarks.remote(photo, found, points) if len(found.scores) else []
        except BadPicture as error:
            raise codecs.refused(getattr(error, "cause", error), number) from None

    async def _face(self, photo: bytes) -> list[float]:
        """Return the embedding of the one face in an encoded picture."""
        (row,) = await self.embed([photo])
        if row["reason"]:
            raise ProblemError("no-face", f"picture 0: {row['reason']}", "Send a picture that shows exactly one face.")
        return list(row["embedding"])

    async def _looked_at(self, handle: Any, number: int, photo: bytes) -> dict[str, Any]:
        try:
            return await handle.embed.remote(photo)
        except BadPicture as error:
            raise codecs.refused(getattr(error, "cause", error), number) from None

    async def _written(
        self, asked: Sequence[Mapping[str, str]], seeds: Sequence[int], source: str
    ) -> tuple[list[str], list[str]]:
        if source == TEMPLATE:
            return templates([dict(words) for words in asked], seeds, set()), [TEMPLATE] * len(asked)
        if self.writer is None:
            raise ProblemError(
                "not-in-bundle",
                "this service runs without a language model",
                "Ask for captions: template, or start the service with --set captions=llm.",
            )
        return await self._asked(self.writer.write.remote([dict(words) for words in asked], list(seeds)))

    async def _through(self, stages: Sequence[str], job: GenerateJob, rows: Columns) -> tuple[Columns, int]:
        """Return `rows` after `stages`, cut into calls that fit a batch, and the largest batch that they shared."""
        size, count = self.bundle.visible.batch, len(rows["sample_id"])
        pieces = [{key: values[k : k + size] for key, values in rows.items()} for k in range(0, count, size)]
        done = await self._asked(asyncio.gather(*(self._piece(stages, job, piece) for piece in pieces)))
        return stacked([answer.rows for answer in done]), max(answer.together for answer in done)

    async def _piece(self, stages: Sequence[str], job: GenerateJob, rows: Columns) -> Answer:
        """Run one call through the groups: every attempt in one, or attempt after attempt through several."""
        together = 0
        for attempts in rounds(job, self.bundle, self.profile):
            for number, (names, handle) in enumerate(self.groups):
                wanted = tuple(name for name in names if name in stages)
                if wanted:
                    call = Call(wanted, job, tuple(attempts), number == 0, rows)
                    answer: Answer = await handle.run.remote(call)
                    rows, together = answer.rows, max(together, answer.together)
        return Answer(rows, together)

    async def _asked(self, call: Awaitable[Result]) -> Result:
        """Return what a deployment answers; its failures become problems."""
        serving = self.profile.serve
        try:
            async with asyncio.timeout(serving.request_seconds):
                return await call
        except ProblemError:
            raise
        except Exception as error:
            raise problems.of_failure(error, serving.retry_seconds) from error

    def _home(self, stage: str) -> Any:
        """Return the handle of the group that has `stage`."""
        return next(handle for names, handle in self.groups if stage in names)

    def _facts(self) -> dict[str, Any]:
        """Return what `/v1/models` says."""
        bundle = self.bundle
        return {
            "bundle": bundle.name,
            "description": bundle.description,
            "size": bundle.size,
            "licence": bundle.licence,
            "digest": self.digest,
            "conditions": self.job.conditions,
            "captions": self.job.captions if self.writer else TEMPLATE,
            "stages": [name for names, _ in self.groups for name in names],
            "models": {name: part_facts(part, bundle) for name, part in bundle.parts().items()},
            "limits": self.limits.model_dump(),
        }


def part_facts(part: Part, bundle: Bundle) -> dict[str, Any]:
    """Return what is known of one part: its configuration, the digest of its weights, its card if that lies beside them."""
    card = None
    if "://" not in part.weights and not part.weights.startswith("hub:"):
        folder: Path = bundle.folder / part.weights
        try:
            card = Card.read(folder).model_dump(mode="json")
        except UserError:  # weights of others come with a README of another form, or none
            card = None
    said = part.model_dump(include={"kind", "weights", "licence", "dtype", "batch"})
    return {**said, "digest": weights_digest(part, bundle), "card": card}
