"""`thermapair inspect`: shows one row of an output and makes it again from its provenance."""

import io
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from rich.console import Console
from rich.table import Table
from rich.text import Text

from models.classes import paint_classes
from models.columns import Columns
from models.errors import EnvironmentFault, UserError
from models.layers import Layer
from models.temperature import from_centikelvin
from models.weights.bundle import digests
from pipelines.config.chain import Link
from pipelines.pictures.codecs import decode, encode_jpeg
from pipelines.plan.claim import read_run
from pipelines.plan.generate import read_generate_plan
from pipelines.plan.stored import ChainPlan
from pipelines.plan.thermalize import read_thermalize_plan
from pipelines.report.sheet import colour_degrees
from pipelines.rows.encode import VISIBLE_BYTES
from pipelines.rows.ids import noise_id, planned_id
from pipelines.rows.record import pair_id
from pipelines.run.chain import Chain
from pipelines.storage.commits import read_commit, read_commits, read_shard
from pipelines.storage.uri import Storage

SHOWN = ("pair_id", "sample_id", "identity_id", "view", "draw", "condition", "thermal_draw", "split", "seed", "attempt",
         "caption", "caption_source", "attributes", "attributes_source", "pose_asked", "pose", "bbox", "scores", "reject",
         "thermal_kind", "licence", "provenance")  # fmt: skip


@dataclass(frozen=True)
class Comparison:
    """How a row that was made again compares with the one that is stored."""

    visible: float
    """Largest difference of a stored sample, of 255."""
    thermal: float
    """Largest difference in degrees Celsius."""
    classes: float
    """Share of the pixels with another class."""

    @property
    def same(self) -> bool:
        """Whether every pixel came out the same."""
        return self.visible == self.thermal == self.classes == 0

    def __str__(self) -> str:
        if self.same:
            return "made again: every pixel is the same"
        return (
            f"made again: visible differs by up to {self.visible:.0f} of 255, thermal by up to {self.thermal:.2f} degC, "
            f"{self.classes:.2%} of the pixels have another class"
        )


def run(out: str, pair: str, *, picture: str | None = None) -> Comparison | None:
    """Print the row `pair` of the output at `out`, make it again and print how they compare.

    picture: file for a PNG with the stored row above the remade one. Returns None for a row without pictures.

    Raises:
        UserError: there is no such pair, or it is not finished yet.
    """
    # A row that no chain made is shown and no more.
    storage, kind = Storage(out), read_run(Storage(out))["job"]["kind"]
    if kind not in ("generate", "thermalize"):
        show(_find_in_shards(storage, pair))
        print(f"a row of `thermapair {kind}` is shown as it is: nothing here makes it again")
        return None
    # The stored row, and whether it can still come out the same.
    plan = read_generate_plan(storage) if kind == "generate" else read_thermalize_plan(storage)
    row, place = find_pair(plan, pair)
    show(row)
    if changed := changed_weights(plan):
        print(f"the weights of {', '.join(changed)} have changed since: the row may come out differently")
    if row["visible"] is None:
        print("this row has no picture to compare: " + row["reject"])
        return None
    # The same made again, and how far it is from what is stored.
    columns = remake(plan, place, int(row["attempt"]))
    layer = plan.recipe.layers.index(Layer(row["condition"], row["thermal_draw"]))
    result = compare(plan, row, columns, layer)
    print(result)
    if picture:
        Path(picture).parent.mkdir(parents=True, exist_ok=True)
        Path(picture).write_bytes(side_by_side(row, columns, layer))
        print(f"stored above, made again below: {picture}")
    return result


def find_pair(plan: ChainPlan[Any], pair: str) -> tuple[dict[str, Any], tuple[int, str]]:
    """Return the stored row of `pair`, and which sample it is of: (partition, its id)."""
    for partition in range(plan.partitions):
        for sample in plan.sample_table(partition)["sample_id"].to_pylist():
            if pair in (pair_id(sample, layer) for layer in plan.recipe.layers):
                return _read_stored(plan, partition, pair), (partition, sample)
    # A further page of a planned picture: only its row knows.
    sample = str(_find_in_shards(plan.out, pair)["sample_id"])
    for partition in range(plan.partitions):
        if planned_id(sample) in plan.sample_table(partition)["sample_id"].to_pylist():
            return _read_stored(plan, partition, pair), (partition, sample)
    raise _no_such_pair(plan.out, pair)


def _find_in_shards(out: Storage, pair: str) -> dict[str, Any]:
    """Return the row of `pair` from the shards of a run that is no chain of stages: rendered or gathered."""
    for partition, record in read_commits(out).items():
        for name in (name for name in record.files() if name.startswith("data/")):
            table = read_shard(out, partition, name, filters=[("pair_id", "=", pair)])
            if len(table):
                return dict(table.to_pylist()[0])
    raise _no_such_pair(out, pair)


