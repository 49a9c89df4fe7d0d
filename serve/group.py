"""One stage group as a deployment: the chain of the jobs, its weights loaded once, fed with batches from many requests."""

import asyncio
import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from ray import serve as ray_serve

from models.errors import UserError
from models.faces.decode import Found
from models.faces.stage import FacesStage
from models.landmarks.stage import LandmarkStage
from models.landmarks.standards import Standard
from models.thermal.unet.stage import ThermalStage
from models.visible.sd.stage import VisibleStage
from models.weights.bundle import Bundle
from pipelines.config.job import GenerateJob
from pipelines.embed import find_faces, looked_at
from pipelines.generate import spec
from pipelines.pictures.open import BadPicture, open_photo
from pipelines.run.chain import Chain, Columns, Stage, StageSpec, stacked


@dataclass(frozen=True)
class Call:
    """Rows for some stages of a group, and what their request asks of them."""

    stages: tuple[str, ...]
    job: GenerateJob
    attempts: tuple[int, ...]
    begins: bool
    """Whether the first stage of all is among them, as `Chain` takes it."""
    rows: Columns

    @property
    def size(self) -> int:
        """Rows that are computed at most."""
        return int(self.rows["final"].sum()) if "final" in self.rows else len(self.rows["sample_id"])

    @property
    def key(self) -> str:
        """Calls with the same key may share a compute batch."""
        job = self.job
        asked = [job.sampling.model_dump(), job.conditions, job.gates.model_dump(), self.attempts, self.begins]
        return json.dumps([self.stages, asked, sorted(self.rows)])


@dataclass(frozen=True)
class Answer:
    """The rows of a call after its stages, and how many rows of all callers were computed together."""

    rows: Columns
    together: int


class StageGroup:
    """The stages `names` in one process, one batch at a time.

    Rows are gathered over requests until they fill the bundle's compute batch or `wait` seconds have passed. Shorter
    batches are padded by the stages, so what a row comes out as does not depend on the company it had.
    """

    def __init__(
        self, names: Sequence[str], bundle: Bundle, job: GenerateJob, threads: int, wait: float, max_pixels: int
    ) -> None:
        self.bundle, self.max_pixels = bundle, max_pixels
        self.specs = {name: spec(name, job, bundle) for name in names}
        self.worker = ThreadPoolExecutor(1, initializer=torch.set_num_threads, initargs=(threads,))
        self.stages = {name: self.worker.submit(self.specs[name].load, threads).result() for name in names}

        @ray_serve.batch(max_batch_size=bundle.visible.batch, batch_wait_timeout_s=wait, batch_size_fn=rows_of)
        async def together(calls: list[Call]) -> list[Answer | UserError]:
            return await self._in_worker(self.compute, calls)

        @ray_serve.batch(max_batch_size=bundle.faces.batch, batch_wait_timeout_s=wait)
        async def looked(photos: list[bytes]) -> list[dict | BadPicture]:
            return await self._in_worker(self.look, photos)

        self._together, self._looked = together, looked

    async def run(self, call: Call) -> Answer:
        """Return the rows of `call` after its stages.

        Raises:
            UserError: the request asks for something that these models do not have.
            EnvironmentFault: memory, disk or weights failed.
        """
        return raised(await self._together(call))

    async def embed(self, photo: bytes) -> dict:
        """Return what `pipelines.embed.SCHEMA` says of an encoded picture. Raises BadPicture for one that is not taken."""
        return raised(await self._looked(photo))

    async def find(self, photo: bytes) -> Found:
        """Return the faces of an encoded picture."""
        faces = self.stages["faces"]
        assert isinstance(faces, FacesStage)

        def found() -> Found:
            return find_faces(faces.pack, [open_photo(photo, max_pixels=self.max_pixels)])[0]

        return await self._in_worker(found)

    async def landmarks(self, photo: bytes, found: Found, points: Standard) -> list[dict]:
        """Return the landmarks of the faces `found` in an encoded picture, with the columns of the record."""
        stage = self.stages["landmarks"]
        assert isinstance(stage, LandmarkStage)

        def placed() -> list[dict]:
            faces = stage.at_boxes(open_photo(photo, max_pixels=self.max_pixels), found.boxes, points)
            return [
                {
                    "bbox": box,
                    "detection_score": score,
                    f"landmarks_{points}": face.points.ravel(),
                    f"variance_{points}_visible": face.variance,
                }
                for box, score, face in zip(found.boxes, found.scores, faces, strict=True)
            ]

        return await self._in_worker(placed)

    def compute(self, calls: list[Call]) -> list[Answer | UserError]:
        """Run each set of calls that ask the same as one chain over all their rows."""
        answers: dict[int, Answer | UserError] = {}
        for key in dict.fromkeys(call.key for call in calls):
            places = [place for place, call in enumerate(calls) if call.key == key]
            try:
                answers |= zip(places, self._chained([calls[place] for place in places]))
            except UserError as error:  # of this request alone; the others of the batch are not to blame
                answers |= dict.fromkeys(places, error)
        return [answers[place] for place in range(len(calls))]

    def look(self, photos: list[bytes]) -> list[dict | BadPicture]:
        """Decode pictures and find and embed their faces; those that cannot be taken come back as their reason."""
        opened = [self._opened(photo) for photo in photos]
        faces = self.stages["faces"]
        assert isinstance(faces, FacesStage)
        rows = iter(looked_at(faces.pack, [picture for picture in opened if not isinstance(picture, BadPicture)]))
        return [picture if isinstance(picture, BadPicture) else next(rows) for picture in opened]

    def _chained(self, calls: list[Call]) -> list[Answer]:
        first = calls[0]
        specs = [spec(name, first.job, self.bundle) for name in first.stages]
        loaded = [adapted(one, self.stages[one.name], first.job) for one in specs]
        chain = Chain(specs, first.attempts, first.begins, loaded=loaded)
        marked = [{**call.rows, "call": np.full(len(call.rows["sample_id"]), k)} for k, call in enumerate(calls)]
        rows = chain(stacked(marked))
        owner, together = rows.pop("call"), sum(call.size for call in calls)
        return [Answer({key: values[owner == k] for key, values in rows.items()}, together) for k in range(len(calls))]

    def _opened(self, photo: bytes) -> np.ndarray | BadPicture:
        try:
            return open_photo(photo, max_pixels=self.max_pixels)
        except BadPicture as error:
            return error

    async def _in_worker(self, function, *arguments):  # type: ignore[no-untyped-def]
        return await asyncio.get_running_loop().run_in_executor(self.worker, function, *arguments)


def adapted(asked: StageSpec, stage: Stage, job: GenerateJob) -> Stage:
    """Return the loaded `stage` with what a request may choose, weights shared."""
    if isinstance(stage, VisibleStage):
        return stage.with_sampling(job.sampling.steps, job.sampling.guidance)
    if isinstance(stage, ThermalStage):
        return stage.with_conditions(job.conditions)
    return stage if asked.part else asked.load(threads=1)  # a stage without weights is made in no time


def rows_of(calls: list[Call]) -> int:
    """Return how many rows `calls` have together."""
    return sum(call.size for call in calls)


def raised(result):  # type: ignore[no-untyped-def]
    """Return `result`, or raise it if it is an error: a batch answers each of its calls on its own."""
    if isinstance(result, Exception):
        raise result
    return result
