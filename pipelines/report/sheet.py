"""Pictures for the report: what people look at first. Visible, thermal in degrees Celsius, classes, side by side."""

import functools
import io
import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from PIL import Image, ImageDraw, ImageFont

from models.classes import FACE, paint_classes
from models.landmarks.painting import paint_landmarks
from models.layers import Layer
from models.temperature import from_centikelvin
from pipelines.pictures.codecs import decode

INK, PAPER, FAINT = (28, 30, 34), (250, 250, 248), (120, 124, 130)
TILE, LINE = 176, 22
CAPTION_LINES = 6
"""At most; what is longer is cut, as the sheet says by dots."""
Scales = dict[str, tuple[float, float]]
"""layer -> its palette's ends in degrees Celsius"""
BODY = (20.0, 40.0)
"""The scale where no face says another."""
LAYERS_SHOWN = 4
"""Thermal pictures of a view that are shown; a sample may have dozens."""


@dataclass(frozen=True)
class ShownSample:
    """One sample as it is shown."""

    sample_id: str
    identity: str
    view: int
    attempt: int
    caption: str
    reject: str
    scores: dict[str, float]
    visible: np.ndarray | None
    """uint8 [S, S, 3]"""
    classes: np.ndarray | None
    """uint8 [S, S]"""
    thermal: dict[str, np.ndarray]
    """layer -> float32 [S, S] degrees Celsius"""
    points: np.ndarray | None = None
    """float32 [70, 2] pixels, of the dense points where there are no 70"""
    variance: dict[str, np.ndarray] = field(default_factory=dict)
    """visible and each condition -> float32 [L] pixels squared"""


def collect_samples(tables: Iterable[pa.Table], people: int, views: int) -> list[ShownSample]:
    """Return the first `views` samples of the first `people` identities in `tables`, rows of the record, in order."""
    found: dict[tuple[str, int], ShownSample] = {}
    seen: dict[str, int] = {}
    for table in tables:
        for row in range(len(table)):
            # A sample not met before counts for its person; whoever is one too many is passed over.
            key = (table["sample_id"][row].as_py(), table["attempt"][row].as_py())
            identity = table["identity_id"][row].as_py()
            if key not in found:
                if (identity not in seen and len(seen) == people) or seen.get(identity, 0) == views:
                    continue
                seen[identity] = seen.get(identity, 0) + 1
                found[key] = _read_sample(table, row)
            # Every row of a sample brings one layer.
            thermal = table["thermal"][row].as_py()
            if thermal:
                condition = Layer(table["condition"][row].as_py(), table["thermal_draw"][row].as_py()).name
                found[key].thermal[condition] = from_centikelvin(decode(thermal["bytes"]))
                if (variance := _landmarks(table, row, "variance", "_thermal")) is not None:
                    found[key].variance[condition] = variance
        if len(seen) == people and all(count == views for count in seen.values()):
            break  # no further shard is opened
    return list(found.values())


def face_scales(samples: Iterable[ShownSample]) -> Scales:
    """Return the scale of each layer on which faces are told apart: whole degrees, from all but the coldest 50th of the bare
    face's pixels (a nose in the cold) to their warmest. Of a picture without a face, all pixels count."""
    values: dict[str, list[np.ndarray]] = {}
    for sample in samples:
        face = np.isin(sample.classes, FACE) if sample.classes is not None else np.zeros(0, bool)
        for name, layer in sample.thermal.items():
            values.setdefault(name, []).append(layer[face] if face.any() else layer.ravel())
    scales = {}
    for name, found in values.items():
        low, high = np.percentile(np.concatenate(found), (2, 99.5))
        scales[name] = (float(np.floor(low)), float(max(np.ceil(high), np.floor(low) + 1)))
    return scales


def colour_degrees(layer: np.ndarray, degrees: tuple[float, float]) -> np.ndarray:
    """Return float degrees [S, S] as uint8 [S, S, 3] in the `inferno` palette from the first of `degrees` to the second."""
    from matplotlib import colormaps  # takes half a second, which only who draws should wait for

    share = np.clip((layer - degrees[0]) / (degrees[1] - degrees[0]), 0, 1)
    return (colormaps["inferno"](share)[..., :3] * 255).round().astype(np.uint8)


def tiles(sample: ShownSample, scales: Scales) -> dict[str, np.ndarray]:
    """Return name -> uint8 [S, S, 3] of what there is: visible, each condition, classes, landmarks on both kinds of picture.

    scales: of the layers, `BODY` for others. Rings are one standard deviation of a landmark as that picture shows it.
    """
    shown: dict[str, np.ndarray] = {}
    if sample.visible is not None:
        shown["visible"] = sample.visible
    for name, layer in islice(sample.thermal.items(), LAYERS_SHOWN):
        shown[name] = colour_degrees(layer, scales.get(name, BODY))
    if sample.classes is not None:
        shown["classes"] = paint_classes(sample.classes)
    # Points lie on a dimmed grey copy of the picture that they were found on: the visible one, and the first layer.
    if sample.points is not None:
        for name in ("visible", next(iter(sample.thermal), "")):
            if name in sample.variance and name in shown:
                ground = (shown[name].mean(axis=-1) * 0.7).astype(np.uint8)
                shown[f"landmarks, {name}"] = paint_landmarks(ground, sample.points, sample.variance[name])
    return shown


