"""Frames of a user's thermal camera as rows for training: the person in each, in degrees Celsius."""

import hashlib
import logging
from pathlib import PurePath

import cv2
import numpy as np

from models.errors import EnvironmentFault, UserError
from models.person import find_people
from models.temperature import Numbers, UnitName
from pipelines.pictures.open import BadPicture, open_mask
from pipelines.pictures.thermal import EXTENSIONS, MAX_FRAMES, open_temperatures
from pipelines.storage.errors import own_reason
from pipelines.storage.listing import list_sizes
from pipelines.storage.uri import Storage

log = logging.getLogger(__name__)

MASK = "_mask.png"
"""`NAME_mask.png` beside a frame `NAME.*`: not zero where the person is."""


def list_frames(folder: Storage) -> list[str]:
    """Return the frames below a folder, sorted, masks left out. Raises UserError when there are none."""
    if not folder.exists():
        raise UserError(f"{folder.uri} does not exist (a folder of thermal frames is asked for)")
    names = [
        name for name in list_sizes(folder) if PurePath(name).suffix.lower() in EXTENSIONS and not name.endswith(MASK)
    ]
    if not names:
        raise UserError(f"{folder.uri} holds no picture; extensions looked for: {', '.join(EXTENSIONS)}")
    return names


class Frames:
    """The frames of a folder as rows for training: `thermal` float32 [B, S, S] in degrees Celsius, NaN outside the person.

    Each page of a file is a frame. Its middle square is resized to `size`. The person is where `NAME_mask.png` says so, on
    all pages; without a mask, where `find_people` finds somebody. What cannot be used is named in `skipped` and left out.
    """

    def __init__(self, uri: str, size: int, unit: UnitName | Numbers = "centikelvin") -> None:
        self.folder, self.unit, self.skipped = Storage(uri), unit, list[str]()
        # Frames are small beside pictures: all are read at once, and what cannot be used is left out.
        found = set(self.folder.list())
        rows = list[np.ndarray]()
        for name in list_frames(self.folder):
            mask = f"{PurePath(name).with_suffix('')}{MASK}"
            try:
                rows += self._read(name, mask if mask in found else "", size)
            except BadPicture as error:
                self._skip(name, str(error))
            except (OSError, EnvironmentFault) as error:
                self._skip(name, own_reason(error))
        if not rows:
            raise UserError(f"{self.folder.uri}: no frame can be used; first: {self.skipped[0]}")
        self._rows = np.stack(rows)

    def __len__(self) -> int:
        return len(self._rows)

    def rows(self, indices: np.ndarray) -> dict[str, np.ndarray]:
        """Return the frames of `indices`."""
        return {"thermal": self._rows[indices]}

    def _skip(self, name: str, reason: str) -> None:
        self.skipped.append(f"{name}: {reason}")
        log.warning("skipped %s", self.skipped[-1])

    def _read(self, name: str, mask: str, size: int) -> list[np.ndarray]:
        """Return the pages of a file as rows, float32 [S, S] degrees Celsius; one without a person is skipped."""
        frames = open_temperatures(self.folder.read(name), name, self.unit, MAX_FRAMES)
        marked = self._read_mask(mask) if mask else None
        rows = []
        for page, celsius in enumerate(frames):
            # The pixels of the person that have a reading.
            if marked is not None and marked.shape != celsius.shape:
                raise BadPicture(f"mask: {mask} is {marked.shape[1]} x {marked.shape[0]} px, the frame is not")
            known = np.isfinite(celsius) & (find_people(celsius) if marked is None else marked)
            if known.any():
                rows.append(_resize_known(celsius, known, size))
            else:
                where = f"{name} (page {page})" if len(frames) > 1 else name
                self._skip(where, "no person: nothing is marked, or of a person's warmth and a face's size")
        return rows

    def _read_mask(self, name: str) -> np.ndarray:
        """Return where the person is by a mask, bool [H, W]."""
        marked = open_mask(self.folder.read(name), name)
        return (marked if marked.ndim == 2 else marked.max(axis=2)) > 0

    @property
    def digest(self) -> str:
        """What identifies the rows: their values."""
        return hashlib.sha256(self._rows.tobytes()).hexdigest()[:16]


def _resize_known(celsius: np.ndarray, known: np.ndarray, size: int) -> np.ndarray:
    """Return the middle square of a frame [H, W], float32 [S, S]: each pixel the mean of the known ones under it where these
    are most of it, else NaN.
    """
    side = min(celsius.shape)
    top, left = (celsius.shape[0] - side) // 2, (celsius.shape[1] - side) // 2
    middle = slice(top, top + side), slice(left, left + side)
    share = cv2.resize(known[middle].astype(np.float32), (size, size), interpolation=cv2.INTER_AREA)
    total = np.where(known, celsius, 0)[middle].astype(np.float32)
    total = cv2.resize(total, (size, size), interpolation=cv2.INTER_AREA)
    return np.where(share > 0.5, total / np.maximum(share, 0.5), np.nan).astype(np.float32)
