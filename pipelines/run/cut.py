"""Faces cut out of pictures: each becomes a row of its own, in the actor that holds the first stage of the chain."""

import itertools
from collections.abc import Mapping
from typing import Any

import numpy as np

from models.columns import Columns
from models.temperature import to_centikelvin
from pipelines.config.chain import FaceCut
from pipelines.pictures.open import BadPicture, open_pages
from pipelines.pictures.square import Box, make_square
from pipelines.pictures.thermal import open_frames
from pipelines.plan.thermalize import Photo, columns_of, page_of
from pipelines.plan.translate import Frame, row_of, to_degrees
from pipelines.plan.translate import columns_of as translation_columns
from pipelines.rows.ids import face_id

Facts = dict[str, np.ndarray]
PLANNED = ("sample_id", "picture", "name", "person")


class FaceCutter:
    """Rows of encoded pictures in (`plan.thermalize.frame_columns`), rows of faces out, as the stages take them.

    A face's row has `bbox` and `detection_score` in its own pixels, and `source_box` float32 [4], where in the upright
    picture it was cut out. A picture that cannot be opened or shows no face keeps one row, with the reason.
    """

    def __init__(self, cut: FaceCut, threads: int) -> None:
        self.cut, self.batch, self.stage = cut, cut.link.batch(0), cut.link.load(threads)

    def __call__(self, block: Columns) -> Columns:
        rows, photos, facts = list[dict[str, Any]](), list[Photo](), list[Facts]()
        for k in range(len(block["sample_id"])):
            planned = {name: str(block[name][k]) for name in PLANNED}
            # A picture that could not be read or opened stays as it is.
            try:
                if block["reject"][k]:
                    raise BadPicture(str(block["reject"][k]))
                pages = open_pages(bytes(block["frame"][k]), str(block["frame_name"][k]))
            except BadPicture as error:
                rows, photos, facts = [*rows, planned], [*photos, Photo(str(error))], [*facts, _no_face()]
                continue
            # A row for every face of every page.
            for page, picture in enumerate(pages):
                for row, photo, fact in self._cut_page(page_of(planned, page), picture):
                    rows.append(row)
                    photos.append(photo)
                    facts.append(fact)
        columns = columns_of(rows, photos, self.cut.size, has_classes=False, partition=int(block["partition"][0]))
        return columns | {name: np.stack([fact[name] for fact in facts]) for name in facts[0]}

    def _cut_page(self, row: Mapping[str, Any], picture: np.ndarray) -> list[tuple[dict[str, Any], Photo, Facts]]:
        """Return row, square and facts of the largest faces of a picture uint8 [H, W, 3], the largest first."""
        (found,) = self.stage.find([picture], self.batch)  # type: ignore[attr-defined]
        if not len(found.scores):
            return [(dict(row), Photo("no face: none was found"), _no_face())]
        sides = found.boxes[:, 2:] - found.boxes[:, :2]
        largest = np.argsort(-sides.prod(axis=1), kind="stable")[: self.cut.faces]
        cuts = []
        for face, index in enumerate(largest):
            own = {
                **row,
                "sample_id": face_id(row["sample_id"], face),
                "name": f"{row['name']}-face{face}",
                "picture": f"{row['picture']}#face{face}",
            }
            square, box, source = cut_square(picture, found.boxes[index], self.cut.margin, self.cut.size)
            scale = self.cut.size / (source[2] - source[0])
            bbox = (found.boxes[index].reshape(2, 2) - source[:2]).ravel() * scale
            fact = {"bbox": bbox, "detection_score": found.scores[index], "source_box": source}
            cuts.append(
                (own, Photo("", square, None, box), {key: np.asarray(one, np.float32) for key, one in fact.items()})
            )
        return cuts


