"""Whole runs on Ray whose words a server writes: a prompt, invention, and a fault in the middle. Pictures are noise."""

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from models.captions.reading import disagreements
from models.errors import EnvironmentFault
from models.weights.bundle import load_bundle
from pipelines.config.job import GenerateJob
from pipelines.storage.uri import Storage
from tests.pipelines import small
from tests.pipelines.captions.chat_server import Server, honest

pytestmark = pytest.mark.slow
EDITS = "identities.count=4", "views.per_identity=2", "gates.attempts=1", "partition_samples=4"
"""8 samples in two partitions, each a chunk of captions of its own."""


def chat_job(server: Server, mode: str, *edits: str) -> GenerateJob:
    words = f"{{backend: chat, mode: {mode}, url: '{server.url}', model: small, patience: 2, options: {{attempts: 2}}}}"
    return small.job(f"captions={words}", *EDITS, *edits)


def make_rows(job: GenerateJob, out: Path) -> list[dict[str, Any]]:
    """Run the job with the null bundle and return the rows of its pairs."""
    report = small.make(job, load_bundle("null"), out)
    assert report.accepted == 8
    rows: list[dict[str, Any]] = pq.read_table(out / "data").to_pylist()
    return rows


def test_a_prompt_becomes_pairs(local_ray: Any, server: Server, tmp_path: Path) -> None:
    job = chat_job(server, "parse", "prompt=an old man with a scar at 5 degrees")
    rows = make_rows(job, tmp_path / "out")
    assert len(rows) == 8 and {row["condition"] for row in rows} == {"5"}
    for row in rows:
        words = json.loads(row["attributes"])
        assert (words["sex"], words["age"]) == ("man", "elderly")
        assert row["caption_source"] == "llm" and row["caption"].endswith(". A scar.")
        assert disagreements(row["caption"], words) == {}
    # The reading is kept: the same command asks for nothing.
    reading = json.loads((tmp_path / "out" / "_plan" / "prompt.json").read_text())["reading"]
    assert (reading["source"], reading["also"]) == ("llm", "a scar")
    server.bodies.clear()
    assert make_rows(job, tmp_path / "out") == rows and server.bodies == []


def test_invented_people_become_pairs(local_ray: Any, server: Server, tmp_path: Path) -> None:
    for row in make_rows(chat_job(server, "invent"), tmp_path / "out"):
        words, sources = json.loads(row["attributes"]), json.loads(row["attributes_source"])
        assert row["caption_source"] == "llm" and disagreements(row["caption"], words) == {}
        assert sources["hair_colour"] == "invented"


def test_a_fault_in_the_middle_ends_with_75_and_the_same_command_goes_on(
    local_ray: Any, server: Server, tmp_path: Path
) -> None:
    """The server answers the first chunk, then nobody; where it answers again, what is committed stays."""
    # One request at a time, so that the first five answers hold the whole first chunk.
    job, out = chat_job(server, "describe", "captions.concurrency=1"), Storage(tmp_path / "out")
    server.answer = lambda body, number: honest(body) if number < 5 else (429, {"Retry-After": "30"}, "slow down")
    with pytest.raises(EnvironmentFault, match="has answered nothing for .*run the same command again") as error:
        make_rows(job, tmp_path / "out")
    assert error.value.exit_code == 75
    before = {name: out.read(name) for name in out.list("_plan/captions")}
    assert len(before) == 2  # a chunk's words, and what was counted of them
    server.reset()
    rows = make_rows(job, tmp_path / "out")
    assert {name: out.read(name) for name in before} == before and len(
        server.bodies
    ) == 4  # the chunk that was lost, and no other
    assert len({row["caption"] for row in rows}) == 8 and {row["caption_source"] for row in rows} == {"llm"}
