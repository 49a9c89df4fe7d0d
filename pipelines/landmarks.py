"""`thermapair landmarks`: points on folders of pictures, in the files of other tools, and back from them into shards."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from models.bundle import fetch, load_bundle
from models.errors import UserError
from models.landmarks import exports
from models.landmarks.adapt import Adapter, converted, load_adapter
from models.landmarks.detect import Detector, Face, Search, box_window, cut, detector
from models.landmarks.intensity import Mode, unit_values
from models.landmarks.stage import TRAINED
from models.landmarks.standards import Standard
from pipelines.commits import Commit, commit, write_manifest, write_shard
from pipelines.pictures import decode, encode_png, encode_png_rgb
from pipelines.storage import Storage

SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp")
PARTITION = 64


def find(
    bundle: str,
    images: str,
    out: str,
    *,
    formats: Sequence[str] = ("pts",),
    standard: Standard = 70,
    mode: Mode = "auto",
    threshold: float | None = None,
    finest: int = 0,
    most: int | None = None,
) -> dict[str, int]:
    """Find the faces in a folder of pictures and write their landmarks to `out`; returns counts.

    formats: `pts` (a file per face), `coco` (one landmarks.json), `yolo` (a .txt per picture). standard: points that the
    bundle has no landmarker for are converted by one of its adapters. A picture that cannot be read is named in
    `skipped.json` and left out.
    """
    chosen = load_bundle(bundle)
    if chosen.landmarks is None:
        raise UserError(f"bundle {chosen.name} has no part `landmarks`: train one and name its folder there.")
    finder, adapter = _finder(fetch(chosen.landmarks, chosen), standard)
    finder.threshold, finder.search = threshold or finder.threshold, Search(finest=finest)
    target, skipped, pictures = Storage(out), dict[str, str](), list[dict[str, Any]]()
    for name, image in _pictures(Storage(images), skipped):
        faces = finder.find(image, mode, most=most)
        if adapter:
            faces = [converted(adapter, face) for face in faces]
        height, width = image.shape[:2]
        shown = [{"points": face.points, "variance": face.variance} for face in faces]
        pictures.append({"file": name, "width": width, "height": height, "faces": shown})
        _write(target, name, faces, (width, height), formats)
    if "coco" in formats:
        target.write("landmarks.json", json.dumps(exports.coco(pictures)).encode())
    if skipped:
        target.write("skipped.json", json.dumps(skipped, indent=1).encode())
    faces_found = sum(len(picture["faces"]) for picture in pictures)
    return {"pictures": len(pictures), "faces": faces_found, "skipped": len(skipped)}


def _finder(part: Path, standard: Standard) -> tuple[Detector, Adapter | None]:
    """Return what finds faces, and what turns its points into those of `standard` where it has others."""
    trained = [number for number in TRAINED if (part / str(number)).is_dir()]
    if standard in trained:
        return detector(part / str(standard)), None
    adapter = load_adapter(part, standard, trained)
    return detector(part / str(adapter.config.source)), adapter


def _write(target: Storage, name: str, faces: list[Face], size: tuple[int, int], formats: Sequence[str]) -> None:
    stem = name.rsplit(".", 1)[0]
    if "pts" in formats:
        for number, face in enumerate(faces):
            target.write(f"{stem}{f'_{number}' if number else ''}.pts", exports.pts_text(face.points).encode())
    if "yolo" in formats:
        lines = "".join(exports.yolo_face(face.points, *size) + "\n" for face in faces)
        target.write(f"{stem}.txt", lines.encode())


def gather(images: str, out: str, *, size: int = 128, mode: Mode = "auto") -> dict[str, int]:
    """Turn pictures with a `.pts` file of 70 points beside each into shards that `train landmarker` reads; returns counts.

    Every face is cut out as a square of twice its extent, `size` pixels a side, stretched to grey levels as `mode` says.
    Pictures without points, points outside the picture and broken files are named in `skipped.json` and left out.
    """
    source, target, skipped = Storage(images), Storage(out), dict[str, str]()
    rows = []
    for name, image in _pictures(source, skipped):
        try:
            rows.append(_annotated(image, exports.read_pts(Path(source.path(name)).with_suffix(".pts")), size, mode))
        except UserError as error:
            skipped[name] = str(error)
    if skipped:
        target.write("skipped.json", json.dumps(skipped, indent=1).encode())
    if not rows:
        raise UserError(f"{images} holds no picture with a usable .pts file beside it; {out}/skipped.json says why")
    for part, begin in enumerate(range(0, len(rows), PARTITION)):
        block, sink = rows[begin : begin + PARTITION], pa.BufferOutputStream()
        pq.write_table(pa.Table.from_pylist(block, schema=SCHEMA), sink, compression="none")
        content = sink.getvalue().to_pybytes()
        file, digest = write_shard(target, "data", part, content)
        if not commit(target, part, Commit(file, len(block), digest, len(content))):
            raise UserError(f"{out} holds shards already: give another --out")
    write_manifest(target, kind="annotated", rows=len(rows))
    return {"pictures": len(rows), "skipped": len(skipped)}


SCHEMA = pa.schema(
    [
        ("visible", pa.binary()),
        ("classes", pa.binary()),
        ("landmarks_70", pa.list_(pa.float32(), 140)),
        ("landmarks_478", pa.list_(pa.float32(), 956)),
    ]
)
"""What training needs of an annotated picture. The dense points are not known and stay at zero: train `standard` 70."""


def _annotated(image: np.ndarray, points: np.ndarray, size: int, mode: Mode) -> dict[str, Any]:
    if len(points) != 70:
        raise UserError(f"has {len(points)} points, 70 are needed (convert them with a label adapter)")
    height, width = image.shape[:2]
    if (points.min(axis=0) < -0.25 * np.array([width, height])).any() or (
        points > 1.25 * np.array([width, height])
    ).any():
        raise UserError(f"landmarks lie far outside the picture of {width} x {height} pixels")
    box = np.concatenate([points.min(axis=0), points.max(axis=0)])
    reach = (box[2:] - box[:2]) * 0.3  # with the margin of `box_window`: twice the face
    window = box_window(np.concatenate([box[:2] - reach, box[2:] + reach]), size)
    crop = (cut(unit_values(image, mode), window, size) * 255 + 0.5).astype(np.uint8)
    placed = (points - window.origin) / window.scale
    return {
        "visible": encode_png_rgb(crop),
        "classes": encode_png(np.ones((size, size), np.uint8)),
        "landmarks_70": placed.astype(np.float32).ravel(),
        "landmarks_478": np.zeros(956, np.float32),
    }


def _pictures(source: Storage, skipped: dict[str, str]) -> Iterator[tuple[str, np.ndarray]]:
    """Yield (name, picture) of a folder; what cannot be read goes to `skipped` with its reason."""
    names = [name for name in source.list() if name.lower().endswith(SUFFIXES)]
    if not names:
        raise UserError(f"{source.uri} holds no picture ({', '.join(SUFFIXES)})")
    for name in sorted(names):
        try:
            yield name, decode(source.read(name))
        except UserError as error:
            skipped[name] = str(error)
