"""`thermapair landmarks`: points on folders of pictures, in the files of other tools."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from models.bundle import Bundle, fetch, load_bundle
from models.config import sort_edits
from models.errors import UserError
from models.landmarks import exports
from models.landmarks.adapt import Adapter, converted, load_adapter
from models.landmarks.detect import Detector, Face, Search, detector
from models.landmarks.intensity import Mode
from models.landmarks.stage import TRAINED
from models.landmarks.standards import Standard
from pipelines.pictures import decode
from pipelines.storage import Storage

SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp")


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
    overrides: Sequence[str] = (),
) -> dict[str, int]:
    """Find the faces in a folder of pictures and write their landmarks to `out`; returns counts.

    formats: `pts` (a file per face), `coco` (one landmarks.json), `yolo` (a .txt per picture). standard: points that the
    bundle has no landmarker for are converted by one of its adapters. overrides: `key.key=value` edits
    of it. A picture that cannot be read is named in `skipped.json` and left out.
    """
    chosen = load_bundle(bundle, sort_edits(overrides, {"bundle": Bundle})["bundle"])
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
