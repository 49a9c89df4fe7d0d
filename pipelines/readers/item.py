"""What a layout makes of a folder: items (which files belong to a row), and samples (what is in them)."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import Literal, Protocol

import numpy as np
import pyarrow as pa

from models.temperature import Numbers, UnitName
from pipelines.config.gather import GatherJob
from pipelines.pictures.open import BadPicture, open_pages
from pipelines.pictures.thermal import open_frames, open_temperatures
from pipelines.storage.uri import Storage


@dataclass(frozen=True)
class Item:
    """One row to be. Names of files are below the job's `images` (thermal ones of T-FAKE below its `thermal`)."""

    name: str
    identity: str = ""
    """What the data set calls the person."""
    condition: str = ""
    visible: str = ""
    thermal: str = ""
    mask: str = ""
    points: str = ""
    given: list[float] | None = None
    """x, y in pixels of the points that a table holds, NaN where it has none."""
    group: int = 0
    row: int = -1
    """Place in a Parquet file, -1 for files."""
    facts: str = "{}"
    """JSON of what else the data set says of the row."""
    reason: str = ""
    """Why the listing already refuses it."""
    split: str = ""
    """train, validation or test where the data set says it."""


ITEM_SCHEMA = pa.schema(
    {
        "name": pa.string(),
        "identity": pa.string(),
        "condition": pa.string(),
        "visible": pa.string(),
        "thermal": pa.string(),
        "mask": pa.string(),
        "points": pa.string(),
        "given": pa.list_(pa.float32()),
        "group": pa.int32(),
        "row": pa.int32(),
        "facts": pa.string(),
        "reason": pa.string(),
        "split": pa.string(),
    }
)


@dataclass
class Sample:
    """The content of one item. Points are in pixels of the picture whose size `frame_shape` is, centres at .5.

    visible: uint8 [H, W, 3], colours ("rgb") or the thermal picture in grey ("thermal"). celsius: float32 [h, w], NaN
    without a reading. grey: uint8 [h, w], levels of the picture's own scale. classes: uint8 [H, W]. points: by standard,
    float32 [L, 2], NaN where one is not given.
    """

    visible: np.ndarray | None = None
    visible_kind: Literal["rgb", "thermal"] = "rgb"
    celsius: np.ndarray | None = None
    grey: np.ndarray | None = None
    classes: np.ndarray | None = None
    points: dict[int, np.ndarray] = field(default_factory=dict)
    came: bytes = b""
    """The visible picture's file, which is kept as it is where it fits."""

    @property
    def thermal(self) -> np.ndarray | None:
        """The thermal picture, degrees or grey."""
        return self.grey if self.celsius is None else self.celsius

    @property
    def frame_shape(self) -> tuple[int, int]:
        """Height and width of the picture that points and classes lie on: the visible one, without it the thermal one."""
        picture = self.thermal if self.visible is None else self.visible
        assert picture is not None, "a sample has a picture"
        return picture.shape[0], picture.shape[1]


class Layout(Protocol):
    """What a module of this package offers."""

    def list_items(self, job: GatherJob, files: dict[str, int], out: Storage | None) -> Iterator[Item]:
        """Yield the rows of a folder from its listing (name -> bytes) and its tables; pictures are not opened.

        Files that find no partner are items with a `reason`. out: where what must be converted once is kept.
        Raises UserError when the folder is not of this layout at all.
        """

    def read_samples(self, item: Item, job: GatherJob, out: Storage | None) -> list[Sample]:
        """Return what is in an item's files, a sample for each page. Raises BadPicture for what cannot be taken."""


def open_samples(
    visible: tuple[bytes, str] | None = None,
    thermal: tuple[bytes, str] | None = None,
    unit: UnitName | Numbers | Literal["grey"] = "centikelvin",
) -> list[Sample]:
    """Return a sample for each page of an item's pictures, each a file's content and name; thermal ones are in `unit`.

    Raises BadPicture for what is not taken, and for two files of different numbers of pages.
    """
    # The thermal pages: grey levels, also of raw counts of an unknown scale, or temperatures.
    samples = list[Sample]()
    if thermal and unit != "grey":
        samples = [Sample(celsius=frame) for frame in open_temperatures(*thermal, unit)]
    elif thermal:
        samples = [Sample(grey=_levels(frame)) for frame in open_frames(*thermal, "grey")]
    # The visible pages beside them; a file of one picture is kept as it is where it fits.
    if visible:
        pages = open_pages(*visible)
        samples = samples or [Sample() for _ in pages]
        if len(pages) != len(samples):
            raise BadPicture(f"mismatched: {len(samples)} thermal pages beside {len(pages)} visible ones")
        for sample, page in zip(samples, pages, strict=True):
            sample.visible, sample.came = page, visible[0] if len(pages) == 1 else b""
    return samples


def one_sample(samples: list[Sample]) -> Sample:
    """Return the only page. Raises BadPicture where there are several and what lies beside them belongs to one picture."""
    if len(samples) > 1:
        raise BadPicture(f"too many pages: {len(samples)} beside one mask or one set of points; split the file")
    return samples[0]


def _levels(frame: np.ndarray) -> np.ndarray:
    """Return grey levels as they are, raw counts stretched over the picture's own range, uint8."""
    if frame.dtype == np.uint8:
        return frame
    low, high = np.nanpercentile(frame, (0.1, 99.9))
    share = (frame.astype(np.float32) - low) / max(float(high - low), 1e-6)
    return (np.clip(np.nan_to_num(share), 0, 1) * 255 + 0.5).astype(np.uint8)


def stem(name: str) -> str:
    """Return a file's name without its extension, folders included."""
    return str(PurePath(name).with_suffix(""))
