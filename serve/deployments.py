"""The deployments of a service as its gateway calls them: what they are asked, and how long that takes."""

import asyncio
import json
import time
from collections.abc import Coroutine, Mapping, Sequence
from typing import Any, TypeVar

from models.columns import Columns
from models.landmarks.settings import Standard
from models.temperature import UnitName
from pipelines.captions.invent import Invented
from pipelines.captions.read import Reading
from pipelines.config.chain import ChainSpec
from pipelines.config.profile import Profile
from pipelines.pictures.open import BadPicture
from pipelines.run.chain import stack_rows
from serve.admission import Admission, Work
from serve.batching import Answer, Gatherer, ask
from serve.http import codecs, problems
from serve.http.fields import Modality
from serve.http.problems import ProblemError
from serve.stage_deployment import Call

Result = TypeVar("Result")
CAPTIONS = "captions"
CALLS = 2
"""Of pictures, under way to each replica: one that is computed, and one that is there when it ends."""


class Deployments:
    """Handles of deployments. stages: the stages of each stage deployment, in order, and its handle. captions: the handle of
    the language model's, None where none runs. batch: rows of a batch of the stages.
    """

    def __init__(
        self, stages: Sequence[tuple[Sequence[str], Any]], captions: Any, profile: Profile, batch: int
    ) -> None:
        self.stages, self.captions, self.batch, self.profile = list(stages), captions, batch, profile
        serving = profile.serve
        self.gatherers: dict[tuple[Any, ...], Gatherer[Any, Answer[Any]]] = {}
        self.admission = Admission(serving.wait_seconds, serving.request_seconds, serving.retry_seconds)

    async def in_time(self, work: Coroutine[Any, Any, Result]) -> Result:
        """Return what `work` returns; failures of deployments, and that it takes too long, become problems."""
        serving = self.profile.serve
        try:
            async with asyncio.timeout(serving.request_seconds):
                return await work
        except ProblemError:
            raise
        except Exception as error:
            raise problems.of_failure(error, serving.retry_seconds) from error

    def chain_works(self, chain: ChainSpec, attempts: int, rows: int) -> list[Work]:
        """Return what `rows` samples on `chain` ask of each deployment."""
        asked = json.dumps([(link.stage, link.settings.model_dump(mode="json")) for link in chain.links])
        wanted = [(names, [name for name in names if name in chain.stages]) for names, _ in self.stages]
        return [Work("-".join(names), (asked, attempts), rows, self.batch) for names, own in wanted if own]

    def picture_work(self, stage: str, asked: str, count: int) -> Work:
        """Return what `count` pictures that are not padded ask of the deployment of `stage`."""
        return Work("-".join(self._find(stage)[0]), asked, count, 1)

    def caption_work(self, count: int) -> Work:
        """Return what `count` attribute sets ask of the language model, which writes many at once."""
        return Work(CAPTIONS, CAPTIONS, count, self.profile.captions.batch)

    async def run_chain(self, chain: ChainSpec, attempts: int, samples: Columns) -> tuple[Columns, int]:
        """Return `samples` after the stages of `chain`, in calls that fit a batch, and the largest batch that they shared."""
        # A call has no more rows than one batch, so that one large request leaves room for others.
        count = len(samples["sample_id"])
        calls = [
            {key: values[k : k + self.batch] for key, values in samples.items()} for k in range(0, count, self.batch)
        ]
        done = await together([self._run_call(chain, attempts, call) for call in calls])
        return stack_rows([rows for rows, _ in done]), max(shared for _, shared in done)

    def embed_work(self, modality: Modality, count: int) -> Work:
        """Return what `count` pictures whose faces are embedded ask of the deployment of faces."""
        return self.picture_work("faces", "embed" if modality == "visible" else f"embed {modality}", count)

    async def embed(
        self, photos: Sequence[bytes], modality: Modality = "visible", unit: UnitName | None = None
    ) -> tuple[list[dict[str, Any]], int]:
        """Return a row for every encoded picture: its face and embedding, or the reason why it has none; and the largest batch
        that they shared.
        """
        work = self.embed_work(modality, 1)
        asked = [self._ask_picture("embed", work, photo, number, modality, unit) for number, photo in enumerate(photos)]
        found = await together(asked)
        return [{"picture": number, **row} for number, (row, _) in enumerate(found)], max(rows for _, rows in found)

    async def landmarks(self, photos: Sequence[bytes], points: Standard) -> tuple[list[dict[str, Any]], int]:
        """Return a row for every face of every encoded picture: where it is, its landmarks and their variance; and the largest
        batch that the pictures shared.
        """
        found = await together([self._place(photo, number, points) for number, photo in enumerate(photos)])
        faces = [{"picture": number, **face} for number, (placed, _) in enumerate(found) for face in placed]
        return faces, max(rows for _, rows in found)

    async def write_captions(
        self, asked: Sequence[Mapping[str, str]], seeds: Sequence[int]
    ) -> tuple[list[str], list[str]]:
        """Return captions of the attribute sets `asked` by the language model, and who wrote each."""
        began = time.monotonic()
        written = await ask(self.captions.write.remote([dict(words) for words in asked], list(seeds)))
        self.admission.note(self.caption_work(len(asked)), time.monotonic() - began)
        return written

    async def invent(self, rows: Sequence[Mapping[str, Any]], allowed: Mapping[str, Any]) -> list[Invented]:
        """Return what the language model makes of samples whose words are among those that a job allows."""
        began = time.monotonic()
        found = await ask(self.captions.invent.remote([dict(row) for row in rows], dict(allowed)))
        self.admission.note(self.caption_work(len(rows)), time.monotonic() - began)
        return found

    async def read(self, prompts: Sequence[str], conditions: Sequence[str]) -> list[Reading]:
        """Return what the language model reads in prompts."""
        began = time.monotonic()
        found = await ask(self.captions.read.remote(list(prompts), list(conditions)))
        self.admission.note(self.caption_work(len(prompts)), time.monotonic() - began)
        return found

    async def _run_call(self, chain: ChainSpec, attempts: int, samples: Columns) -> tuple[Columns, int]:
        """Run one call through the deployments; the first holds the gates where there are several attempts."""
        shared, works = 0, iter(self.chain_works(chain, attempts, len(samples["sample_id"])))
        for names, handle in self.stages:
            wanted = tuple(name for name in names if name in chain.stages)
            if wanted:
                done: Answer[Columns] = await ask(handle.run.remote(Call(chain, wanted, attempts, samples)))
                self.admission.note(next(works), done.seconds, done.replica)
                samples, shared, attempts = done.value, max(shared, done.batch_rows), 1
        return samples, shared

    async def _place(self, photo: bytes, number: int, points: Standard) -> tuple[list[dict[str, Any]], int]:
        """Return the faces of one picture with their landmarks, and the rows of its batch; one call where one deployment has
        both stages.
        """
        found = None
        if self._find("faces")[1] is not self._find("landmarks")[1]:
            found, rows = await self._ask_picture("find", self.picture_work("faces", "find", 1), photo, number)
            if not len(found.scores):
                return [], rows
        work = self.picture_work("landmarks", f"landmarks {points}", 1)
        return await self._ask_picture("landmarks", work, (photo, found), number, points)

    async def _ask_picture(self, method: str, work: Work, item: Any, number: int, *more: Any) -> tuple[Any, int]:
        """Return what `method` of the deployment that does `work` says of picture `number`, and the rows of its batch.

        item: the picture, as the method takes it. more: the method's further arguments.

        Raises:
            ProblemError: the picture is not taken.
        """
        gatherer = self.gatherers.get((method, *more)) or self._make_gatherer(method, work.lane, more)
        try:
            done = await gatherer.submit(item)
        except BadPicture as error:
            raise codecs.picture_problem(error, number) from None
        self.admission.note(work, done.seconds / done.batch_rows, done.replica)
        return done.value, done.batch_rows

    def _make_gatherer(self, method: str, lane: str, more: Sequence[Any]) -> Gatherer[Any, Answer[Any]]:
        """Return what gathers pictures for calls of `method` with the arguments `more`; it is kept."""
        handle = next(handle for names, handle in self.stages if "-".join(names) == lane)
        self.gatherers[method, *more] = Gatherer(
            lambda items: getattr(handle, method).remote(items, *more),
            self.batch,
            lambda: CALLS * max(1, len(self.admission.lanes[lane].replicas)),
            self.profile.serve.batch_wait_ms / 1000,
        )
        return self.gatherers[method, *more]

    def _find(self, stage: str) -> tuple[Sequence[str], Any]:
        """Return the deployment that has `stage`."""
        return next(one for one in self.stages if stage in one[0])


async def together(calls: Sequence[Coroutine[Any, Any, Result]]) -> list[Result]:
    """Return what all of `calls` return; once one fails the others are taken back."""
    tasks = [asyncio.ensure_future(call) for call in calls]
    try:
        return list(await asyncio.gather(*tasks))
    finally:
        for task in tasks:
            task.cancel()