def draw_contact_sheet(samples: list[ShownSample]) -> bytes:
    """Return a PNG: a row per person, a block of two lines of pictures per view with its caption, the scales in degrees."""
    # The size of the sheet follows from the sample with the most tiles, the longest caption, and who has the most samples.
    scales = face_scales(samples)
    across = -(-max(len(tiles(sample, scales)) for sample in samples) // 2)
    people = list(dict.fromkeys(sample.identity for sample in samples))
    columns = max(sum(sample.identity == person for sample in samples) for person in people)
    wide = across * (TILE + 2) - 2
    captions = {id(sample): _wrap(sample.caption, wide) for sample in samples}
    lines = max(len(caption) for caption in captions.values())
    block, gap, text, head, side = 2 * TILE + 2, 30, lines * LINE + 34, 92, 60 + 80 * len(_shown_scales(scales))
    width = columns * (wide + gap) + gap + side
    height = head + len(people) * (block + text + gap)
    sheet = Image.new("RGB", (width, height), PAPER)
    draw = ImageDraw.Draw(sheet)
    named = "" if all(sample.points is None for sample in samples) else " · landmarks (rings: one standard deviation)"
    draw.text((gap, 14), f"visible · thermal · classes{named}", INK, font(30))
    for line, person in enumerate(people):
        top = head + line * (block + text + gap)
        draw.text((gap, top - 24), person, FAINT, font(17))
        for column, sample in enumerate(one for one in samples if one.identity == person):
            # The block of one sample: its tiles in two lines, and the caption below them.
            left = gap + column * (wide + gap)
            for place, (name, pixels) in enumerate(tiles(sample, scales).items()):
                at = (left + place % across * (TILE + 2), top + place // across * (TILE + 2))
                sheet.paste(Image.fromarray(pixels).resize((TILE, TILE), Image.Resampling.LANCZOS), at)
                draw_label(draw, (at[0] + 6, at[1] + TILE - 22), name)
            for number, words in enumerate(captions[id(sample)]):
                draw.text((left, top + block + 6 + number * LINE), words, INK, font(17))
    _draw_palette(sheet, draw, scales, width - side, head, min(height - 2 * gap, head + 3 * block) - head)
    sink = io.BytesIO()
    sheet.save(sink, "PNG", compress_level=4)
    return sink.getvalue()


def _wrap(caption: str, width: int) -> list[str]:
    """Return the lines of a caption, each at most `width` pixels wide, the last one with dots where there are too many."""
    lines, letters = [""], font(17)
    for word in caption.split():
        longer = f"{lines[-1]} {word}".lstrip()
        if letters.getlength(longer) <= width:
            lines[-1] = longer
        else:
            lines.append(word)
    if len(lines) > CAPTION_LINES:
        lines[CAPTION_LINES - 1 :] = [f"{lines[CAPTION_LINES - 1]} ..."]
    return lines


def _shown_scales(scales: Scales) -> list[tuple[str, tuple[float, float]]]:
    return list(islice(scales.items(), LAYERS_SHOWN))


def _draw_palette(
    sheet: Image.Image, draw: ImageDraw.ImageDraw, scales: Scales, left: int, top: int, height: int
) -> None:
    """Draw one bar of colours, and beside it a column of degrees for each layer."""
    ramp = np.repeat(np.linspace(1, 0, height, dtype=np.float32)[:, None], 24, axis=1)
    sheet.paste(Image.fromarray(colour_degrees(ramp, (0, 1))), (left, top))
    for column, (name, (low, high)) in enumerate(_shown_scales(scales)):
        at = left + 34 + 80 * column
        draw.text((at, top - 24), name, FAINT, font(17))
        for share in np.linspace(0, 1, 6):
            degrees = f"{high + share * (low - high):.1f} °C"
            draw.text((at, top + share * (height - 20)), degrees, INK, font(17))


def draw_label(draw: ImageDraw.ImageDraw, at: tuple[float, float], text: str) -> None:
    """Write `text` in white on a black edge, readable on any picture; its upper left corner is `at`."""
    for dx, dy in ((1, 0), (-1, 0), (0, 1), (0, -1)):
        draw.text((at[0] + dx, at[1] + dy), text, (0, 0, 0), font(15))
    draw.text(at, text, (255, 255, 255), font(15))


@functools.cache
def font(size: int) -> ImageFont.FreeTypeFont:
    """Return the letters of sheets at `size` px."""
    from matplotlib import get_data_path

    return ImageFont.truetype(str(Path(get_data_path(), "fonts", "ttf", "DejaVuSans.ttf")), size)


def _read_sample(table: pa.Table, row: int) -> ShownSample:
    """Return the sample of a row of the record, still without its thermal layers."""

    def value(name: str) -> Any:
        return table[name][row].as_py()

    variance = _landmarks(table, row, "variance", "_visible")
    return ShownSample(
        sample_id=value("sample_id"),
        identity=value("identity_id"),
        view=value("view"),
        attempt=value("attempt"),
        caption=value("caption"),
        reject=value("reject"),
        scores=json.loads(value("scores") or "{}"),
        visible=decode(value("visible")["bytes"]) if value("visible") else None,
        classes=decode(value("classes")["bytes"]) if value("classes") else None,
        thermal={},
        points=_landmarks(table, row, "landmarks"),
        variance={} if variance is None else {"visible": variance},
    )


def _landmarks(table: pa.Table, row: int, kind: str, end: str = "") -> np.ndarray | None:
    """Return a row's landmarks [L, 2] or their variances [L], of the 70 if there are any, else of the 478."""
    for number in (70, 478):
        if (values := table[f"{kind}_{number}{end}"][row].as_py()) is not None:
            return np.asarray(values, np.float32).reshape((-1, 2) if kind == "landmarks" else -1)
    return None
