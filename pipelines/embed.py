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
from models.weights.bundle import Bundle, fetch, load_bundle
from pipelines.config.chain import Link, resolve_chain
from pipelines.config.profile import Profile, load_profile
from pipelines.interrupts import Signals, in_thread
from pipelines.pictures.open import FORMATS, BadPicture, open_photo
from pipelines.plan.identities import RECOGNISER, recogniser_of
from pipelines.run.faults import as_fault
from pipelines.session import ray_session
from pipelines.storage import Storage, own_reason

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
    link = faces_link(models)
    fetch(link.part, link.folder)  # before anything starts: a missing pack is said at once
    with Signals() as signals, ray_session(where.ray):
        signals.watch()
        try:
            tables = in_thread(lambda: list(embedded(source, names, link, where)), signals.check)
        except Exception as error:
            raise as_fault(error) from error
    table = pa.concat_tables(tables) if tables else SCHEMA.empty_table()
    _write(table.sort_by("picture"), out, {"bundle": models.name, RECOGNISER: recogniser_of(models)})
    reasons = Counter(reason.split(":")[0] for reason in table["reason"].to_pylist() if reason)
    return Summary(len(table), len(table) - reasons.total(), dict(reasons), ignored)


def faces_link(bundle: Bundle) -> Link:
    """Return the stage that finds and embeds faces."""
    return resolve_chain(bundle, given=("visible",), wanted=("found_embedding",)).link("faces")


def found(source: Storage) -> tuple[list[str], int]:
    """Return the pictures below a folder (by extension, sorted) and how many other files there are."""
    if not source.exists():
        raise UserError(f"{source.uri} does not exist (--images names a folder of pictures).")
    files = source.list()
    names = [name for name in files if PurePath(name).suffix.lower() in FORMATS]
    if not names:
        raise UserError(f"{source.uri} holds no picture; extensions looked for: {', '.join(FORMATS)}.")
    return names, len(files) - len(names)


def embedded(source: Storage, names: list[str], link: Link, profile: Profile) -> Iterator[pa.Table]:
    """Yield Arrow tables of `SCHEMA`, a row a picture."""
    group = profile.grouped(["faces"])[0]
    rows = ray.data.from_items([{"picture": name} for name in names], override_num_blocks=-(-len(names) // BATCH))
    tables = rows.map_batches(
        PhotoEmbedder,
        fn_constructor_args=(source, link, group.threads),
        batch_size=BATCH,
        compute=ActorPoolStrategy(min_size=group.actors[0], max_size=group.actors[1]),
        num_cpus=group.cpus,
        num_gpus=group.gpus,
        **group.selector,
    )
    return tables.iter_batches(batch_size=None, batch_format="pyarrow")


class PhotoEmbedder:
    """File names in, rows of `SCHEMA` out: read, decode, detect, align, embed."""

    def __init__(self, source: Storage, link: Link, threads: int) -> None:
        self.source, self.batch, self.stage = source, link.batch(0), link.load(threads)

    def __call__(self, batch: dict[str, np.ndarray]) -> pa.Table:
        rows = [self._opened(str(name)) for name in batch["picture"]]
        good = [(row, picture) for row, picture in rows if picture is not None]
        for (row, _), seen in zip(good, looked_at(self.stage, [picture for _, picture in good], self.batch)):
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


def looked_at(stage: Any, pictures: Sequence[np.ndarray], batch: int) -> list[dict[str, Any]]:
    """Return what `SCHEMA` says of each picture (uint8 [H, W, 3], any sizes) but for its names.

    stage: of the bundle's faces part. One with exactly one face has a unit `embedding` float32 [512], any other a `reason`.
    """
    rows, good = list[dict[str, Any]](), list[int]()
    found = stage.find(pictures, batch) if pictures else []
    for number, (picture, faces) in enumerate(zip(pictures, found, strict=True)):
        height, width = picture.shape[:2]
        rows.append(row := {"reason": "", "faces": len(faces.scores), "width": width, "height": height})
        if len(faces.scores) != 1:
            row["reason"] = _count(len(faces.scores))
            continue
        good.append(number)
        row |= {
            "detection_score": float(faces.scores[0]),
            "bbox": faces.boxes[0],
            "keypoints": faces.points[0].ravel(),
        }
    if good:
        points = np.stack([found[number].points[0] for number in good])
        for number, vector in zip(good, stage.embed([pictures[number] for number in good], points, batch)):
            rows[number]["embedding"] = vector
    return rows


def _count(faces: int) -> str:
    return "no face: none was found" if faces == 0 else f"several faces: {faces} were found; crop the picture to one"


def _write(table: pa.Table, out: str, facts: dict[str, str]) -> None:
    """Write `table` whole or not at all; its metadata `facts` name the recogniser that the embeddings belong to."""
    folder, _, name = (out if "://" in out else str(Path(out).absolute())).rpartition("/")
    sink = pa.BufferOutputStream()
    pq.write_table(table.replace_schema_metadata(facts), sink)
    Storage(folder).write(name, sink.getvalue().to_pybytes())