def _no_such_pair(out: Storage, pair: str) -> UserError:
    return UserError(f"{out.uri} has no pair {pair!r}. Their ids are in the column pair_id of data/*.parquet.")


def remake(plan: ChainPlan[Any], place: tuple[int, str], attempt: int) -> Columns:
    """Run all stages of the job for one sample in this process; returns its columns, one row each."""
    partition, sample = place
    chain = Chain(plan.chain, plan.chain.stages)
    whole = chain.cut(plan.partition(partition))
    row = whole["sample_id"].tolist().index(sample)
    columns = {key: values[row : row + 1].copy() for key, values in whole.items()}
    columns["attempt"][:] = attempt
    columns["noise_id"][:] = noise_id(str(columns["sample_id"][0]), attempt)
    return chain(columns)


def compare(plan: ChainPlan[Any], row: Mapping[str, Any], columns: Columns, layer: int) -> Comparison:
    """Return how far the pictures in `columns` are from those stored in `row`."""
    if "thermal" not in columns:
        raise UserError(f"the row cannot be made again: {columns['reject'][0]}")
    # The visible picture as it would be stored: encoded, unless it is kept as it came.
    visible = columns["visible"][0]
    kept = VISIBLE_BYTES in columns and bool(columns[VISIBLE_BYTES][0])
    if plan.record.visible == "jpeg" and not kept:
        visible = decode(encode_jpeg(visible))
    # Classes, which a bundle may have nothing to find with, and the layer's temperatures.
    other = 0.0
    if row["classes"]:
        other = float((decode(row["classes"]["bytes"]) != columns["classes"][0]).mean())
    counts = decode(row["thermal"]["bytes"]).astype(int) - columns["thermal"][0, layer].astype(int)
    return Comparison(
        visible=float(np.abs(decode(row["visible"]["bytes"]).astype(int) - visible.astype(int)).max()),
        thermal=float(np.abs(counts).max()) / 100,
        classes=other,
    )


def show(row: Mapping[str, Any]) -> None:
    """Print the row's texts and numbers."""
    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    for name in (name for name in SHOWN if name in row):
        value = row[name]
        text = json.dumps(value) if isinstance(value, list) else str(value)
        table.add_row(f"[dim]{name}", Text(text))  # as it is: names may hold what markup would take for its own
    if row.get("thermal"):
        degrees = from_centikelvin(decode(row["thermal"]["bytes"]))
        table.add_row("[dim]thermal", f"{degrees.min():.1f} to {degrees.max():.1f} degC, mean {degrees.mean():.1f}")
    Console().print(table)


def changed_weights(plan: ChainPlan[Any]) -> list[str]:
    """Return the parts whose weights are no longer those of the recipe, or no longer there (then it says so)."""
    now = {link.name: _weights(link) for link in plan.chain.links}
    recorded = {one.part: one.weights for one in plan.recipe.stages}
    return [f"{name}{'' if now[name] is not None else ' (missing now)'}" for name in now if now[name] != recorded[name]]


def _weights(link: Link) -> dict[str, str] | None:
    """Return the digests of a part's weights, None where they are missing."""
    try:
        return digests(link.part, link.folder)
    except EnvironmentFault:
        return None


def side_by_side(row: Mapping[str, Any], columns: Columns, layer: int) -> bytes:
    """Return a PNG: visible, thermal, and classes where there are any, as stored, and below as made again."""
    # Thermal pictures share a scale, that of the stored one.
    stored = {name: decode(row[name]["bytes"]) for name in ("visible", "thermal", "classes") if row[name]}
    remade = {name: columns[name][0, layer] if name == "thermal" else columns[name][0] for name in stored}
    degrees = from_centikelvin(stored["thermal"])
    scale = float(degrees.min()), float(max(degrees.max(), degrees.min() + 1))
    lines = []
    for one in (stored, remade):
        shown = [one["visible"], colour_degrees(from_centikelvin(one["thermal"]), scale)]
        lines.append(np.hstack([*shown, paint_classes(one["classes"])] if "classes" in one else shown))
    sink = io.BytesIO()
    Image.fromarray(np.vstack(lines)).save(sink, "PNG")
    return sink.getvalue()


def _read_stored(plan: ChainPlan[Any], partition: int, pair: str) -> dict[str, Any]:
    """Return the accepted row of `pair`, else its last rejected attempt."""
    record = read_commit(plan.out, partition)
    if record is None:
        raise UserError(f"pair {pair} is planned in partition {partition}, which is not finished yet.")
    for name in record.files():
        table = read_shard(plan.out, partition, name, filters=[("pair_id", "=", pair)])
        if len(table):
            return max(table.to_pylist(), key=lambda found: found["attempt"])
    raise UserError(f"pair {pair} is in none of the files of partition {partition}; was one replaced by hand?")
