"""The faces stage: finds the face in each picture and embeds it; the service gives it single photographs of any size."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np

from models.columns import Columns
from models.errors import UserError
from models.faces.align import align
from models.faces.decode import Detections
from models.faces.metrics import unit_vectors
from models.faces.pack import Pack
from models.faces.recogniser import EMBEDDING
from models.faces.settings import Options
from models.stages import NoOptions

LARGE = 0.25
"""A face of this share of the picture's longer side makes it a portrait: small detectors take parts of a magnified face
for faces, so it is not enlarged. A second face below a tenth of the side goes unseen there."""


class Stage:
    """`visible` uint8 [B, S, S, 3] -> one face a picture.

    `bbox` float32 [B, 4] px, `keypoints` float32 [B, 5, 2] px, `detection_score` float32 [B], `found_embedding` float32
    [B, 512] (length one), all NaN where there is no face, and `faces` int32 [B], how many were found. Of several the
    large central one counts, as `FaceAnalysis.get(max_num=1)` chooses.

    Beyond the call every kind of this stage offers `find` and `embed`, for photographs of any size.
    """

    def __init__(
        self, weights: Mapping[str, Path], options: Options, *, dtype: str = "float32", threads: int = 1
    ) -> None:
        if dtype != "float32":
            raise UserError(f"faces.dtype is {dtype!r}: ONNX packs compute as exported; set it to float32.")
        cv2.setNumThreads(threads)
        self.options, self.pack = options, Pack(weights["model"], threads=threads)

    def __call__(self, rows: Columns, settings: NoOptions, batch: int) -> Columns:
        """Return the columns above."""
        pictures = rows["visible"]
        columns = no_faces(len(pictures))
        # Of every picture the face that it is of.
        for row, found in enumerate(self.pack.find(list(pictures), self.options.sizes, batch)):
            columns["faces"][row] = len(found.scores)
            if len(found.scores):
                best = found.main(*pictures[row].shape[:2])
                columns["bbox"][row], columns["keypoints"][row] = found.boxes[best], found.points[best]
                columns["detection_score"][row] = found.scores[best]
        # Who is shown: embeddings of length one.
        seen = np.flatnonzero(columns["faces"])
        columns["found_embedding"][seen] = unit_vectors(
            self.pack.embed(align(pictures[seen], columns["keypoints"][seen]), batch)
        )
        return columns

    def find(self, pictures: Sequence[np.ndarray], batch: int) -> list[Detections]:
        """Return the faces of photographs uint8 [H, W, 3] of any sizes; those without a large face get a closer look."""
        sizes, closer = self.options.sizes, self.options.closer
        faces = self.pack.find(pictures, sizes, batch)
        if not closer:
            return faces
        # Small detectors miss small faces: look closer where none is large.
        again = [row for row, found in enumerate(faces) if _largest(found) < LARGE * max(pictures[row].shape[:2])]
        for row, found in zip(again, self.pack.find([pictures[row] for row in again], (*sizes, *closer), batch)):
            faces[row] = found
        return faces

    def embed(self, pictures: Sequence[np.ndarray], points: np.ndarray, batch: int) -> np.ndarray:
        """Return embeddings float32 [B, 512] of length one: of the face at `points` float32 [B, 5, 2] px of each picture."""
        crops = [align(picture[None], five[None])[0] for picture, five in zip(pictures, points, strict=True)]
        return unit_vectors(self.pack.embed(np.stack(crops), batch))


def no_faces(count: int) -> Columns:
    """Return the columns of the stage for pictures in which no face is found."""
    return {
        "bbox": np.full((count, 4), np.nan, np.float32),
        "keypoints": np.full((count, 5, 2), np.nan, np.float32),
        "detection_score": np.full(count, np.nan, np.float32),
        "found_embedding": np.full((count, EMBEDDING), np.nan, np.float32),
        "faces": np.zeros(count, np.int32),
    }


def _largest(found: Detections) -> float:
    """Return the longer side of the largest face in px, 0 without one."""
    return float((found.boxes[:, 2:] - found.boxes[:, :2]).max(initial=0.0))
