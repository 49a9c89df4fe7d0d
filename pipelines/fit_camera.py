"""`thermapair fit-camera`: frames of a user's thermal camera in, a domain file with its noise, blur, range and AGC out."""

import io
import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import yaml
from PIL import Image

from models.errors import UserError
from models.synthworld.camera import calibrate
from models.synthworld.camera.sensor import Camera
from models.synthworld.sampling.domain import load_domain
from models.temperature import Numbers, UnitName
from pipelines.pictures.open import BadPicture
from pipelines.pictures.thermal import MAX_FRAMES, open_frames
from pipelines.readers.frames import list_frames
from pipelines.storage.uri import Storage

log = logging.getLogger(__name__)
Entry = TypeVar("Entry")

FRAMES = 200
"""Frames that are looked at: evenly spread over the folder, and over the pages of each file."""
DIGITS = {"mtf_px": 2, "netd_mk": 1, "row_mk": 1, "column_mk": 1, "count_k": 3, "low_c": 1, "high_c": 1}


@dataclass(frozen=True)
class Fit:
    """What was found: `kind` of the pictures, JPEG `jpeg` quality (0: none), camera values, and what frames cannot tell."""

    kind: str
    jpeg: int
    frames: int
    found: dict[str, float]
    skipped: list[str]

    @property
    def unknown(self) -> list[str]:
        """Values of a camera that stay the reference's."""
        return [name for name in Camera.model_fields if name not in self.found]

    def __str__(self) -> str:
        lines = [f"{self.frames} frames: {self.kind}" + (f", JPEG quality {self.jpeg}" if self.jpeg else "")]
        lines += [f"  {name:10} {value:g}" for name, value in self.found.items()]
        lines += [f"  the reference's: {', '.join(self.unknown)}"]
        return "\n".join([*lines, *(f"  skipped {text}" for text in self.skipped[:20])])


def run(images: str, out: Path, *, name: str = "", unit: UnitName | Numbers = "centikelvin") -> Fit:
    """Estimate the camera behind the frames below the folder `images` and write the domain file `out`.

    16-bit and float frames are in `unit`; where there are only 8-bit ones, grey levels tell no kelvin. Frames that cannot be used
    are named and left out.

    Raises:
        UserError: no frame can be used, or `out` is no name of a YAML file.
    """
    if out.suffix not in (".yaml", ".yml"):
        raise UserError(f"--out {out}: a domain file is YAML; give it a name that ends in .yaml")
    # Frames that are evenly spread over the folder.
    folder = Storage(images)
    names = list_frames(folder)
    chosen = spread_evenly(names, FRAMES)
    # Degrees and grey levels apart; of grey ones it counts how they were compressed.
    thermal, grey, qualities, skipped = list[np.ndarray](), list[np.ndarray](), list[int](), list[str]()
    for file in chosen:
        try:
            data = folder.read(file)
            for frame in spread_evenly(open_frames(data, file, unit, MAX_FRAMES), -(-FRAMES // len(chosen))):
                if frame.dtype == np.uint8:
                    grey.append(frame)
                    qualities.append(jpeg_quality(data))
                else:
                    thermal.append(frame)
        except BadPicture as error:
            skipped.append(f"{file}: {error}")
            log.warning("skipped %s", skipped[-1])
    # The domain file, and whether the world can read it: else it is a defect, no result.
    fit = _fit(folder.uri, thermal, grey, qualities, skipped)
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(domain_text(fit, name or out.stem, folder.uri), encoding="utf-8")
    load_domain(out)
    return fit


def spread_evenly(entries: Sequence[Entry], most: int) -> list[Entry]:
    """Return at most so many entries of a list, evenly spread over it."""
    return [
        entries[k] for k in np.unique(np.linspace(0, len(entries) - 1, min(len(entries), most)).round().astype(int))
    ]


def _fit(uri: str, thermal: list[np.ndarray], grey: list[np.ndarray], qualities: list[int], skipped: list[str]) -> Fit:
    """Return the camera behind frames float32 [H, W] in degrees, or, where there are none, behind grey ones uint8 [H, W]."""
    # Degrees say more than grey levels, whose range and compression are part of the camera.
    try:
        if thermal:
            found, kind, jpeg, count = calibrate.estimate_from_temperatures(thermal), "measured", 0, len(thermal)
        elif grey:
            found, count = calibrate.estimate_from_grey(grey), len(grey)
            kind = "agc" if calibrate.is_equalised(grey) else "minmax"
            jpeg = Counter(qualities).most_common(1)[0][0]
        else:
            raise ValueError(f"first: {skipped[0]}")
    except ValueError as error:
        raise UserError(f"{uri}: no frame can be used; {error}") from None
    values = {name: round(value, DIGITS[name]) for name, value in asdict(found).items() if value is not None}
    return Fit(kind, jpeg, count, values, skipped)


def domain_text(fit: Fit, name: str, source: str) -> str:
    """Return the domain file: what differs from `domains/reference.yaml`, with what is not known said above."""
    capture: dict[str, Any] = {"thermal": fit.kind}
    if fit.found:
        capture["camera"] = fit.found
    capture["jpeg"] = fit.jpeg
    content = {"name": name, "stands_for": f"the camera of {fit.frames} frames", "capture": capture}
    head = (
        f"# Estimated by `thermapair fit-camera` from {fit.frames} frames in {source}.\n"
        f"# Not told by frames of an unknown scene, so as in reference.yaml: {', '.join(fit.unknown)}.\n"
        "# People, pose, framing, room and native_face_px are the reference's, too: add yours (see domains/*.yaml).\n"
    )
    return head + yaml.safe_dump(content, sort_keys=False)


def jpeg_quality(data: bytes) -> int:
    """Return the quality 1..100 that libjpeg was asked for, by the luminance table's nearest match; 0 for no JPEG."""
    with Image.open(io.BytesIO(data)) as picture:
        tables = getattr(picture, "quantization", None)
    if not tables:
        return 0
    table = np.asarray(tables[0])
    return min(_luminance_tables(), key=lambda quality: int(np.abs(_luminance_tables()[quality] - table).sum()))


@cache
def _luminance_tables() -> dict[int, np.ndarray]:
    """Return libjpeg's quantisation of luminance for each quality."""
    found = {}
    for quality in range(1, 101):
        buffer = io.BytesIO()
        Image.new("L", (8, 8)).save(buffer, "JPEG", quality=quality)
        with Image.open(io.BytesIO(buffer.getvalue())) as picture:
            found[quality] = np.asarray(picture.quantization[0])  # type: ignore[attr-defined]
    return found
