"""The world in the layouts of real data sets: files as FaceSynthetics, T-FAKE, SEJONG and CHARLOTTE have them.

What their readers are tested on, and what to try them with. Thermal pictures are what the domain's camera makes of the
apparent temperature, where it makes any; landmarks of CHARLOTTE are off by what its annotators are off by. Nobody published
which points a profile's 43 are, nor the index of the 72; `models.landmarks.standards` says what stands for them.
"""

import csv
import hashlib
import io
import json
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from models.errors import UserError
from models.landmarks.standards import contour72, profile43
from models.synthworld.camera.sensor import minmax
from models.synthworld.render.capture import ThermalPicture, annotate, capture
from models.synthworld.sampling.domain import load_domain, sample_scene
from models.synthworld.sampling.ranges import Domain
from models.temperature import from_centikelvin, to_centikelvin
from pipelines.config.world import WorldJob, choose_identities
from pipelines.pictures.codecs import decode, encode_jpeg, encode_png, encode_png_rgb
from pipelines.readers.sets.charlotte import SLOTS
from pipelines.readers.sets.tfake import DENSE, NPZ
from pipelines.readers.sets.unpickle import npz_of
from pipelines.rows.encode import encode_parquet
from pipelines.run.writer import tfake_values
from pipelines.storage.commits import Commit, commit, read_commits
from pipelines.storage.uri import Storage

TABLES = "_tables"
"""Lines of tables that span partitions, a file of them a partition, until the run is finished."""
PROFILE_YAW = 45.0
"""A face that is turned further shows a profile, degrees."""
JPEG = 95

Files = Iterator[tuple[str, bytes]]


class RenderedRow(NamedTuple):
    """One rendered row, decoded. name: its number among the pictures of the job; conditions share a visible picture.

    row: its columns as they are stored. visible: uint8 [S, S, 3]. seventy: 70 points float32 [70, 2] px.
    """

    row: dict[str, Any]
    name: str
    visible: np.ndarray
    seventy: np.ndarray
    domain: Domain
    job: WorldJob

    @property
    def who(self) -> tuple[int, int, str]:
        """(identity, view, condition), from which the world draws everything."""
        return self.row["world_identity"], self.row["view"], self.row["condition"]

    @property
    def face(self) -> float:
        """Height of the face in pixels."""
        return float(self.row["bbox"][3] - self.row["bbox"][1])

    def apparent(self) -> np.ndarray:
        """Return degrees Celsius float32 [S, S]; NaN where nothing is valid."""
        return np.where(
            decode(self.row["valid"]["bytes"]) > 127, from_centikelvin(decode(self.row["thermal"]["bytes"])), np.nan
        )

    def capture(self) -> ThermalPicture:
        """Return what the domain's thermal camera delivers."""
        celsius = torch.from_numpy(from_centikelvin(decode(self.row["thermal"]["bytes"])))
        valid = torch.from_numpy(np.isfinite(self.apparent()))
        return capture(celsius, valid, self.face, self.domain, *self.who)


def write_files(block: pa.Table, job: WorldJob, storage: Storage) -> pa.Table:
    """Write one whole partition of rendered rows as files of `job.layout` and commit it; returns the record as a row."""
    # The block must be one whole partition.
    partition, domain = block.column("partition")[0].as_py(), load_domain(job.domain, job.gap)
    rows = job.rows_of(partition)
    if block.column("partition").to_pylist() != [partition] * len(rows):
        raise RuntimeError(f"the writer got {len(block)} rows for partition {partition} of {len(rows)} rows")
    # The files of each row; what belongs into tables is collected in `lines`.
    written, size, lines = list[str](), 0, list[dict[str, Any]]()
    for number, row in zip(rows, block.to_pylist(), strict=True):
        name = f"{number // len(job.conditions):06d}"
        points = np.array(row["landmarks_70"], np.float32).reshape(70, 2)
        rendered = RenderedRow(row, name, decode(row["visible"]["bytes"]), points, domain, job)
        for file, content in WRITERS[job.layout](rendered, lines):
            storage.write(file, content)
            written.append(f"{file} {hashlib.sha256(content).hexdigest()}")
            size += len(content)
    # The lines wait for those of the other partitions, and the record comes last.
    if lines:
        storage.write(_lines_file(partition), encode_parquet(pa.Table.from_pylist(lines, schema=LINE_SCHEMA)))
    digest = hashlib.sha256("\n".join(written).encode()).hexdigest()
    commit(storage, partition, Commit("", len(rows), digest, size))
    return pa.table({"partition": [partition], "samples": [len(rows)]})


def finish_files(job: WorldJob, storage: Storage) -> None:
    """Write the tables that belong to all partitions: S<subject>.csv, annotations.npz."""
    if job.layout not in ("charlotte", "tfake"):
        return
    # The lines of all partitions.
    names = [_lines_file(partition) for partition in read_commits(storage)]
    lines = pa.concat_tables(pq.read_table(pa.BufferReader(storage.read(name))) for name in names).to_pylist()
    # T-FAKE has one file of points, CHARLOTTE a table of each subject.
    if job.layout == "tfake":
        dense = {line["name"]: np.array(line["values"], np.float32).reshape(DENSE, 2) for line in lines}
        storage.write(NPZ, npz_of(dense))
        return
    for subject in sorted({line["subject"] for line in lines}):
        own = [line for line in lines if line["subject"] == subject]
        storage.write(f"S{subject}.csv", _table(own).encode())


