"""Frames of a user's thermal camera: 16-bit or float pictures in a unit, or 8-bit grey ones, which are no temperatures."""

import hashlib
import logging
from pathlib import PurePath

import cv2
import numpy as np

from models.errors import EnvironmentFault, UserError
from models.temperature import UNITS, Unit, from_unit, hint
from pipelines.pictures.open import FORMATS, BadPicture, open_any
from pipelines.storage.errors import own_reason
from pipelines.storage.uri import Storage

log = logging.getLogger(__name__)

MASK = "_mask.png"
"""`NAME_mask.png` beside a frame `NAME.*`: not zero where the person is."""

PLAUSIBLE = (-60.0, 200.0)
"""Median of a frame in degrees Celsius; outside, its unit is another than the one that was named."""


def open_frame(data: bytes, name: str, floats: bool = False) -> np.ndarray:
    """Return a frame upright, its values as stored: uint16 [H, W] counts or uint8 [H, W] grey levels; `name` is its file's.

    floats: float32 [H, W] is taken, too.

    Raises:
        BadPicture: not a picture, too large, a colour palette, or damaged; the message begins with the kind and a colon.
    """
    # Grey may be stored in three equal channels; colours are a palette.
    values = open_any(data, name)
    if values.ndim == 3:
        if (values[..., :1] != values[..., 1:3]).any():
            raise BadPicture("colours: a palette cannot be undone; export 16-bit centikelvin, or grey")
        values = values[..., 0]
    if values.dtype == np.float32 and not floats:
        raise BadPicture("float32 values: 16-bit centikelvin or 8-bit grey is read")
    return np.ascontiguousarray(values)


def read_temperatures(
    frame: np.ndarray, unit: Unit = "centikelvin", plausible: tuple[float, float] = PLAUSIBLE
) -> np.ndarray:
    """Return degrees Celsius float32 [H, W] of an opened frame, NaN without a reading.

    plausible: where the median must lie. Raises BadPicture for what cannot be in `unit`.
    """
    if frame.dtype == np.uint8:
        raise BadPicture(f"8-bit: grey levels are no temperatures; export 16-bit {unit}")
    # In the right unit the middle of the values is a temperature that may be.
    celsius = from_unit(frame, unit)
    known = celsius[np.isfinite(celsius)]
    if not known.size:
        raise BadPicture("no reading: every pixel is an end of the scale, 0 or NaN")
    median = float(np.median(known))
    if not plausible[0] <= median <= plausible[1] or (unit == "tfake" and _flat(known)):
        scale, offset = UNITS[unit]
        raise BadPicture(
            f"not {unit}: the median pixel would be {median:.0f} degC (value * {scale:.4g} {offset:+g})"
            f"{hint(frame, unit)}; name its unit, or convert the values"
        )
    return celsius


def _flat(celsius: np.ndarray) -> bool:
    """Whether T-FAKE's scale makes next to nothing of the values, as it does of centikelvin: a face spans degrees."""
    low, high = np.percentile(celsius, (1, 99))
    return bool(high - low < 1 and 27.7 < low < 30)


def list_frames(folder: Storage) -> list[str]:
    """Return the frames below a folder, sorted, masks left out. Raises UserError when there are none."""
    if not folder.exists():
        raise UserError(f"{folder.uri} does not exist (a folder of thermal frames is asked for)")
    names = [name for name in folder.list() if PurePath(name).suffix.lower() in FORMATS and not name.endswith(MASK)]
    if not names:
        raise UserError(f"{folder.uri} holds no picture; extensions looked for: {', '.join(FORMATS)}")
    return names


class Frames:
    """The frames of a folder as rows for training: `thermal` float32 [B, S, S] in degrees Celsius, NaN outside the person.

    The middle square of a frame is resized to `size`. The person is where `NAME_mask.png` says so; without a mask, what is
    warmer than Otsu's threshold of the frame. A frame that cannot be used is named in `skipped` and left out.
    """

    def __init__(self, uri: str, size: int, unit: Unit = "centikelvin") -> None:
        self.folder, self.unit, self.skipped = Storage(uri), unit, list[str]()
        # Frames are small beside pictures: all are read at once, and what cannot be used is left out.
        found = set(self.folder.list())
        rows = []
        for name in list_frames(self.folder):
            mask = f"{PurePath(name).with_suffix('')}{MASK}"
            try:
                rows.append(self._read(name, mask if mask in found else "", size))
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

    def _read(self, name: str, mask: str, size: int) -> np.ndarray:
        """Return a frame as a row, float32 [S, S] degrees Celsius."""
        # The pixels of the person that have a reading.
        celsius = read_temperatures(open_frame(self.folder.read(name), name, floats=True), self.unit)
        person = self._find_person(celsius, mask)
        known = np.isfinite(celsius) & person
        if not known.any():
            raise BadPicture("no person: nothing is marked or warm")
        # The middle square, each new pixel the mean of the known ones under it where these are most of it.
        side = min(celsius.shape)
        top, left = (celsius.shape[0] - side) // 2, (celsius.shape[1] - side) // 2
        middle = slice(top, top + side), slice(left, left + side)
        share = cv2.resize(known[middle].astype(np.float32), (size, size), interpolation=cv2.INTER_AREA)
        total = np.where(known, celsius, 0)[middle].astype(np.float32)
        total = cv2.resize(total, (size, size), interpolation=cv2.INTER_AREA)
        return np.where(share > 0.5, total / np.maximum(share, 0.5), np.nan).astype(np.float32)

    def _find_person(self, celsius: np.ndarray, mask: str) -> np.ndarray:
        """Return where the person is, bool [H, W]."""
        # Without a mask: what is warmer than Otsu's threshold.
        if not mask:
            known = celsius[np.isfinite(celsius)]
            grey = np.clip((known - known.min()) / max(float(np.ptp(known)), 1e-6) * 65535, 0, 65535).astype(np.uint16)
            threshold, _ = cv2.threshold(grey, 0, 65535, cv2.THRESH_OTSU)
            return celsius > known.min() + threshold / 65535 * np.ptp(known)
        marked = open_frame(self.folder.read(mask), mask)
        if marked.shape != celsius.shape:
            raise BadPicture(f"mask: {mask} is {marked.shape[1]} x {marked.shape[0]} px, the frame is not")
        return marked > 0

    @property
    def digest(self) -> str:
        """What identifies the rows: their values."""
        return hashlib.sha256(self._rows.tobytes()).hexdigest()[:16]
