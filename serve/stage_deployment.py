"""One stage group as a deployment: the chain of the jobs, its weights loaded once, fed with batches from many requests."""

import asyncio
import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from ray import serve as ray_serve

from models.columns import Columns
from models.errors import UserError
from models.faces.decode import Detections
from models.landmarks.standards import Standard
from pipelines.config.chain import ChainSpec
from pipelines.embed import find_faces
from pipelines.pictures.open import BadPicture, open_photo
from pipelines.run.chain import Chain, stack_rows

Result = TypeVar("Result")


@dataclass(frozen=True)
class Call:
    """Rows for some stages of a group, and what their request asks of them."""

    chain: ChainSpec
    """All stages that the request goes through, with their settings."""
    stages: tuple[str, ...]
    """Those of this group."""
    attempts: int
    rows: Columns

    @property
    def size(self) -> int:
        """Rows that are computed at most."""
        return int(self.rows["final"].sum()) if "final" in self.rows else len(self.rows["sample_id"])

    @property
    def key(self) -> str:
        """Calls with the same key may share a compute batch: they ask the same, and their rows have the same columns."""
        asked = [(link.stage, link.settings.model_dump(mode="json")) for link in self.chain.links]
        return json.dumps([self.stages, asked, self.chain.given, self.attempts, sorted(self.rows)])


@dataclass(frozen=True)
class CallResult:
    """The rows of a call after its stages, and how many rows of all callers were computed together."""

    rows: Columns
    batch_rows: int


class StageDeployment:
    """The stages of `chain` in one process, one batch at a time.

    Rows are gathered over requests until there are `most` or `wait` seconds have passed. Shorter batches are padded by the
    stages, so what a row comes out as does not depend on the company it had.
    """

    def __init__(self, chain: ChainSpec, threads: int, most: int, wait: float, max_pixels: int) -> None:
        self.max_pixels = max_pixels
        # Stages are loaded where they are called, in one thread: some libraries keep what is set by thread.
        self.worker = ThreadPoolExecutor(1)
        self.stages: dict[str, Any] = {
            link.stage: self.worker.submit(link.load, threads).result() for link in chain.links
        }
        self.batches = {link.stage: link.batch(0) for link in chain.links}

        # Ray Serve gathers calls into batches, whose sizes follow from the parts.
        @ray_serve.batch(max_batch_size=most, batch_wait_timeout_s=wait, batch_size_fn=rows_of)
        async def compute_batch(calls: list[Call]) -> list[CallResult | UserError]:
            return await self._in_worker(lambda: self.compute(calls))

        @ray_serve.batch(max_batch_size=self.batches.get("faces", 1), batch_wait_timeout_s=wait)
        async def embed_batch(photos: list[bytes]) -> list[dict | BadPicture]:
            return await self._in_worker(lambda: self.embed_faces(photos))

        self._compute_batch, self._embed_batch = compute_batch, embed_batch

    async def run(self, call: Call) -> CallResult:
        """Return the rows of `call` after its stages.

        Raises:
            UserError: the request asks for something that these models do not have.
            EnvironmentFault: memory, disk or weights failed.
        """
        return unwrap(await self._compute_batch(call))

    async def embed(self, photo: bytes) -> dict:
        """Return what `pipelines.embed.SCHEMA` says of an encoded picture. Raises BadPicture for one that is not taken."""
        return unwrap(await self._embed_batch(photo))

    async def find(self, photo: bytes) -> Detections:
        """Return the faces of an encoded picture. Raises BadPicture for one that is not taken."""

        def detect() -> Detections:
            picture = open_photo(photo, max_pixels=self.max_pixels)
            return self.stages["faces"].find([picture], self.batches["faces"])[0]

        return await self._in_worker(detect)

    async def landmarks(self, photo: bytes, found: Detections, points: Standard) -> list[dict]:
        """Return the landmarks of the faces `found` in an encoded picture, with the columns of the record.

        Raises:
            UserError: the part has no landmarks of so many points.
        """

        def place() -> list[dict]:
            picture = open_photo(photo, max_pixels=self.max_pixels)
            faces = self.stages["landmarks"].at_boxes(picture, found.boxes, points, self.batches["landmarks"])
            return [
                {
                    "bbox": box,
                    "detection_score": score,
                    f"landmarks_{points}": face.points.ravel(),
                    f"variance_{points}_visible": face.variance,
                }
                for box, score, face in zip(found.boxes, found.scores, faces, strict=True)
            ]

        return await self._in_worker(place)

    def compute(self, calls: list[Call]) -> list[CallResult | UserError]:
        """Run each set of calls that ask the same as one chain over all their rows."""
        results: dict[int, CallResult | UserError] = {}
        for key in dict.fromkeys(call.key for call in calls):
            places = [place for place, call in enumerate(calls) if call.key == key]
            try:
                results |= zip(places, self._run_chain([calls[place] for place in places]))
            except UserError as error:  # of this request alone; the others of the batch are not to blame
                results |= dict.fromkeys(places, error)
        return [results[place] for place in range(len(calls))]

    def embed_faces(self, photos: list[bytes]) -> list[dict | BadPicture]:
        """Decode pictures and find and embed their faces; those that cannot be taken come back as their reason."""
        opened = [self._try_open(photo) for photo in photos]
        good = [picture for picture in opened if not isinstance(picture, BadPicture)]
        rows = iter(find_faces(self.stages["faces"], good, self.batches["faces"]))
        return [picture if isinstance(picture, BadPicture) else next(rows) for picture in opened]

    def _run_chain(self, calls: list[Call]) -> list[CallResult]:
        """Return the results of calls of one key, whose rows go through the stages together."""
        # The chain that all of them ask for, over the stages that are loaded.
        first = calls[0]
        names = first.chain.part_of(first.stages).stages
        chain = Chain(first.chain, names, first.attempts, loaded=[self.stages[name] for name in names])
        marked = [{**call.rows, "call": np.full(len(call.rows["sample_id"]), k)} for k, call in enumerate(calls)]
        rows = chain(stack_rows(marked))
        # Redraws come back as further rows, so each says whose it is.
        owner, batch_rows = rows.pop("call"), sum(call.size for call in calls)
        return [
            CallResult({key: values[owner == k] for key, values in rows.items()}, batch_rows) for k in range(len(calls))
        ]

    def _try_open(self, photo: bytes) -> np.ndarray | BadPicture:
        try:
            return open_photo(photo, max_pixels=self.max_pixels)
        except BadPicture as error:
            return error

    async def _in_worker(self, work: Callable[[], Result]) -> Result:
        return await asyncio.get_running_loop().run_in_executor(self.worker, work)


def rows_of(calls: list[Call]) -> int:
    """Return how many rows `calls` have together."""
    return sum(call.size for call in calls)


def unwrap(result: Result | Exception) -> Result:
    """Return `result`, or raise it if it is an error: a batch answers each of its calls on its own."""
    if isinstance(result, Exception):
        raise result
    return result
