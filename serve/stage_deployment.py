"""One stage group as a deployment: the chain of the jobs, its weights loaded once, fed with batches from many requests."""

import asyncio
import json
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import numpy as np

from models.columns import Columns
from models.errors import UserError
from models.faces.decode import Detections
from models.landmarks.intensity import unit_values
from models.landmarks.settings import Standard
from models.temperature import UnitName
from pipelines.config.chain import ChainSpec, Link
from pipelines.pictures.faces import find_faces
from pipelines.pictures.open import BadPicture, open_any, open_photo
from pipelines.pictures.thermal_faces import load_thermal_faces, open_thermal
from pipelines.plan.photos import file_name
from pipelines.run.chain import Chain, stack_rows
from serve.batching import Answer, Batcher
from serve.http.fields import Modality

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


class StageDeployment:
    """The stages of `chain` in one process, one batch at a time: see `Batcher`.

    most: rows of one batch of `run`. wait: how long a batch that is not full waits for company, in seconds. Shorter batches
    are padded by the stages, so what a row comes out as does not depend on the company it had. thermal: the parts that embed
    thermal faces, where the bundle has them; they are loaded beside the faces part.
    """

    def __init__(
        self, chain: ChainSpec, threads: int, most: int, wait: float, max_pixels: int, thermal: Sequence[Link] = ()
    ) -> None:
        self.most, self.max_pixels = most, max_pixels
        self.batcher = Batcher(wait)
        # Stages are loaded where they are called, in one thread: some libraries keep what is set by thread.
        self.stages: dict[str, Any] = {
            link.stage: self.batcher.worker.submit(link.load, threads).result() for link in chain.links
        }
        if thermal and "faces" in self.stages:
            self.thermal = self.batcher.worker.submit(load_thermal_faces, thermal, threads).result()
        self.batches = {link.stage: link.batch(0) for link in chain.links}

    async def run(self, call: Call) -> Answer[Columns]:
        """Return the rows of `call` after its stages.

        Raises:
            UserError: the request asks for something that these models do not have.
            EnvironmentFault: memory, disk or weights failed.
        """
        return await self.batcher.submit(self.run_chain, call, call.key, call.size, self.most)

    async def embed(
        self, photos: Sequence[bytes], modality: Modality = "visible", unit: UnitName | None = None
    ) -> list[Answer[dict] | BadPicture]:
        """Return what `pipelines.embed.FACE_SCHEMA` says of each encoded picture, or why it is not taken."""
        compute = self.embed_faces if modality == "visible" else partial(self.embed_thermal, unit)
        return await self._submit_each(compute, photos, ("embed", modality, unit), self.batches["faces"])

    async def find(self, photos: Sequence[bytes]) -> list[Answer[Detections] | BadPicture]:
        """Return the faces of each encoded picture, or why it is not taken."""
        return await self._submit_each(self.find_faces, photos, "find", self.batches["faces"])

    async def landmarks(
        self, looks: Sequence[tuple[bytes, Detections | None]], points: Standard
    ) -> list[Answer[list[dict]] | BadPicture]:
        """Return the landmarks of the faces of each encoded picture, with the columns of the record, or why it is not taken.

        looks: pictures and their faces, None for all of them where the faces part is in this deployment, too.

        Raises:
            UserError: the part has no landmarks of so many points.
        """
        key = ("landmarks", points, looks[0][1] is None)
        return await self._submit_each(partial(self.place_landmarks, points), looks, key, self.batches["landmarks"])

    async def _submit_each(
        self, compute: Callable[[list[Any]], Sequence[Any]], items: Sequence[Any], key: Hashable, most: int
    ) -> list[Answer[Any] | BadPicture]:
        """Return what `compute` makes of each item, or why its picture is not taken. The items have gathered: nothing waits."""
        asked = [self.batcher.submit(compute, item, key, 1, most, wait=0) for item in items]
        results = await asyncio.gather(*asked, return_exceptions=True)
        failed = next((one for one in results if not isinstance(one, Answer | BadPicture)), None)
        if failed is not None:
            raise failed
        return results  # type: ignore[return-value]

    def run_chain(self, calls: list[Call]) -> list[Columns]:
        """Return the rows of calls of one key, which go through the stages together."""
        # The chain that all of them ask for, over the stages that are loaded.
        first = calls[0]
        names = first.chain.part_of(first.stages).stages
        chain = Chain(first.chain, names, first.attempts, loaded=[self.stages[name] for name in names])
        marked = [{**call.rows, "call": np.full(len(call.rows["sample_id"]), k)} for k, call in enumerate(calls)]
        rows = chain(stack_rows(marked))
        # Redraws come back as further rows, so each says whose it is.
        owner = rows.pop("call")
        return [{key: values[owner == k] for key, values in rows.items()} for k in range(len(calls))]

    def embed_faces(self, photos: list[bytes]) -> list[dict | BadPicture]:
        """Return the face and embedding of each encoded picture, or why it is not taken."""
        return self._with_pictures(
            photos, lambda good: find_faces(self.stages["faces"], good, self.batches["faces"]), self._open_photo
        )

    def embed_thermal(self, unit: UnitName | None, photos: list[bytes]) -> list[dict | BadPicture]:
        """Return the face and embedding of each encoded thermal picture, or why it is not taken."""

        def look(photo: bytes) -> np.ndarray:
            return open_thermal(photo, file_name(photo), unit, pages=1, max_pixels=self.max_pixels)[0]

        found = partial(find_faces, self.thermal, batch=self.batches["faces"])
        return self._with_pictures(photos, found, look)

    def find_faces(self, photos: list[bytes]) -> list[Detections | BadPicture]:
        """Return the faces of each encoded picture, or why it is not taken."""
        return self._with_pictures(photos, self._find, self._open_any)

    def place_landmarks(
        self, points: Standard, looks: list[tuple[bytes, Detections | None]]
    ) -> list[list[dict] | BadPicture]:
        """Return the landmarks of all faces of each encoded picture, or why it is not taken."""
        given = [found for _, found in looks if found is not None]

        def place(pictures: list[np.ndarray]) -> list[list[dict]]:
            detections = given or self._find(pictures)
            boxes = [found.boxes for found in detections]
            faces = self.stages["landmarks"].at_boxes(pictures, boxes, points, self.batches["landmarks"])
            return [_describe_faces(*pair, points) for pair in zip(detections, faces, strict=True)]

        return self._with_pictures([photo for photo, _ in looks], place, self._open_any)

    def _find(self, pictures: list[np.ndarray]) -> list[Detections]:
        """Return the faces of pictures as `_open_any` gives them; a detector looks at 8 bits."""
        plain = [
            picture if picture.dtype == np.uint8 else np.rint(picture * 255).astype(np.uint8) for picture in pictures
        ]
        return self.stages["faces"].find(plain, self.batches["faces"])

    def _with_pictures(
        self,
        photos: list[bytes],
        work: Callable[[list[np.ndarray]], Sequence[Result]],
        look: Callable[[bytes], np.ndarray],
    ) -> list[Result | BadPicture]:
        """Return what `work` makes of the pictures that `look` can open; the others come back as their reason."""
        opened = [_try_open(photo, look) for photo in photos]
        good = [picture for picture in opened if not isinstance(picture, BadPicture)]
        results = iter(work(good) if good else [])
        return [picture if isinstance(picture, BadPicture) else next(results) for picture in opened]

    def _open_photo(self, photo: bytes) -> np.ndarray:
        """Return an encoded picture as uint8 [H, W, 3]."""
        return open_photo(photo, max_pixels=self.max_pixels)

    def _open_any(self, photo: bytes) -> np.ndarray:
        """Return an encoded picture as uint8 [H, W, 3], a thermal one of more than 8 bits as what a landmarker sees of it:
        float32 [H, W, 3] in [0, 1]."""
        picture = open_any(photo, max_pixels=self.max_pixels)
        if picture.dtype != np.uint8:
            return unit_values(picture)
        return picture if picture.ndim == 3 else np.repeat(picture[..., None], 3, axis=2)


def _try_open(photo: bytes, look: Callable[[bytes], np.ndarray]) -> np.ndarray | BadPicture:
    """Return an encoded picture as `look` opens it, or why it is not taken."""
    try:
        return look(photo)
    except BadPicture as error:
        return error
    except UserError as error:  # values that are no picture
        return BadPicture(f"not counts: {error}")


def _describe_faces(found: Detections, faces: Sequence[Any], points: Standard) -> list[dict]:
    """Return a row of the record's columns for each face that was found in a picture."""
    return [
        {
            "bbox": box,
            "detection_score": score,
            f"landmarks_{points}": face.points.ravel(),
            f"variance_{points}_visible": face.variance,
        }
        for box, score, face in zip(found.boxes, found.scores, faces, strict=True)
    ]
