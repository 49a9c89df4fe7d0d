"""`thermapair embed`: a folder of face pictures becomes a Parquet file of identities, one row a picture.

A picture that cannot be taken keeps its row, with the reason and without an embedding.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import ray.data
from ray.data import ActorPoolStrategy

from models.config import sort_edits
from models.errors import EnvironmentFault, UserError
from models.faces.align import aligned
from models.faces.decode import Found
from models.faces.pack import Pack, recogniser_digest
from models.weights.bundle import Bundle, fetch, load_bundle
from pipelines.config.profile import Profile, load_profile
from pipelines.interrupts import Signals, in_thread
from pipelines.pictures.open import FORMATS, BadPicture, open_photo
from pipelines.plan.identities import RECOGNISER
from pipelines.run.faults import as_fault
from pipelines.session import ray_session
from pipelines.storage import Storage, own_reason

NEAR, FAR = (128, 128), (320, 320)
"""Detector inputs: every picture is looked at in the first; both are merged where that shows no large face."""

LARGE = 0.25
"""A face of this share of the picture's longer side makes it a portrait: small detectors take parts of a magnified face
for faces, so it is not enlarged. A second face below a tenth of the side goes unseen there."""

BATCH = 32
"""Files that an actor takes at a time."""

SCHEMA = pa.schema(
    [
        ("picture", pa.string()),
        ("identity_id", pa.string()),
        ("reason", pa.string()),
        ("faces", pa.int32()),
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("detection_score", pa.float32()),
        ("bbox", pa.list_(pa.float32(), 4)),
        ("keypoints", pa.list_(pa.float32(), 10)),
        ("embedding", pa.list_(pa.float32(), 512)),
    ]
)
"""`picture` is the path below the folder and the identity's id; `reason` is empty for a picture with one face."""


@dataclass(frozen=True)
class Summary:
    """What became of the pictures: how many gave an embedding, and how many did not, by kind of reason."""

    pictures: int
    embedded: int
    reasons: dict[str, int]
    ignored: int
    """Files whose name is not a picture's."""

    def __str__(self) -> str:
        lines = [f"{self.embedded} of {self.pictures} pictures embedded"]
        lines += [f"  {count} not: {kind}" for kind, count in sorted(self.reasons.items())]
        lines += [f"  {self.ignored} other files ignored"] if self.ignored else []
        return "\n".join(lines)


def run(
    images: str, out: str, *, bundle: str = "starter", profile: str = "laptop", overrides: Sequence[str] = ()
) -> Summary:
    """Embed every picture below the folder `images` and write the Parquet file `out`.

    overrides: `key.key=value` edits of the profile or the bundle.

    Raises:
        UserError: the folder is missing or holds no picture.
        EnvironmentFault: weights are missing, or the file cannot be written.
    """
    edits = sort_edits(overrides, {"profile": Profile, "bundle": Bundle})
    models, where = load_bundle(bundle, edits["bundle"]), load_profile(profile, edits["profile"])
    source = Storage(images)
    names, ignored = found(source)
    pack = fetch(models.faces, models)  # before anything starts: a missing pack is said at once
    with Signals() as signals, ray_session(where.ray):
        signals.watch()
        try:
            tables = in_thread(lambda: list(embedded(source, names, models, where)), signals.check)
        except Exception as error:
            raise as_fault(error) from error
    table = pa.concat_tables(tables) if tables else SCHEMA.empty_table()
    _write(table.sort_by("picture"), out, {"bundle": models.name, RECOGNISER: recogniser_digest(pack)})
    reasons = Counter(reason.split(":")[0] for reason in table["reason"].to_pylist() if reason)
    return Summary(len(table), len(table) - reasons.total(), dict(reasons), ignored)


def found(source: Storage) -> tuple[list[str], int]:
    """Return the pictures below a folder (by extension, sorted) and how many other files there are."""
    if not source.exists():
        raise UserError(f"{source.uri} does not exist (--images names a folder of pictures).")
    files = source.list()
    names = [name for name in files if PurePath(name).suffix.lower() in FORMATS]
    if not names:
        raise UserError(f"{source.uri} holds no picture; extensions looked for: {', '.join(FORMATS)}.")
    return names, len(files) - len(names)


