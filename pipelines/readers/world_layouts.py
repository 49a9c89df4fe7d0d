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
from pipelines.readers.charlotte import SLOTS
from pipelines.readers.tfake import DENSE, NPZ
from pipelines.readers.unpickle import npz_of
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
    """One rendered row, decoded. name: its number among the pictures of the job; conditions share a visible picture."""

    row: dict[str, Any]
    name: str
    visible: np.ndarray
    seventy: np.ndarray
    domain: Domain
    job: WorldJob

    @property
    def who(self) -> tuple[int, int, str]:
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
    part, domain = block.column("partition")[0].as_py(), load_domain(job.domain, job.gap)
    rows = job.rows_of(part)
    if block.column("partition").to_pylist() != [part] * len(rows):
        raise RuntimeError(f"the writer got {len(block)} rows for partition {part} of {len(rows)} rows")
    told, size, lines = list[str](), 0, list[dict[str, Any]]()
    for number, row in zip(rows, block.to_pylist(), strict=True):
        name = f"{number // len(job.conditions):06d}"
        points = np.array(row["landmarks_70"], np.float32).reshape(70, 2)
        view = RenderedRow(row, name, decode(row["visible"]["bytes"]), points, domain, job)
        for file, content in WRITERS[job.layout](view, lines):
            storage.write(file, content)
            told.append(f"{file} {hashlib.sha256(content).hexdigest()}")
            size += len(content)
    if lines:
        storage.write(_lines(part), encode_parquet(pa.Table.from_pylist(lines, schema=LINE_SCHEMA)))
    digest = hashlib.sha256("\n".join(told).encode()).hexdigest()
    commit(storage, part, Commit("", len(rows), digest, size))
    return pa.table({"partition": [part], "samples": [len(rows)]})


def finish_files(job: WorldJob, storage: Storage) -> None:
    """Write the tables that belong to all partitions: S<subject>.csv, annotations.npz."""
    if job.layout not in ("charlotte", "tfake"):
        return
    names = [_lines(part) for part in read_commits(storage)]
    lines = pa.concat_tables(pq.read_table(pa.BufferReader(storage.read(name))) for name in names).to_pylist()
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


def _lines(part: int) -> str:
    return f"{TABLES}/part-{part:05d}.parquet"


def _facesynthetics(view: RenderedRow, lines: list[dict[str, Any]]) -> Files:
    if view.row["condition"] != view.job.conditions[0]:
        return  # the conditions of a view share their visible picture
    yield f"{view.name}.png", encode_png_rgb(view.visible)
    yield f"{view.name}_seg.png", view.row["classes"]["bytes"]
    yield f"{view.name}_ldmks.txt", "".join(f"{x:.4f} {y:.4f}\n" for x, y in view.seventy).encode()


def _tfake(view: RenderedRow, lines: list[dict[str, Any]]) -> Files:
    if view.row["condition"] == view.job.conditions[0]:
        shares = np.array(view.row["landmarks_478"], np.float32) / view.job.size
        lines.append({"name": f"{view.name}.png", "values": shares.tolist()})
    yield from _facesynthetics(view, lines)
    yield f"{view.row['condition']}/{view.name}_thermal.png", encode_png(tfake_values(view.apparent()))


def _sejong(view: RenderedRow, lines: list[dict[str, Any]]) -> Files:
    taken = view.capture()
    grey = taken.picture if taken.picture.dtype == torch.uint8 else minmax(taken.twin.temperature)
    name = f"{view.row['identity_id']}/{view.name}_{view.row['condition']}"
    yield f"{name}_v.jpg", encode_jpeg(view.visible)
    yield f"{name}_t.jpg", _grey_jpeg(grey.numpy())


def _charlotte(view: RenderedRow, lines: list[dict[str, Any]]) -> Files:
    """Pictures of the native camera; points moved with its picture, off by the annotators' noise, in whole pixels."""
    identity, turn, condition = view.who
    subject = identity - choose_identities(view.job).start + 1
    frame = turn * len(view.job.conditions) + view.job.conditions.index(condition)
    if frame > 9999:
        raise UserError(f"CHARLOTTE counts 10,000 frames a person; give fewer views than {turn}")
    taken = view.capture()
    number, scale = f"{subject}{frame:04d}", taken.twin.temperature.shape[0] / view.job.size
    counts = to_centikelvin(taken.twin.temperature.numpy())
    yield f"S{subject}/R{number}.tiff", bytes(cv2.imencode(".tiff", counts)[1])
    yield f"S{subject}/N{number}.jpg", _grey_jpeg(minmax(taken.twin.temperature).numpy())
    yaw = float(view.row["pose"][0])
    points = profile43(view.seventy, right=yaw > 0) if abs(yaw) > PROFILE_YAW else contour72(view.seventy)
    named = annotate(torch.from_numpy(np.ascontiguousarray(points)), view.face, view.domain, *view.who).numpy()
    placed = np.full((SLOTS, 2), np.nan, np.float32)
    placed[: len(named)] = np.floor(named * scale + np.array(taken.shift, np.float32))
    scene = sample_scene(view.domain, identity, turn, condition)
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