LINE_SCHEMA = pa.schema(
    {"subject": pa.int64(), "name": pa.string(), "facts": pa.string(), "values": pa.list_(pa.float32())}
)


def _lines_file(partition: int) -> str:
    return f"{TABLES}/part-{partition:05d}.parquet"


def _facesynthetics(rendered: RenderedRow, lines: list[dict[str, Any]]) -> Files:
    """The picture, its classes and 70 points."""
    if rendered.row["condition"] != rendered.job.conditions[0]:
        return  # the conditions of a view share their visible picture
    yield f"{rendered.name}.png", encode_png_rgb(rendered.visible)
    yield f"{rendered.name}_seg.png", rendered.row["classes"]["bytes"]
    yield f"{rendered.name}_ldmks.txt", "".join(f"{x:.4f} {y:.4f}\n" for x, y in rendered.seventy).encode()


def _tfake(rendered: RenderedRow, lines: list[dict[str, Any]]) -> Files:
    """FaceSynthetics' files, a thermal picture of each condition, and 478 points as shares of the picture."""
    if rendered.row["condition"] == rendered.job.conditions[0]:
        shares = np.array(rendered.row["landmarks_478"], np.float32) / rendered.job.size
        lines.append({"name": f"{rendered.name}.png", "values": shares.tolist()})
    yield from _facesynthetics(rendered, lines)
    yield f"{rendered.row['condition']}/{rendered.name}_thermal.png", encode_png(tfake_values(rendered.apparent()))


def _sejong(rendered: RenderedRow, lines: list[dict[str, Any]]) -> Files:
    """A pair of JPEGs: the thermal one in grey levels, the camera's own or its range stretched."""
    taken = rendered.capture()
    grey = taken.picture if taken.picture.dtype == torch.uint8 else minmax(taken.twin.temperature)
    name = f"{rendered.row['identity_id']}/{rendered.name}_{rendered.row['condition']}"
    yield f"{name}_v.jpg", encode_jpeg(rendered.visible)
    yield f"{name}_t.jpg", _grey_jpeg(grey.numpy())


def _charlotte(rendered: RenderedRow, lines: list[dict[str, Any]]) -> Files:
    """Pictures of the native camera; points moved with its picture, off by the annotators' noise, in whole pixels."""
    # What the frame is called: a subject and a frame number.
    identity, turn, condition = rendered.who
    subject = identity - choose_identities(rendered.job).start + 1
    frame = turn * len(rendered.job.conditions) + rendered.job.conditions.index(condition)
    if frame > 9999:
        raise UserError(f"CHARLOTTE counts 10,000 frames a person; give fewer views than {turn}")
    # The frame in centikelvin, and the same in grey.
    taken = rendered.capture()
    number, scale = f"{subject}{frame:04d}", taken.twin.temperature.shape[0] / rendered.job.size
    counts = to_centikelvin(taken.twin.temperature.numpy())
    yield f"S{subject}/R{number}.tiff", bytes(cv2.imencode(".tiff", counts)[1])
    yield f"S{subject}/N{number}.jpg", _grey_jpeg(minmax(taken.twin.temperature).numpy())
    # The points that annotators would have set, moved with the picture.
    yaw = float(rendered.row["pose"][0])
    points = profile43(rendered.seventy, right=yaw > 0) if abs(yaw) > PROFILE_YAW else contour72(rendered.seventy)
    named = annotate(
        torch.from_numpy(np.ascontiguousarray(points)), rendered.face, rendered.domain, *rendered.who
    ).numpy()
    placed = np.full((SLOTS, 2), np.nan, np.float32)
    placed[: len(named)] = np.floor(named * scale + np.array(taken.shift, np.float32))
    # The line of the table, with what the data set notes of a frame.
    scene = sample_scene(rendered.domain, identity, turn, condition)
    facts: dict[str, Any] = {"Subject": subject, "Distance": round(scene.view.distance_m, 2), "Sensation": 0}
    facts |= {"AirTemp": round(scene.environment.ambient_c, 2), "Condition": condition}
    lines.append(
        {"subject": subject, "name": f"R{number}", "facts": json.dumps(facts), "values": placed.ravel().tolist()}
    )


def _table(lines: list[dict[str, Any]]) -> str:
    """Return the table of one subject."""
    sink = io.StringIO()
    writer = csv.writer(sink, lineterminator="\n")
    facts = list(json.loads(lines[0]["facts"]))
    slots = range(SLOTS)
    writer.writerow(["ID", *facts, *(f"x{k}" for k in slots), *(f"y{k}" for k in slots)])
    for line in lines:
        points = np.array(line["values"]).reshape(SLOTS, 2)
        cells = ["NaN" if np.isnan(value) else int(value) for value in points.T.ravel()]
        writer.writerow([line["name"], *json.loads(line["facts"]).values(), *cells])
    return sink.getvalue()


def _grey_jpeg(grey: np.ndarray) -> bytes:
    return bytes(cv2.imencode(".jpg", grey, (cv2.IMWRITE_JPEG_QUALITY, JPEG))[1])


WRITERS: dict[str, Callable[[RenderedRow, list[dict[str, Any]]], Files]] = {
    "facesynthetics": _facesynthetics,
    "tfake": _tfake,
    "sejong": _sejong,
    "charlotte": _charlotte,
}
