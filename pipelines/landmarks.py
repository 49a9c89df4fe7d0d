"""`thermapair landmarks`: points on folders of pictures, in the files of other tools."""

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from models.config import sort_edits
from models.errors import EnvironmentFault, UserError
from models.landmarks import exports
from models.landmarks.adapt import Adapter, adapt_face, load_adapter
from models.landmarks.detect import Detector, Face, Search, finest_level, load_detector
from models.landmarks.intensity import Mode
from models.landmarks.published import PublishedSearch, find_published
from models.landmarks.settings import TRAINED, Standard
from models.temperature import Numbers, UnitName
from models.weights.bundle import Bundle, load_bundle
from pipelines.config.photographs import warn_of_photographs
from pipelines.pictures.matrices import SUFFIXES as MATRICES
from pipelines.pictures.open import FORMATS, UNREAD, BadPicture
from pipelines.pictures.thermal import open_scenes
from pipelines.storage.errors import own_reason
from pipelines.storage.listing import list_sizes
from pipelines.storage.uri import Storage

SUFFIXES = (*FORMATS, *MATRICES)


def find(
    bundle: str,
    images: str,
    out: str,
    *,
    formats: Sequence[str] = ("pts",),
    standard: Standard = 70,
    mode: Mode = "auto",
    unit: UnitName | Numbers | None = None,
    threshold: float | None = None,
    min_face: float | None = None,
    finest: int | None = None,
    most: int | None = None,
    published: PublishedSearch | None = None,
    overrides: Sequence[str] = (),
) -> dict[str, int]:
    """Find the faces in a folder of pictures and write their landmarks to `out`; returns counts.

    formats: `pts` (a file per face: NAME.pts, NAME.face2.pts), `coco` (one landmarks.json), `yolo` (a .txt per picture).
    standard: points that the bundle has no landmarker for are converted by one of its adapters. overrides:
    `key.key=value` edits of the bundle. published: the search of the authors' package in place of ours; `threshold`, if given,
    then leaves its less sure faces out. min_face: the smallest face to look for, as `finest_level` has it; `finest` says the
    level of the pyramid itself. unit: of thermal values of more than 8 bits; without it they only give contrast.
    A picture that cannot be read or searched is named in `skipped.json` and left out. Every page of a file is searched: its
    second is NAME-page1.pts, and FILE#1 in lists.

    Raises:
        UserError: no picture can be taken, or two would be written to one file.
    """
    # What finds faces, and what turns its points into the standard that is wanted.
    chosen = load_bundle(bundle, sort_edits(overrides, {"bundle": Bundle})["bundle"])
    warn_of_photographs(chosen, images)
    finder, adapter = _load_detector(chosen.main("landmarks"), standard)
    finder.threshold = threshold or finder.threshold
    source, target, skipped, pictures = Storage(images), Storage(out), dict[str, str](), list[dict[str, Any]]()
    names = _list_pictures(source, formats)
    for name in names:
        # A picture that cannot be read or searched costs no other.
        try:
            pages = open_scenes(source.read(name), name, unit)
        except BadPicture as error:
            skipped[name] = str(error)
            continue
        except (OSError, EnvironmentFault) as error:
            skipped[name] = own_reason(error)
            continue
        for page, image in enumerate(pages):
            own = f"{name}#{page}" if page else name
            try:
                known = mode == "auto" and unit is not None and image.dtype == np.float32
                taken: Mode = "temperature" if known else mode
                if published:
                    faces = find_published(finder, image, taken, published)
                    faces = [face for face in faces if threshold is None or face.uncertainty < threshold]
                else:
                    finder.search = _choose_search(finder, image, min_face, finest)
                    faces = finder.find(image, taken, most=most)
            except UserError as error:
                skipped[own] = str(error)
                continue
            if adapter:
                faces = [adapt_face(adapter, face) for face in faces]
            # Its points, in the formats that are one file a face or a picture.
            height, width = image.shape[:2]
            shown = [{"points": face.points, "variance": face.variance} for face in faces]
            try:
                _write(target, f"{_stem(name)}-page{page}.tiff" if page else name, faces, (width, height), formats)
            except EnvironmentFault as error:  # a name that is too long with another ending
                skipped[own] = own_reason(error)
                continue
            pictures.append({"file": own, "width": width, "height": height, "faces": shown})
    # What is one file for all pictures.
    if "coco" in formats:
        target.write("landmarks.json", json.dumps(exports.coco(pictures)).encode())
    if skipped:
        target.write("skipped.json", json.dumps(skipped, indent=1).encode())
    if not pictures:
        raise UserError(
            f"none of the {len(names)} pictures of {images} can be taken; first: {names[0]}: {skipped[names[0]]}"
        )
    faces_found = sum(len(picture["faces"]) for picture in pictures)
    return {"pictures": len(pictures), "faces": faces_found, "skipped": len(skipped)}


def _choose_search(finder: Detector, image: np.ndarray, min_face: float | None, finest: int | None) -> Search:
    """Return how to search a picture: down to the smallest face that is asked for, and no finer."""
    if finest is not None:
        return Search(finest=finest)
    height, width = image.shape[:2]
    return Search(finest=finest_level(height, width, finder.config.size, finder.framed, min_face))


def _load_detector(part: Path, standard: Standard) -> tuple[Detector, Adapter | None]:
    """Return what finds faces, and what turns its points into those of `standard` where it has others."""
    trained = [number for number in TRAINED if (part / str(number)).is_dir()]
    if standard in trained:
        return load_detector(part / str(standard)), None
    adapter = load_adapter(part, standard, trained)
    return load_detector(part / str(adapter.config.source)), adapter


def _write(target: Storage, name: str, faces: list[Face], size: tuple[int, int], formats: Sequence[str]) -> None:
    """Write the faces of one picture: a `.pts` a face, a line of YOLO's a face."""
    stem = _stem(name)
    if "pts" in formats:
        for number, face in enumerate(faces):
            which = f".face{number + 1}" if number else ""
            target.write(f"{stem}{which}.pts", exports.pts_text(face.points).encode())
    if "yolo" in formats:
        lines = "".join(exports.yolo_face(face.points, *size) + "\n" for face in faces)
        target.write(f"{stem}.txt", lines.encode())


def _list_pictures(source: Storage, formats: Sequence[str]) -> list[str]:
    """Return the pictures of a folder, sorted; those that differ in their extension alone would share a .pts or .txt."""
    names = sorted(name for name in list_sizes(source) if name.lower().endswith((*SUFFIXES, *UNREAD)))
    if not names:
        raise UserError(f"{source.uri} holds no picture ({', '.join(SUFFIXES)})")
    stem, count = Counter(_stem(name) for name in names if not name.lower().endswith(UNREAD)).most_common(1)[0]
    if count > 1 and {"pts", "yolo"} & set(formats):
        raise UserError(
            f"{source.uri}: {stem} comes with {count} extensions; rename one, or take the format coco alone"
        )
    return names


def _stem(name: str) -> str:
    return name.rsplit(".", 1)[0]
