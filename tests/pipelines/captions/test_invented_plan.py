"""A plan whose attributes are invented: its rows follow what stands beside the captions, and the report counts it."""

import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from models.captions.answers import CAPTION
from models.captions.grammar import write_caption
from models.captions.reading import disagreements
from models.weights.bundle import Bundle
from pipelines.captions.keys import Keys
from pipelines.captions.resident import Structured, Written
from pipelines.captions.write import invent_texts
from pipelines.config.captions import Captions, VllmOptions
from pipelines.config.job import GenerateJob
from pipelines.plan.attributes import IDENTITY
from pipelines.plan.extend import write_generate_plan
from pipelines.plan.generate import GeneratePlan
from pipelines.report.summary import measure_diversity
from pipelines.storage.uri import Storage


class Pool:
    """Answers as an honest model does."""

    spec = SimpleNamespace(options=VllmOptions(), name="model")

    def submit(self, requests: Sequence[Structured]) -> Sequence[Structured]:
        return requests

    def collect(self, requests: Sequence[Structured]) -> list[Written]:
        return [Written(self.answer(one), 1, 0.0) for one in requests]

    def answer(self, request: Structured) -> str:
        words = {name: max(one["enum"]) for name, one in request.schema["properties"].items() if name != CAPTION}
        return json.dumps({**words, CAPTION: write_caption(words, request.seed)})


def invented(plan: GeneratePlan) -> list[dict[str, Any]]:
    invent_texts(plan, Pool(), Keys(), time.monotonic(), lambda written: None)  # type: ignore[arg-type]
    columns = [plan.partition(k) for k in range(plan.partitions)]
    names = ("identity_id", "attributes", "attributes_source", "caption", "caption_source")
    return [dict(zip(names, row, strict=True)) for one in columns for row in zip(*(one[name] for name in names))]


def test_rows_follow_what_was_invented(bundle: Bundle, job: Callable[..., GenerateJob], tmp_path: Path) -> None:
    wanted = job("identities.count=6").model_copy(update={"captions": Captions(mode="invent")})
    plan = write_generate_plan(wanted, bundle, Storage(tmp_path / "out"))
    rows = invented(plan)
    for row in rows:
        assert disagreements(row["caption"], json.loads(row["attributes"])) == {}
        assert "invented" in json.loads(row["attributes_source"]).values() and row["caption_source"] == "llm"
    people = {row["identity_id"]: set[str]() for row in rows}
    for row in rows:
        people[row["identity_id"]].add(json.dumps([json.loads(row["attributes"]).get(name) for name in IDENTITY]))
    assert len(people) == 6 and all(len(words) == 1 for words in people.values())
    found = measure_diversity(plan, range(plan.partitions))
    assert 0 < found["distinct_1"] < found["distinct_2"] < 1 and found["entropy"] > 0.5


def test_a_limit_that_grows_leaves_the_person_as_they_were(
    bundle: Bundle, job: Callable[..., GenerateJob], tmp_path: Path
) -> None:
    """The first run ends in the middle of a person; the rest of their views follows."""
    out = Storage(tmp_path / "out")
    wanted = job("identities.count=2").model_copy(update={"captions": Captions(mode="invent")})
    first = invented(write_generate_plan(wanted.model_copy(update={"limit": 2}), bundle, out))
    rows = invented(write_generate_plan(wanted, bundle, out))
    assert rows[:2] == first
    one = [json.loads(row["attributes"]) for row in rows if row["identity_id"] == first[0]["identity_id"]]
    assert len(one) > 2 and all(words[name] == one[0][name] for words in one for name in IDENTITY if name in one[0])
