"""A translator and its student of few steps from end to end: trained, distilled, put into a bundle, asked, and measured."""

import json
from pathlib import Path
from typing import Any

import pytest

from models.errors import UserError
from models.weights.bundle import load_bundle
from pipelines import train
from pipelines.config.request import load_translate
from pipelines.config.translate import TranslateJob
from pipelines.evaluation.translators import bench
from pipelines.plan.translate import write_translate_plan
from pipelines.run.writer import write_partition
from pipelines.storage.commits import read_commits
from pipelines.storage.uri import Storage
from tests.models.translation.tiny import SHAPE, write_part
from tests.pipelines import small, small_translator

STEPS = ("steps=3", "batch=2", "warmup=1", "size=32", "validate_rows=2", "looked_at=1")


def learn(task: str, data: str, out: Path, *edits: str, **values: Any) -> Path:
    """Train a few steps in this process, and return the exported part."""
    train.run(task, data, str(out), validation=data, validation_split="all", overrides=(*STEPS, *edits), local=True)
    return out / "export"


@pytest.mark.slow
def test_a_student_is_trained_asked_and_measured(tiny_world: str, tmp_path: Path) -> None:
    # A teacher, and its student.
    parts = write_part(tmp_path / "parts")
    folders = (f"vae={parts / 'vae'}", f"autoencoder={parts / 'autoencoder'}")
    teacher = learn("translator", tiny_world, tmp_path / "teacher", f"shape={SHAPE.model_dump_json()}", *folders)
    student = learn("distill_translator", tiny_world, tmp_path / "student", f"teacher={teacher}", "sampled=[1,4]")
    records = [json.loads(line) for line in (tmp_path / "student" / "metrics.jsonl").read_text().splitlines()]
    assert {"validation/off_1", "validation/off_4", "validation/teacher_spread"} <= records[-1].keys()
    # In a bundle it takes its own steps and no others.
    own = small_translator.write_bundle(tmp_path / "few", student, settings={"steps": 4})
    images = small_translator.write_pictures(tmp_path / "images", 2)
    with pytest.raises(UserError, match="student of 1, 4 steps, not of 8"):
        load_translate(images, bundle=own, profile="laptop", overrides=["settings.translate.steps=8"])
    job = TranslateJob(images=images, size=small_translator.SIDE)
    plan = write_translate_plan(job, load_bundle(own), Storage(tmp_path / "out"))
    write_partition(small.chain_of(plan)(plan.partition(0)), plan, 1)
    (record,) = read_commits(plan.out, plan.partitions).values()
    assert record.facts["samples"] == 2 and record.facts["rejected"] == 0
    # Beside its teacher it has a row of its own, read by the real judges.
    whole = small_translator.write_bundle(tmp_path / "whole", teacher, settings={"steps": 8})
    edits = ["people=2", "together=2", "draws=1", f"student=[{student}]"]
    found = bench.run(tmp_path / "tables", tiny_world, whole, edits)
    rows = [row["row"] for row in found["identity"]]
    assert "student" in rows and rows.index("Self-attn Mamba") < rows.index("student")
    assert "`student`: a student of few steps" in (tmp_path / "tables" / "tables.md").read_text()
