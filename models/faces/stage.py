"""The stage that looks at generated pictures: where is the face, and whose is it."""

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from models.errors import UserError
from models.faces.align import aligned
from models.faces.pack import Pack
from models.faces.recogniser import EMBEDDING


class FacesStage:
    """`visible` uint8 [B, S, S, 3] -> one face a picture.

    `bbox` float32 [B, 4] px, `keypoints` float32 [B, 5, 2] px, `detection_score` float32 [B], `found_embedding` float32
    [B, 512] (length one), all NaN where there is no face, and `faces` int32 [B], how many were found. Of several the
    large central one counts, as `FaceAnalysis.get(max_num=1)` chooses.

    weights: an insightface pack. sizes: inputs of the detector; one of the pictures' own size is enough for portraits.
    """

    def __init__(
        self,
        weights: Path,
        *,
        dtype: str = "float32",
        threads: int = 1,
        batch: int = 32,
        sizes: Sequence[Sequence[int]] = ((128, 128),),
    ) -> None:
        if dtype != "float32":
            raise UserError(f"faces.dtype is {dtype!r}: ONNX packs compute as exported; set it to float32.")
        wrong = [list(size) for size in sizes if len(size) != 2 or any(side <= 0 or side % 32 for side in size)]
        if wrong or not sizes:
            raise UserError(
                f"faces.options.sizes: {wrong or 'none'} given; each is a width and a height, multiples of 32."
            )
        cv2.setNumThreads(threads)
        self.sizes = [(int(size[0]), int(size[1])) for size in sizes]
        self.pack = Pack(Path(weights), threads=threads, batch=batch)

    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Return `batch` with the columns above."""
        pictures = batch["visible"]
        count = len(pictures)
        columns = {
            "bbox": np.full((count, 4), np.nan, np.float32),
            "keypoints": np.full((count, 5, 2), np.nan, np.float32),
            "detection_score": np.full(count, np.nan, np.float32),
            "found_embedding": np.full((count, EMBEDDING), np.nan, np.float32),
            "faces": np.zeros(count, np.int32),
        }
        for row, found in enumerate(self.pack.find(list(pictures), self.sizes)):
            columns["faces"][row] = len(found.scores)
            if len(found.scores):
                best = found.main(*pictures[row].shape[:2])
                columns["bbox"][row], columns["keypoints"][row] = found.boxes[best], found.points[best]
                columns["detection_score"][row] = found.scores[best]
        seen = np.flatnonzero(columns["faces"])
        vectors = self.pack.embed(aligned(pictures[seen], columns["keypoints"][seen]))
        columns["found_embedding"][seen] = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
        return {**batch, **columns}