def embedded(source: Storage, names: list[str], bundle: Bundle, profile: Profile) -> Iterator[pa.Table]:
    """Yield Arrow tables of `SCHEMA`, a row a picture."""
    group = profile.grouped(["faces"])[0]
    rows = ray.data.from_items([{"picture": name} for name in names], override_num_blocks=-(-len(names) // BATCH))
    tables = rows.map_batches(
        PhotoEmbedder,
        fn_constructor_args=(source, bundle, group.threads),
        batch_size=BATCH,
        compute=ActorPoolStrategy(min_size=group.actors[0], max_size=group.actors[1]),
        num_cpus=group.cpus,
        num_gpus=group.gpus,
        **group.selector,
    )
    return tables.iter_batches(batch_size=None, batch_format="pyarrow")


class PhotoEmbedder:
    """File names in, rows of `SCHEMA` out: read, decode, detect, align, embed."""

    def __init__(self, source: Storage, bundle: Bundle, threads: int) -> None:
        self.source = source
        self.pack = Pack(fetch(bundle.faces, bundle), threads=threads, batch=bundle.faces.batch)

    def __call__(self, batch: dict[str, np.ndarray]) -> pa.Table:
        rows = [self._opened(str(name)) for name in batch["picture"]]
        good = [(row, picture) for row, picture in rows if picture is not None]
        for (row, _), seen in zip(good, looked_at(self.pack, [picture for _, picture in good])):
            row |= seen
        return pa.Table.from_pylist([row for row, _ in rows], schema=SCHEMA)

    def _opened(self, name: str) -> tuple[dict, np.ndarray | None]:
        """Return the row of a picture, and the picture unless the row has a reason."""
        row: dict = {"picture": name, "identity_id": name, "reason": "", "faces": 0}
        try:
            picture = open_photo(self.source.read(name), name)
        except BadPicture as error:
            return row | {"reason": str(error)}, None
        except (OSError, EnvironmentFault) as error:
            return row | {"reason": own_reason(error)}, None
        return row, picture


def looked_at(pack: Pack, pictures: Sequence[np.ndarray]) -> list[dict[str, Any]]:
    """Return what `SCHEMA` says of each picture (uint8 [H, W, 3], any sizes) but for its names.

    One with exactly one face has a unit `embedding` float32 [512], any other a `reason`.
    """
    rows: list[dict[str, Any]] = []
    crops = []
    for picture, faces in zip(pictures, find_faces(pack, pictures)):
        height, width = picture.shape[:2]
        rows.append(row := {"reason": "", "faces": len(faces.scores), "width": width, "height": height})
        if len(faces.scores) != 1:
            row["reason"] = _count(len(faces.scores))
            continue
        row |= {
            "detection_score": float(faces.scores[0]),
            "bbox": faces.boxes[0],
            "keypoints": faces.points[0].ravel(),
        }
        crops.append((row, aligned(picture[None], faces.points[:1])[0]))
    if crops:
        vectors = pack.embed(np.stack([crop for _, crop in crops]))
        for (row, _), vector in zip(crops, vectors):
            row["embedding"] = vector / np.linalg.norm(vector)
    return rows


def find_faces(pack: Pack, pictures: Sequence[np.ndarray]) -> list[Found]:
    """Return the faces of each picture; those without a large face get a second, closer look."""
    faces = pack.find(pictures, [NEAR])
    again = [row for row, found in enumerate(faces) if _largest(found) < LARGE * max(pictures[row].shape[:2])]
    for row, found in zip(again, pack.find([pictures[row] for row in again], [NEAR, FAR])):
        faces[row] = found
    return faces


def _largest(found: Found) -> float:
    """Return the longer side of the largest face in px, 0 without one."""
    return float((found.boxes[:, 2:] - found.boxes[:, :2]).max(initial=0.0))


def _count(faces: int) -> str:
    return "no face: none was found" if faces == 0 else f"several faces: {faces} were found; crop the picture to one"


def _write(table: pa.Table, out: str, facts: dict[str, str]) -> None:
    """Write `table` whole or not at all; its metadata `facts` name the recogniser that the embeddings belong to."""
    folder, _, name = (out if "://" in out else str(Path(out).absolute())).rpartition("/")
    sink = pa.BufferOutputStream()
    pq.write_table(table.replace_schema_metadata(facts), sink)
    Storage(folder).write(name, sink.getvalue().to_pybytes())