class ThermalCutter:
    """Rows of encoded thermal frames in, rows of translations of their faces out: `samples` of each face, the surest first.

    Faces are found by the landmarker's windows. Facts as `FaceCutter` has them; a frame that cannot be opened or shows no face
    keeps one row, with the reason.
    """

    def __init__(self, cut: FaceCut, threads: int) -> None:
        assert cut.frames is not None
        self.cut, self.frames, self.stage = cut, cut.frames, cut.link.load(threads)

    def __call__(self, block: Columns) -> Columns:
        rows, squares, facts = list[dict[str, Any]](), list[Frame](), list[Facts]()
        for k in range(len(block["sample_id"])):
            planned = {name: str(block[name][k]) for name in PLANNED}
            try:
                if block["reject"][k]:
                    raise BadPicture(str(block["reject"][k]))
                frames = open_frames(bytes(block["frame"][k]), str(block["frame_name"][k]), self.frames.unit)
                found = [self._cut_frame(page_of(planned, page), frame) for page, frame in enumerate(frames)]
            except BadPicture as error:
                found = [[(planned, Frame(str(error)), _no_face())]]
            # A row for every translation of every face; one that is not taken keeps a single row.
            for own, square, fact in itertools.chain.from_iterable(found):
                for draw in range(1 if square.reason else self.frames.samples):
                    rows.append(row_of(own, 0, draw))
                    squares.append(square)
                    facts.append(fact)
        columns = translation_columns(rows, squares, self.cut.size, partition=int(block["partition"][0]))
        return columns | {name: np.stack([fact[name] for fact in facts]) for name in facts[0]}

    def _cut_frame(self, row: dict[str, Any], frame: np.ndarray) -> list[tuple[dict[str, Any], Frame, Facts]]:
        """Return row, square and facts of the surest faces of a frame, degrees or grey levels [H, W]."""
        celsius, kind = to_degrees(frame, self.frames.palette, self.frames.grey)
        found = self.stage.find_frame(celsius, self.cut.faces)  # type: ignore[attr-defined]
        if not found:
            return [(row, Frame("no face: none was found"), _no_face())]
        # What lies beyond the frame is as cold as its coldest pixel.
        coldest, cuts = float(celsius.min()), []
        for number, face in enumerate(found):
            own = {
                **row,
                "sample_id": face_id(row["sample_id"], number),
                "name": f"{row['name']}-face{number}",
                "picture": f"{row['picture']}#face{number}",
            }
            shifted = (celsius - coldest)[..., None].repeat(3, axis=2)
            square, box, source = cut_square(shifted, face.box, self.cut.margin, self.cut.size)
            scale = self.cut.size / (source[2] - source[0])
            bbox = (face.box.reshape(2, 2) - source[:2]).ravel() * scale
            fact = {"bbox": bbox, "detection_score": np.float32(1 / (1 + 1e3 * face.uncertainty)), "source_box": source}
            thermal = to_centikelvin(square[..., 0] + coldest)
            facts = {key: np.asarray(one, np.float32) for key, one in fact.items()}
            cuts.append((own, Frame("", thermal, kind, box), facts))
        return cuts


def cut_square(picture: np.ndarray, box: np.ndarray, margin: float, side: int) -> tuple[np.ndarray, Box, np.ndarray]:
    """Return the square about a face, where picture and not padding is in it, and where it lies in the picture.

    picture: uint8 or float32 [H, W, 3]. box: float [4] px. margin: share of the box's longer side, added on every side.

    Returns ([side, side, 3] of that type, x0, y0, x1, y1 px of the square, float64 [4] px of the picture): the latter may
    reach beyond the picture; what lies there is zero.
    """
    height, width = picture.shape[:2]
    # Whole pixels, so that nothing is resampled twice.
    (x0, y0), (x1, y1) = box[:2], box[2:]
    whole = max(round(float(max(x1 - x0, y1 - y0)) * (1 + 2 * margin)), 1)
    left, top = round(float(x0 + x1 - whole) / 2), round(float(y0 + y1 - whole) / 2)
    # What of the square lies in the picture, on black.
    inner = (max(left, 0), max(top, 0), min(left + whole, width), min(top + whole, height))
    square = np.zeros((whole, whole, 3), picture.dtype)
    square[inner[1] - top : inner[3] - top, inner[0] - left : inner[2] - left] = picture[
        inner[1] : inner[3], inner[0] : inner[2]
    ]
    # The content's edges on the new grid, rounded outwards.
    starts = [(edge - first) * side // whole for edge, first in zip(inner[:2], (left, top))]
    ends = [-(-(edge - first) * side // whole) for edge, first in zip(inner[2:], (left, top))]
    source = np.array([left, top, left + whole, top + whole], float)
    return make_square(square, side)[0], (starts[0], starts[1], ends[0], ends[1]), source


def _no_face() -> Facts:
    """Return the facts of a row without a face."""
    nothing = np.full(4, np.nan, np.float32)
    return {"bbox": nothing, "detection_score": nothing[0], "source_box": nothing}
