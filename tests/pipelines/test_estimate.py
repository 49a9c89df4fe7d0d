"""What a job will take: the arithmetic of an estimate, rates of a run and of a bench, and what does not fit them."""

import json
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from cluster.commands import bench, plan
from models.errors import UserError
from models.weights.bundle import load_bundle
from pipelines.config.recipe import stage_recipes
from pipelines.config.request import Request, check_request
from pipelines.estimate.rates import Rates, digests_of, rates_of_run, read_rates
from pipelines.estimate.take import REQUESTS, estimate
from pipelines.plan.extend import write_generate_plan
from pipelines.run.provenance import write_launch
from pipelines.storage.commits import read_commits
from pipelines.storage.uri import Storage
from tests.pipelines import small

STAGES = ("visible", "parser", "thermal", "faces", "gates", "landmarks")
SLOW = "{stages: [thermal, faces, gates, landmarks], actors: [1, 2]}"
TWO = f"groups=[{{stages: [visible, parser], actors: [1, 4], gpus: 1}}, {SLOW}]"


def request(*edits: str) -> Request:
    """A job of 1,000 samples in 125 partitions on pools of four GPUs and of two processors, at 12 an hour."""
    job = small.job("identities.count=250", "partition_samples=8", "gates={attempts: 1}")
    return check_request(job, load_bundle("null"), small.profile(TWO, "price=12", *edits))


def rates(wanted: Request, **seconds: float) -> Rates:
    """Rates of a machine with a GPU: a second of each stage unless said otherwise."""
    return Rates(
        hardware="8 x processor, 1 x GPU", cores=8, gpu=True, bundle="null", size=64, layers=2, samples=100,
        seconds={**dict.fromkeys((*STAGES, "write"), 1.0), **seconds}, captions=0.0, clock="wall", start=60.0, pair_bytes=1e6,
        accepted=0.9, redrawn=0.25, made_of=digests_of(stage_recipes(wanted.chain)),
    )  # fmt: skip


def test_the_slowest_pool_decides() -> None:
    wanted = request()
    found = estimate(wanted, rates(wanted))
    assert (found.samples, found.pairs, found.partitions, found.requests) == (
        1000,
        2000,
        125,
        125 * REQUESTS + 8 * (125 + 32),
    )
    assert found.pace == {"visible + parser": 2 / 4, "thermal + faces + gates + landmarks": 4 / 2, "write": 1 / 2}
    assert found.bottleneck == "thermal + faces + gates + landmarks" and "twice the actors" in found.advice
    assert found.wall_hours == pytest.approx((60 + 1000 * 2) / 3600)
    assert found.gpu_hours == pytest.approx(4 * found.wall_hours) and found.cost == pytest.approx(12 * found.wall_hours)
    assert "25% of them drawn again" in found.notes[0]
    assert found.storage_gb == pytest.approx(2000 * 0.9 * 1e-3, rel=0.01)
    # Fewer actors than the profile allows, a slow writer, and a language model.
    assert estimate(wanted, rates(wanted), most=1).pace["visible + parser"] == 2
    slow = estimate(wanted, rates(wanted, write=9.0))
    assert slow.bottleneck == "write" and "writer.tasks" in slow.advice
    told = estimate(wanted, replace(rates(wanted), captions=5.0))
    assert told.bottleneck == "captions" and told.gpu_hours == pytest.approx(4 * told.wall_hours)
    assert "visible is 90% of it" in estimate(wanted, rates(wanted, visible=9.0), most=1).advice


def test_rates_that_do_not_fit_are_refused_or_said(tmp_path: Path) -> None:
    wanted = request()
    good = rates(wanted)
    with pytest.raises(UserError, match=r"has GPUs, and the rates are of 2 x processor"):
        estimate(wanted, replace(good, hardware="2 x processor", gpu=False))
    with pytest.raises(UserError, match="say nothing of thermal"):
        estimate(wanted, replace(good, seconds={k: v for k, v in good.seconds.items() if k != "thermal"}))
    assert len(estimate(wanted, good).notes) == 1
    notes = estimate(wanted, replace(good, made_of={**good.made_of, "faces": "other"}, layers=1)).notes
    assert "other weights or settings: faces" in notes[1] and "1 thermal pictures" in notes[2]
    (tmp_path / "rates.json").write_text("{}")
    for name in ("rates.json", "gone.json"):
        with pytest.raises(UserError, match="holds no rates"):
            read_rates(str(tmp_path / name))


def test_without_rates_it_says_what_follows_from_the_job_alone() -> None:
    said = str(estimate(request()))
    assert "1,000 samples" in said and "no rates" in said and "hours" not in said


def test_rates_of_a_run_are_what_its_records_say(tmp_path: Path) -> None:
    made = small.make_here(
        small.job("identities.count=2", "gates={attempts: 1}"), load_bundle("null"), tmp_path / "out"
    )
    empty = write_generate_plan(small.job("identities.count=1"), load_bundle("null"), Storage(tmp_path / "empty"))
    with pytest.raises(UserError, match="has nothing committed"):
        rates_of_run(empty.out)
    write_launch(made.out, made.job, small.profile())
    found, (record,) = rates_of_run(made.out), read_commits(made.out).values()
    assert found.samples == 8 and found.layers == 2 and found.accepted == 1 - record.facts["rejected"] / 8
    assert found.seconds == {stage: seconds / 8 for stage, seconds in record.facts["seconds"].items()}
    assert found.pair_bytes == record.bytes / record.rows


def test_a_bench_measures_what_a_plan_reads(tmp_path: Path) -> None:
    words = ["--bundle", "null", "--job", "pairs", "--set", "partition_samples=8", "--set", "views.per_identity=4"]
    run, file = CliRunner(), str(tmp_path / "rates.json")
    shown = run.invoke(bench.stages, [*words, "--samples", "16", "--out", file])
    assert shown.exit_code == 0, shown.output
    measured = read_rates(file)
    assert (
        measured.clock in ("processor", "wall")
        and measured.samples == 16
        and set(measured.seconds) == {*STAGES, "write"}
    )
    assert all(seconds >= 0 for seconds in measured.seconds.values()) and sum(measured.seconds.values()) > 0
    shown = run.invoke(plan.command, [*words, "--rates", file, "--set", "captions=template", "--json"])
    told = json.loads(shown.output)
    assert (
        told["samples"] == 4000
        and told["wall_hours"] > 0
        and not any("other weights" in note for note in told["notes"])
    )
    assert asdict(measured)["made_of"]
