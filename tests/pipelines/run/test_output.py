"""What is done with an output afterwards: a row made again, orphans removed, a report that a person opens."""

import dataclasses
import json
import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cluster import cli
from models.classes import SKIN
from models.errors import EnvironmentFault, Interrupted, UserError
from models.weights.bundle import Bundle, load_bundle
from pipelines import generate, inspect
from pipelines.captions.write import write_captions
from pipelines.config.captions import Captions
from pipelines.config.generate import pair_bytes
from pipelines.config.job import GenerateJob
from pipelines.config.request import check_request
from pipelines.generate import check_made, check_rejects
from pipelines.plan.extend import write_generate_plan
from pipelines.plan.generate import GeneratePlan
from pipelines.report import write
from pipelines.report.page import render_page
from pipelines.report.sheet import ShownSample, colour_degrees, face_scales, tiles
from pipelines.report.summary import summarise
from pipelines.rows.record import pair_id, pairs_of
from pipelines.run import clean, provenance, session
from pipelines.run.progress import State, View
from pipelines.run.writer import write_partition
from pipelines.storage.commits import read_commits
from pipelines.storage.lease import Lease
from pipelines.storage.uri import Storage
from tests.pipelines import small


@pytest.fixture
def plan(
    bundle: Bundle, job: Callable[..., GenerateJob], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> GeneratePlan:
    """An output whose first two of three partitions are finished; its report shows two people."""
    monkeypatch.setattr(write, "PEOPLE_SHOWN", 2)
    plan = write_generate_plan(job("encoding.visible=jpeg"), bundle, Storage(tmp_path / "out"))
    write_captions(plan, small.profile().captions)
    chain = small.chain_of(plan)
    for partition in range(2):
        write_partition(chain(plan.partition(partition)), plan, threads=1)
    return plan


def pairs(plan: GeneratePlan, folder: str = "data") -> list[dict[str, object]]:
    import pyarrow.parquet as pq

    return pq.read_table(Path(plan.out.uri) / folder).to_pylist()


def test_a_row_is_made_again_from_its_provenance(
    plan: GeneratePlan, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    redrawn = next(row for row in pairs(plan) if row["attempt"])
    result = inspect.run(plan.out.uri, str(redrawn["pair_id"]), picture=str(tmp_path / "new" / "row.png"))
    assert result is not None
    assert result.same
    assert (tmp_path / "new" / "row.png").stat().st_size > 1000
    shown = capsys.readouterr().out
    assert str(redrawn["sample_id"]) in shown
    assert "every pixel is the same" in shown


def test_a_row_without_classes_is_made_again_all_the_same(job: Callable[..., GenerateJob], tmp_path: Path) -> None:
    null = load_bundle("null")
    bare = null.model_copy(update={"parts": {name: part for name, part in null.parts.items() if name != "parser"}})
    plan = small.make_here(job("identities.count=1"), bare, tmp_path / "out")
    (row, *_) = pairs(plan)
    assert row["classes"] is None
    result = inspect.run(plan.out.uri, str(row["pair_id"]), picture=str(tmp_path / "row.png"))
    assert result is not None and result.same
    assert Image.open(tmp_path / "row.png").size == (128, 128)  # visible and thermal, stored and made again


def test_names_are_shown_as_they_are(plan: GeneratePlan, capsys: pytest.CaptureFixture[str]) -> None:
    inspect.show(pairs(plan)[0] | {"identity_id": "photos/[old]/a.jpg", "caption": "[/x]"})
    shown = capsys.readouterr().out
    assert "photos/[old]/a.jpg" in shown and "[/x]" in shown


def test_a_row_is_shown_though_weights_are_gone_and_another_outcome_is_told(
    plan: GeneratePlan, bundle: Bundle, capsys: pytest.CaptureFixture[str]
) -> None:
    (row, *_) = pairs(plan)
    provenance.write_launch(plan.out, plan.job, small.profile())
    weights = Path(bundle.folder, "visible", "files.json")
    kept = weights.read_bytes()
    weights.unlink()
    with pytest.raises(EnvironmentFault, match="never sealed"):
        inspect.run(plan.out.uri, str(row["pair_id"]))
    shown = capsys.readouterr().out
    assert str(row["sample_id"]) in shown and "visible (missing now) have changed" in shown
    weights.write_bytes(kept)
    run = json.loads(plan.out.read("_plan/run.json"))
    again = ["inspect", str(row["pair_id"]), "--out", plan.out.uri]
    assert cli.main(again) == 0
    run["recipe"]["encoding"]["visible"] = "png"  # what is stored went through JPEG
    plan.out.write("_plan/run.json", json.dumps(run).encode())
    assert cli.main(again) == 1
    assert "made again: visible differs by" in capsys.readouterr().out


def test_a_row_that_is_not_there_yet_or_not_at_all(plan: GeneratePlan) -> None:
    planned = pair_id(plan.sample_table(2)["sample_id"][0].as_py(), plan.recipe.layers[0])
    with pytest.raises(UserError, match="planned in partition 2, which is not finished"):
        inspect.run(plan.out.uri, planned)
    with pytest.raises(UserError, match="has no pair 'nothing'"):
        inspect.run(plan.out.uri, "nothing")
    with pytest.raises(UserError, match="holds no run"):
        inspect.run(plan.out.uri + "/data", "nothing")


@pytest.mark.parametrize("harm", [Path.unlink, lambda path: path.write_bytes(path.read_bytes()[:100])])
def test_a_shard_that_is_gone_or_cut_short_is_named_with_the_way_out(
    plan: GeneratePlan, harm: Callable[[Path], object]
) -> None:
    pair = str(pairs(plan)[0]["pair_id"])
    harm(min(Path(plan.out.uri, "data").iterdir()))
    small.write_missing(plan, small.chain_of(plan))
    for use in (lambda: small.finish(plan), lambda: inspect.run(plan.out.uri, pair)):
        with pytest.raises(EnvironmentFault, match=r"parquet is missing or damaged \(delete _commits/part-00000.json"):
            use()


def test_what_is_missing_here_is_said_before_anything_is_fetched_from_elsewhere(
    plan: GeneratePlan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fetched = list[str]()
    bundle = small.with_part(plan.bundle, "captions", kind="vllm", weights=f"hub:a/b@{'0' * 40}", licence="apache-2.0")
    monkeypatch.setattr(
        generate, "fetch", lambda part, folder: fetched.extend(one.uri for one in part.weights.values())
    )
    monkeypatch.setattr(generate, "run_job", lambda *_: None)
    job = plan.job.model_copy(update={"captions": Captions(backend="llm")})
    generate.generate(check_request(job, bundle, small.profile()), plan.out)
    assert len(fetched) > 2 and [name.startswith("hub:") for name in fetched] == sorted(
        name.startswith("hub:") for name in fetched
    )
    fetched.clear()
    nobody = job.identities.model_copy(update={"source": str(tmp_path / "people.parquet")})
    request = check_request(job.model_copy(update={"identities": nobody}), bundle, small.profile())
    with pytest.raises(UserError, match="people.parquet does not exist"):
        generate.generate(request, plan.out)
    assert not fetched


@pytest.mark.parametrize("phase", ["write_generate_plan", "finish"])
def test_a_signal_while_planning_or_reporting_stops_the_run(
    phase: str, plan: GeneratePlan, monkeypatch: pytest.MonkeyPatch
) -> None:
    small.write_missing(plan, small.chain_of(plan))
    go_on, ended = threading.Event(), threading.Event()

    def long(*_: object) -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        go_on.wait(20)
        ended.set()

    monkeypatch.setattr(generate, phase, long)
    with pytest.raises(Interrupted, match="stopped by SIGTERM"):
        generate.generate(check_request(plan.job, plan.bundle, small.profile()), plan.out)
    go_on.set()
    assert ended.wait(20)


def test_clean_removes_what_no_record_names_and_nothing_else(plan: GeneratePlan) -> None:
    out = Path(plan.out.uri)
    before = small.shards(out)
    orphan, half = out / "data" / "part-00002-000000000000.parquet", out / "data" / ".part-00002.1234.tmp"
    orphan.write_bytes(b"given up")
    half.write_bytes(b"ha")
    assert clean.run(str(out), dry_run=True) == ["data/.part-00002.1234.tmp", "data/part-00002-000000000000.parquet"]
    assert orphan.exists()
    with Lease(plan.out), pytest.raises(UserError, match="is being written by process"):
        clean.run(str(out))
    clean.run(str(out))
    assert small.shards(out) == before


def test_commits_that_are_deleted_while_a_run_goes_on_are_missed_at_its_end(plan: GeneratePlan) -> None:
    small.write_missing(plan, small.chain_of(plan))
    assert list(read_commits(plan.out, plan.partitions)) == [0, 1, 2]
    Path(plan.out.uri, "_commits", "part-00001.json").unlink()
    with pytest.raises(
        EnvironmentFault, match=r"1 of its 3 partitions .*part-00001.json\): they were deleted meanwhile"
    ):
        small.finish(plan)
    assert not Path(plan.out.uri, "manifest.json").exists()
    small.write_missing(plan, small.chain_of(plan))
    assert small.finish(plan).samples == 24


def test_the_report_escapes_and_counts(plan: GeneratePlan) -> None:
    small.write_missing(plan, small.chain_of(plan))
    report = small.finish(plan)
    assert report.pairs == len(pairs(plan))
    assert report.samples == 24
    assert sum(report.reasons.values()) == len(pairs(plan, "rejects")) / 2
    text = (Path(plan.out.uri) / "report" / "index.html").read_text()
    assert "<script" not in text
    assert "http" not in text.replace("http-equiv", "")
    loud = "<script>alert('\"')</script>"
    sample = ShownSample("s", loud, 0, 0, loud, loud, {"identity": 0.5}, None, None, {})
    shown = render_page(
        report, plan, [], [sample], {"face_area": [0.5, float("nan")], loud: [1.0], "none": [float("nan")]}
    )
    assert "face area" in shown and "histogram of none" not in shown
    assert loud not in shown and shown.count("&lt;script&gt;") == 5  # caption, person, reason; the chart twice
    front = (Path(plan.out.uri) / "README.md").read_text()
    assert "data/*.parquet" in front


def test_rows_alone_have_a_report_without_pictures(job: Callable[..., GenerateJob], tmp_path: Path) -> None:
    bare = load_bundle("null", ["visible.options.pictures=false"])
    plan = small.make_here(job("identities.count=1"), bare, tmp_path / "out")
    assert small.finish(plan).pairs == 8
    text = (tmp_path / "out" / "report" / "index.html").read_text()
    assert pairs(plan)[0]["identity_id"] in text and not (tmp_path / "out" / "report" / "contact.png").exists()


def test_a_view_of_many_layers_shows_the_first_few() -> None:
    layers = {f"warm.{k}" if k else "warm": np.full((8, 8), 30.0 + k, np.float32) for k in range(9)}
    black, background = np.zeros((8, 8, 3), np.uint8), np.zeros((8, 8), np.uint8)
    sample = ShownSample("s", "p", 0, 0, "", "", {}, black, background, layers)
    assert list(tiles(sample, face_scales([sample]))) == ["visible", "warm", "warm.1", "warm.2", "warm.3", "classes"]


def test_the_scale_of_a_layer_shows_faces_and_not_the_room() -> None:
    warm, cold, classes = np.full((3, 20, 20), 15, np.float32)
    classes[:10], warm[:10], cold[:10] = SKIN, np.linspace(31.5, 34.5, 20), np.linspace(24.5, 33.5, 20)
    classes[10:] = 0
    seen = ShownSample("s", "p", 0, 0, "", "", {}, None, classes.astype(np.uint8), {"warm": warm, "cold": cold})
    assert face_scales([seen]) == {"warm": (31, 35), "cold": (24, 34)}
    assert face_scales([dataclasses.replace(seen, classes=None)])["warm"] == (15, 35)
    black = dataclasses.replace(seen, visible=np.zeros((20, 20, 3), np.uint8))
    shown = tiles(black, face_scales([black]))["warm"]
    assert shown[15].sum() < shown[0, 0].sum() < shown[0, 10].sum() < shown[0, 19].sum()


def test_degrees_become_colours_within_their_scale() -> None:
    shown = colour_degrees(np.array([[20.0, 30.0, 99.0]], np.float32), (20, 40))
    assert shown.dtype == np.uint8
    assert shown[0, 0].sum() < shown[0, 1].sum() < shown[0, 2].sum()


def test_progress_is_one_line_with_rate_time_left_and_busy_stages() -> None:
    state = State("demo", total=24, before=4, done=4, phase="pictures")
    assert "| 4/24 samples | stages start |" in state.line() and "/s" not in state.line()
    state.add({"samples": 4, "rejected": 1, "seconds_visible": 3.0, "seconds_write": 0.5})
    state.add({"samples": 2, "redrawn": 2, "seconds_visible": 6.0, "seconds_write": 0.5})
    state.began -= 3.0
    line = state.line()
    assert "10/24 samples | 2.00/s | left 0:0" in line
    assert "rejected 1 | redrawn 2 | visible 90% | write 10%" in line


def test_a_run_says_what_it_came_to(plan: GeneratePlan) -> None:
    small.write_missing(plan, small.chain_of(plan))
    report = small.finish(plan)
    given_up = report.samples - report.accepted
    assert report.summary_text() == (
        f"{report.pairs} pairs; {report.accepted} of 24 samples accepted, {report.redrawn} drawn again, {given_up} given up\n"
        "captions: 24 by the grammar, as asked"
    )
    assert (
        dataclasses.replace(report, captions_cut=3)
        .summary_text()
        .endswith("as asked\n3 captions are longer than what the visible part reads; their ends were cut")
    )
    assert {"captions", "write", "visible"} <= set(report.seconds)
    check_made(report)
    with pytest.raises(UserError, match=r"no sample was accepted: .*rejects holds all of them\. Widen the gates"):
        check_made(dataclasses.replace(report, pairs=0))


def test_a_caption_that_was_cut_is_counted_and_said_of_its_row(plan: GeneratePlan) -> None:
    rows = small.chain_of(plan)(plan.partition(2))
    rows["caption_cut"] = np.where(np.arange(len(rows["final"])) == 0, 9, 0).astype(np.int32)
    said = [json.loads(pairs_of(plan.record, rows, row)[0]["provenance"]) for row in (0, 1)]
    assert said[0]["caption_cut"] == 9 and "caption_cut" not in said[1]
    write_partition(rows, plan, 1)
    assert read_commits(plan.out)[2].facts["captions_cut"] == 1
    assert summarise(plan, read_commits(plan.out)).captions_cut == 1


@pytest.mark.parametrize(
    ("seen", "rejected", "stops"),
    [(7, 7, False), (8, 8, True), (10, 9, False), (31, 31, True), (32, 32, False), (500, 500, False)],
)
def test_a_run_stops_early_and_not_later(
    job: Callable[..., GenerateJob], seen: int, rejected: int, stops: bool
) -> None:
    """Of the first samples of this run nine in ten must be rejected; what an earlier run made says nothing."""
    state = State("demo", total=1000, before=100, done=100 + seen, rejected=rejected)
    wanted = job("stop.first_samples=8")
    if stops:
        with pytest.raises(
            EnvironmentFault, match=rf"{rejected} of the first {seen} samples .*rejected_share=0.9 allows"
        ):
            check_rejects(wanted, state)
    else:
        check_rejects(wanted, state)


def test_progress_shows_captions_alone_or_beside_the_pictures() -> None:
    state = State("demo", total=24, phase="captions")
    assert state.line().startswith("demo: captions | captions 0/0")
    state.count_captions(1, 72)  # however long the engine took to start
    state.texts_began -= 2.0
    state.count_captions(24, 72)
    assert "captions 24/72 | 12.0/s | left 0:0" in state.line() and "samples" not in state.line()
    state.restart_clock("pictures")
    state.add({"samples": 8})
    assert "captions 24/72 | 12.0/s" in state.line() and "| 8/24 samples |" in state.line()
    state.count_captions(72, 72)
    assert "captions" not in state.line()
    state.restart_clock("done")
    assert state.line() == "demo: done | 8/24 samples | rejected 0 | redrawn 0"


def test_a_log_ends_with_one_last_line(capsys: pytest.CaptureFixture[str]) -> None:
    state = State("demo", total=24, before=24, done=24, phase="done")
    with View(state) as view:
        view.show()
    assert capsys.readouterr().err == f"{state.line()}\n"
    with View(state) as view:
        view.show()
        state.add({"samples": 0, "rejected": 1})
    assert capsys.readouterr().err.splitlines()[-1] == state.line()


def test_shared_memory_that_is_too_small_is_noticed_before_ray_starts(tmp_path: Path) -> None:
    with pytest.raises(EnvironmentFault, match=r"MiB free, the object store needs .*--shm-size"):
        session.check_shared_memory(2**60, tmp_path)


def test_a_disk_that_is_too_small_is_noticed_before_ray_starts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(UserError, match=r"takes about 1,152,921,504.6 GB, and [\d,.]+ GB are free.*--limit N"):
        session.check_disk(tmp_path / "not" / "there", 2**60)
    session.check_disk(tmp_path, 10**6)
    assert capsys.readouterr().out == ""
    session.check_disk(tmp_path, 2 * 10**8)
    assert "about 0.2 of" in capsys.readouterr().out


def test_what_rows_take_on_disk_is_told_within_a_half(plan: GeneratePlan) -> None:
    """Of pictures of the null bundle, 64 px."""
    wanted = small.job("identities.count=4", "gates={attempts: 1}")
    made = small.make_here(wanted, load_bundle("null"), Path(plan.out.uri).parent / "null")
    records = read_commits(made.out).values()
    measured = sum(record.bytes for record in records) / sum(record.rows for record in records)
    assert 2 / 3 < pair_bytes(wanted, made.bundle) / measured < 3 / 2


@pytest.mark.slow
def test_an_output_may_lie_on_object_storage(
    s3: str, bundle: Bundle, job: Callable[..., GenerateJob], tmp_path: Path
) -> None:
    contents = []
    for where in (f"{s3}/out", str(tmp_path / "local")):
        plan = small.make_here(job("identities.count=2"), bundle, where)
        assert small.finish(plan).samples == 8
        contents.append({name: plan.out.read(name) for name in plan.out.list() if name.endswith(".parquet")})
    assert contents[0] == contents[1]
    result = inspect.run(f"{s3}/out", str(pairs(plan)[0]["pair_id"]))
    assert result is not None
    assert result.same
