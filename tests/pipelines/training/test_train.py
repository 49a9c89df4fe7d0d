"""Training runs: the same weights after any interruption, with any number of workers, and with what is kept beside them."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow as pa
import pytest
import torch
import yaml
from safetensors.torch import load_file

from models.card import Card, update_metrics
from models.errors import Interrupted, UserError
from models.tasks import adapter, landmarker, text_branch
from models.weights.store import verify
from pipelines import train
from pipelines.config.profile import Training
from pipelines.run import provenance
from pipelines.storage.uri import Storage
from pipelines.training.checkpoints import Checkpoints
from pipelines.training.export import describe_config, export_part
from pipelines.training.fit import fit
from pipelines.training.job import TrainJob, claim, columns_of, resolve_job, sides_of
from tests.pipelines import worlds

TASK = "tests.pipelines.training.tiny_task"
ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Shards of the record as `generate` writes it: 12 people, 3 of them of validation, 64 px."""
    job = worlds.JOB.model_copy(update={"count": 48, "size": 64, "partition": 16})
    return worlds.write_record(tmp_path_factory.mktemp("made"), worlds.render(job), held_out=3)


@pytest.fixture(scope="module")
def profile(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("profile") / "test.yaml"
    path.write_text("{name: test, groups: [{stages: [render]}], training: {threads: 1, failures: 1}}")
    return str(path)


def run(data: str, out: Path, profile: str, *edits: str, **values: Any) -> Card:
    return train.run(
        TASK,
        data,
        str(out),
        validation=data,
        validation_split="all",
        overrides=edits,
        profile=profile,
        checkpoint_seconds=0.0,
        **values,
    )


def weights(out: Path) -> dict[str, torch.Tensor]:
    name = json.loads((out / "checkpoints.json").read_text())["last"]
    return load_file(out / name / "model.safetensors")


def distance(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> float:
    return max(float((one[name] - other[name]).abs().max()) for name in one)


@pytest.fixture(scope="module")
def undisturbed(tiny_world: str, profile: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("undisturbed")
    run(tiny_world, out, profile, local=True)
    return out


def test_a_run_leaves_everything_beside_its_weights(undisturbed: Path) -> None:
    records = [json.loads(line) for line in (undisturbed / "metrics.jsonl").read_text().splitlines()]
    assert [record["step"] for record in records if "validation/score" in record] == [6, 12]
    assert {"loss", "lr", "gradient_norm", "rows_per_second"} <= set(records[-2])
    assert (undisturbed / "pictures" / "step-0000012.png").exists() and (undisturbed / "curve.png").exists()
    assert list((undisturbed / "tensorboard").iterdir())
    verify(undisturbed / "export")  # so that a bundle takes it as it is
    pointer = json.loads((undisturbed / "checkpoints.json").read_text())
    kept = {path.name for path in (undisturbed / "checkpoints").iterdir() if list(path.iterdir())}
    assert kept == {Path(pointer["last"]).name, Path(pointer["best"]).name}


def test_the_card_says_what_was_done(undisturbed: Path, tiny_world: str) -> None:
    card = Card.read(undisturbed / "export")
    # The rows are said apart from the settings: another learning rate changes the one digest alone.
    job = TrainJob(task=TASK, data=tiny_world)
    assert card.data_digest == job.data_digest() == job.model_copy(update={"config": {"lr": 0.1}}).data_digest()
    assert card.config_digest not in ("", card.data_digest)
    assert TrainJob(task=TASK, data=f"{tiny_world},{tiny_world}").data_digest() != card.data_digest
    assert card.steps in (6, 12) and card.seed == 0 and card.parameters > 0
    assert "split generator" in card.splits["train"] and card.metrics["validation"]["score"] < 0
    update_metrics(undisturbed / "export", "judges", {"rank1": 0.5})
    assert Card.read(undisturbed / "export").metrics["judges"] == {"rank1": 0.5}
    assert "| rank1 | 0.5 |" in (undisturbed / "export" / "README.md").read_text()


@pytest.mark.slow
def test_a_stopped_run_reaches_the_same_weights(tiny_world: str, undisturbed: Path, tmp_path: Path) -> None:
    job = TrainJob(
        task=TASK, data=tiny_world, validation=tiny_world, validation_split="all", config={}, checkpoint_seconds=1e9
    )
    storage, pool = Storage(tmp_path), Training(threads=1)
    claim(job, job.digest(), storage)
    for steps in (5, 4):
        stops = iter([False] * (steps - 1) + [True])
        with pytest.raises(Interrupted, match="the same command continues"):
            fit(job, storage, pool, stop=stops.__next__)
    assert Checkpoints(storage).pointer()["step"] == 9
    fit(job, storage, pool)
    assert distance(weights(tmp_path), weights(undisturbed)) == 0
    steps = [json.loads(line)["step"] for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert steps == sorted(steps)


@pytest.mark.slow
def test_a_run_may_live_on_object_storage(s3: str, tiny_world: str, undisturbed: Path, tmp_path: Path) -> None:
    job, storage = (
        TrainJob(task=TASK, data=tiny_world, validation=tiny_world, validation_split="all"),
        Storage(f"{s3}/train"),
    )
    claim(job, job.digest(), storage)
    stops = iter([False] * 7 + [True])
    with pytest.raises(Interrupted):
        fit(job, storage, Training(threads=1), stop=stops.__next__)
    fit(job, storage, Training(threads=1))
    folder = Checkpoints(storage).restore(tmp_path)
    assert folder is not None
    assert distance(load_file(folder / "model.safetensors"), weights(undisturbed)) == 0
    names = storage.list()
    assert {"metrics.jsonl", "curve.png", "pictures/step-0000012.png"} <= set(names)
    assert len({name.split("/")[1] for name in names if name.startswith("checkpoints/")}) <= 2
    assert any(name.startswith("tensorboard/") for name in names)
    part = Storage(f"{s3}/train/export")
    card = export_part(job, storage, part)
    local = undisturbed / "export"
    assert part.list() == sorted(str(path.relative_to(local)) for path in local.rglob("*") if path.is_file())
    assert card.title in part.read("README.md").decode()


def test_a_card_names_places_as_other_machines_would(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    config = landmarker.Config(thermalizer="out/thermal", init="/elsewhere/part")
    assert config.thermalizer == str(tmp_path / "out/thermal")
    found = describe_config(config)
    assert (found["thermalizer"], found["init"]) == ("out/thermal", "/elsewhere/part")
    assert set(found) == set(landmarker.Config.model_fields)


def test_another_run_is_refused_by_what_differs(tiny_world: str, undisturbed: Path, profile: str) -> None:
    with pytest.raises(UserError, match=r"another run \(different: lr\)"):
        run(tiny_world, undisturbed, profile, "lr=0.1", local=True)
    with pytest.raises(UserError, match="unknown key; known here"):
        run(tiny_world, undisturbed, profile, "learning_rate=0.1", local=True)
    with pytest.raises(UserError, match="unknown task 'nonsense'; known: recogniser"):
        train.run("nonsense", tiny_world, str(undisturbed), profile=profile)


def test_data_that_is_not_there_claims_nothing(tiny_world: str, profile: str, tmp_path: Path) -> None:
    out = tmp_path / "run"
    with pytest.raises(UserError, match="wrong holds no committed shard"):
        run(str(tmp_path / "wrong"), out, profile, local=True)
    with pytest.raises(UserError, match="wrong holds no committed shard"):
        train.run(TASK, tiny_world, str(out), validation=str(tmp_path / "wrong"), profile=profile, local=True)
    edits = [f"data.thermal_unpaired={tmp_path / 'frames'}", "loss.patches=0.01"]
    with pytest.raises(UserError, match="frames does not exist"):
        train.run("thermalizer", tiny_world, str(out), overrides=edits, profile=profile, local=True)
    with pytest.raises(UserError, match="nothing.safetensors does not exist"):
        run(tiny_world, out, profile, f"init={tmp_path / 'nothing.safetensors'}", local=True)
    assert not out.exists()


def test_weights_that_a_run_reads_are_part_of_it(tiny_world: str, tmp_path: Path) -> None:
    """Retrained in place, a thermalizer is another one; a new figure on its card changes nothing."""
    part = tmp_path / "part"
    part.mkdir()
    (part / "warm.safetensors").write_bytes(b"one")
    jobs = [
        TrainJob(task="landmarker", data=tiny_world, config={"thermalizer": str(part)}),
        TrainJob(task="captioner", config={"init": str(part)}),
    ]
    before = [job.digest() for job in jobs]
    (part / "README.md").write_text("0.9 K")
    assert [job.digest() for job in jobs] == before
    (part / "warm.safetensors").write_bytes(b"two")
    assert all(job.digest() != known for job, known in zip(jobs, before))


def test_a_job_file_says_what_flags_do_not(tiny_world: str, undisturbed: Path, profile: str, tmp_path: Path) -> None:
    file = tmp_path / "job.yaml"
    file.write_text(yaml.safe_dump({"task": TASK, "data": tiny_world, "config": {"steps": 99, "ema": 0.9}}))
    out = tmp_path / "run"
    card = train.run(
        None,
        None,
        str(out),
        job_file=file,
        validation=tiny_world,
        validation_split="all",
        overrides=["steps=12"],
        profile=profile,
        local=True,
    )
    assert card.task == TASK and distance(weights(out), weights(undisturbed)) == 0
    file.write_text(yaml.safe_dump({"task": TASK, "rows": 3}))
    with pytest.raises(UserError, match="rows: unknown key; known here: .*validation"):
        train.run(None, None, str(out), job_file=file, profile=profile)
    with pytest.raises(UserError, match="name a task"):
        train.run(None, tiny_world, str(out), profile=profile)


@pytest.mark.slow
def test_a_bundle_gives_the_first_weights(tiny_world: str, profile: str, tmp_path: Path) -> None:
    """At a rate of nearly zero, what comes out is what the starter has."""
    train.run(
        "thermalizer", tiny_world, str(tmp_path), validation=tiny_world, validation_split="all", bundle="starter",
        profile=profile, local=True,
        overrides=["steps=1", "batch=16", "lr=1e-12", "bf16=false", "ema=0"],
    )  # fmt: skip
    found, wanted = (load_file(f / "cold.safetensors") for f in (tmp_path / "export", ROOT / "models/starter/thermal"))
    assert (
        max(float((found[k] - wanted[k]).abs().max()) for k in wanted if "running" not in k and "num_" not in k) < 1e-6
    )
    with pytest.raises(UserError, match=r"set thermal.low=0 thermal.high=45"):
        train.run("thermalizer", tiny_world, str(tmp_path / "b"), bundle="starter", profile=profile, local=True,
                  overrides=["thermal.low=20", "thermal.high=40"])  # fmt: skip
    with pytest.raises(UserError, match="a bundle.s are for parser"):
        train.run("vae", tiny_world, str(tmp_path / "c"), bundle="starter", profile=profile, local=True)


def test_workers_that_cannot_share_a_batch_are_refused(tiny_world: str, profile: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="batch 8 cannot be shared equally by 3 workers"):
        run(tiny_world, tmp_path, profile, "profile.training.workers=3")


def test_rows_that_changed_are_refused(tiny_world: str, undisturbed: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="trained on other rows"):
        Checkpoints(Storage(undisturbed), "0/0").restore(tmp_path)


@pytest.mark.slow
def test_a_thermalizer_trains_on_a_folder_of_frames(tiny_world: str, tmp_path: Path) -> None:
    """All three terms on real rows, faces without temperature and a folder of frames; other frames are other rows."""
    frames = tmp_path / "frames"
    frames.mkdir()
    picture = np.tile(np.linspace(293.15, 308.15, 40), (40, 1)) * 100
    cv2.imwrite(str(frames / "a.png"), picture.astype(np.uint16))
    values = {
        "steps": 2, "batch": 8, "unet": {"width": 8, "blocks": [1, 1, 1, 1]},
        "loss": {"patches": 0.01, "prior": 1.0, "sizes": [32, 16], "count": 32},
        "data": {"thermal_unpaired": str(frames), "faces": tiny_world},
    }  # fmt: skip
    job = TrainJob(task="thermalizer", data=tiny_world, validation=tiny_world, validation_split="all", config=values)
    storage = Storage(tmp_path / "run")
    claim(job, job.digest(), storage)
    metrics = fit(job, storage, Training(threads=1))
    assert metrics["step"] == 2 and 0 <= metrics["clipped"] <= 1
    record = json.loads((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()[0])
    assert record["patches"] > 0 and record["prior"] > 0
    cv2.imwrite(str(frames / "b.png"), picture.T.astype(np.uint16))
    with pytest.raises(UserError, match="trained on other rows"):
        fit(job, storage, Training(threads=1))


def test_bfloat16_that_a_processor_lacks_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(provenance, "CPUINFO", tmp_path / "cpuinfo")

    def said(flags: str | None, bf16: bool = True, on_gpu: bool = False) -> bool:
        caplog.clear()
        if flags is not None:
            (tmp_path / "cpuinfo").write_text(f"model name : X\nflags : fpu {flags} sse\n")
        train.warn_of_bf16(TrainJob(task=TASK, data="rows", config={"bf16": bf16}), on_gpu)
        return "bf16=false" in caplog.text

    assert not said(None)  # no such file: nothing is known
    assert said("avx2") and not said("avx2", bf16=False) and not said("avx2", on_gpu=True)
    assert not said("avx512_bf16") and not said("bf16")


def test_a_relative_path_is_of_the_folder_where_the_command_was_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Workers run in folders of their own, and read the job anew."""
    monkeypatch.chdir(tmp_path)
    edits = ["data.thermal_unpaired=frames/", "loss.patches=0.01"]
    job = resolve_job({"task": "thermalizer", "data": "world"}, edits=edits)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    there = TrainJob.model_validate(job.model_dump(mode="json"))
    task, config = there.load_task()
    assert [side.uri for side in sides_of(task, config).values()] == [str(tmp_path / "frames")]


def test_people_of_other_splits_are_not_trained_on(tiny_world: str, profile: str, tmp_path: Path) -> None:
    """The world's generators are of split train; whoever asks for others learns who is there before anything is claimed."""
    out = tmp_path / "run"
    no_one = r"no row of split 'validation' \(rows there: 16 train\): give --validation-split train\|all"
    with pytest.raises(UserError, match=no_one):
        train.run(TASK, tiny_world, str(out), validation=tiny_world, profile=profile, local=True)
    with pytest.raises(UserError, match=r"no row of split 'test' .*: give --split train\|all"):
        train.run(TASK, tiny_world, str(out), split="test", profile=profile, local=True)
    assert not out.exists()
    mine, everybody = (TrainJob(task=TASK, data=tiny_world, split=split) for split in ("train", "all"))
    assert mine.digest() != everybody.digest()
    assert len(mine.data_rows()) == len(everybody.data_rows()) == 16
    run(tiny_world, out, profile, "steps=1", local=True)
    with pytest.raises(UserError, match=r"another run \(different: split\)"):
        run(tiny_world, out, profile, "steps=1", local=True, split="all")


def test_tasks_refuse_a_record_without_the_worlds_truth_by_name(
    rendered: list[pa.Table], profile: str, tmp_path: Path
) -> None:
    data = worlds.write_record(tmp_path / "made", rendered, held_out=0)
    for task in ("recogniser", "visible"):
        with pytest.raises(UserError, match=f"task {task} reads .*world_identity, which .*made has not"):
            train.run(task, data, str(tmp_path / "run"), profile=profile, local=True)
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("task", "values"),
    [
        ("thermalizer", {"unet": {"width": 8, "blocks": [1, 1, 1, 1]}, "lr": 0.01}),
        ("landmarker", {"network": {"size": 32, "width": 0.25, "head": 32, "cells": 1}, "lr": 0.003}),
    ],
)
def test_what_generate_makes_teaches_a_network(
    task: str, values: dict[str, Any], made: str, tmp_path: Path, profile: str
) -> None:
    """A thermalizer and a landmarker on rows of the record: what they say of people held out gets better."""
    file = tmp_path / "job.yaml"
    config = {"steps": 40, "batch": 12, "ema": 0.5, "validate_every": 2, "bf16": False}
    file.write_text(yaml.safe_dump({"task": task, "data": made, "validation": made, "config": config | values}))
    train.run(None, None, str(tmp_path / "run"), job_file=file, profile=profile, local=True)
    records = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    errors = [-record["validation/score"] for record in records if "validation/score" in record]
    assert errors[-1] < 0.7 * errors[0]
    assert len(TrainJob(task=task, data=made).data_rows()) == (36 if task == "thermalizer" else 18)


@pytest.mark.soak
def test_two_workers_on_ray_equal_this_process(
    tiny_world: str, undisturbed: Path, profile: str, tmp_path: Path, local_ray: object
) -> None:
    run(tiny_world, tmp_path / "two", profile, "profile.training.workers=2")
    # Gradients are averaged in another order: AdamW turns that into at most a few float32 roundings of the rate.
    assert distance(weights(tmp_path / "two"), weights(undisturbed)) < 1e-4


@pytest.mark.soak
def test_a_killed_worker_continues_from_the_last_checkpoint(
    tiny_world: str, undisturbed: Path, profile: str, tmp_path: Path, local_ray: object
) -> None:
    """One worker on Ray, and the one that takes its place, reach the same bits as a run in this process."""
    run(tiny_world, tmp_path / "run", profile, f"dies={tmp_path / 'died'}")
    assert (tmp_path / "died").exists()
    assert distance(weights(tmp_path / "run"), weights(undisturbed)) == 0


@pytest.mark.soak
def test_sigterm_saves_and_says_how_to_go_on(tiny_world: str, undisturbed: Path, profile: str, tmp_path: Path) -> None:
    out = tmp_path / "run"
    command = [
        sys.executable,
        "-m",
        "cluster",
        "train",
        TASK,
        "--data",
        tiny_world,
        "--validation",
        tiny_world,
        "--local",
    ]
    command += ["--validation-split", "all", "--out", str(out), "--profile", profile, "--set", "steps=100000"]
    with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True) as process:
        try:
            deadline = time.monotonic() + 300
            while not (out / "metrics.jsonl").exists() or not (out / "metrics.jsonl").read_text():
                assert time.monotonic() < deadline and process.poll() is None
                time.sleep(0.2)
            process.send_signal(signal.SIGTERM)
            message = process.communicate(timeout=120)[1]
        finally:
            process.kill()
    assert process.returncode == 75
    assert "the same command continues" in message
    assert Checkpoints(Storage(out)).pointer()["step"] > 0


def test_columns_may_follow_from_the_config(tmp_path: Path) -> None:
    """A text branch needs the world's heads for a U-Net that is shown them, and takes photographs for another."""
    assert "world_identity" in columns_of(text_branch, text_branch.Config())
    assert columns_of(text_branch, text_branch.Config(model=str(tmp_path))) == text_branch.COLUMNS
    assert columns_of(adapter, adapter.Config()) == adapter.COLUMNS
