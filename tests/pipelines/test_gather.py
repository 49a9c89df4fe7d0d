"""Data sets into shards: exact and resumable, rejects with reasons, and rows that tasks take or refuse by name."""

import json
import shutil
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from models.errors import UserError
from models.evaluation.tfake import landmarks
from models.evaluation.tfake.recipe import Recipe
from models.evaluation.tfake.subsets import SUBSETS
from models.evaluation.tfake.tables import by_person
from models.landmarks import adapt
from models.landmarks.adapt import leave_subject_out
from models.landmarks.detect import Detector
from models.landmarks.exports import pts_text
from models.landmarks.network import LandmarkerConfig, new_landmarker
from models.landmarks.standards import to_standard
from models.tasks import landmarker, parser, thermalizer
from pipelines import gather, train, world
from pipelines.config.gather import GatherJob
from pipelines.evaluation.points import measure_points
from pipelines.evaluation.shards import field_rows, has_pairs
from pipelines.gather import Gatherer
from pipelines.readers.plan import write_gather_plan
from pipelines.readers.world_layouts import finish_files, write_files
from pipelines.rows.shards import Shards
from pipelines.run.clean import run as clean
from pipelines.storage.commits import read_commits
from pipelines.storage.uri import Storage
from pipelines.training.job import TrainJob
from tests.pipelines import worlds

COUNT = 8


@pytest.fixture(scope="module")
def folders(rendered: list[pa.Table], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The tiny world's first two people in the layouts of other data sets."""
    made = {}
    for layout in ("tfake", "sejong", "charlotte"):
        job = worlds.JOB.model_copy(update={"count": COUNT, "layout": layout})
        made[layout] = tmp_path_factory.mktemp(layout)
        write_files(rendered[0], job, Storage(made[layout]))
        finish_files(job, Storage(made[layout]))
    return made


def run(layout: str, images: Path, out: Path, bundle: str = "", **values: Any) -> gather.Summary:
    job = {"layout": layout, "images": str(images), "size": 32, "partition": 3} | values
    return gather.run(job, str(out), bundle=bundle, local=True)


def test_a_run_resumes_and_its_bytes_depend_on_the_data_alone(folders: dict[str, Path], tmp_path: Path) -> None:
    out = tmp_path / "out"
    summary = run("tfake", folders["tfake"], out)
    assert (summary.rows, summary.gathered, summary.reasons) == (8, 8, {})
    before = {part: record.digest for part, record in read_commits(Storage(out)).items()}
    assert list(before) == [0, 1, 2]
    lost = read_commits(Storage(out))[1]
    (out / "_commits" / "part-00001.json").unlink()
    (out / lost.file).rename(out / "data" / "part-00001-orphan.parquet")
    assert str(run("tfake", folders["tfake"], out)) == str(summary)
    assert {part: record.digest for part, record in read_commits(Storage(out)).items()} == before
    assert not (out / "data" / "part-00001-orphan.parquet").exists()
    clean(str(out))
    with pytest.raises(UserError, match=r"belongs to another run.*size: 32 -> 64"):
        run("tfake", folders["tfake"], out, size=64)


def test_a_picture_that_fits_is_stored_as_it_came(folders: dict[str, Path], tmp_path: Path) -> None:
    """The world's layout has PNG of 32 px: at that size its bytes are kept, at another it is encoded anew."""
    came = {path.read_bytes() for path in folders["tfake"].glob("[0-9]*.png") if "_" not in path.name}
    for size, kept in ((32, True), (64, False)):
        run("tfake", folders["tfake"], tmp_path / str(size), size=size)
        rows = pq.read_table(tmp_path / str(size) / "data").to_pylist()
        assert {row["visible"]["bytes"] in came for row in rows} == {kept}
        assert {row["visible"]["path"].endswith(".png") for row in rows} == {kept}


def test_what_is_wrong_is_counted_told_and_kept(folders: dict[str, Path], tmp_path: Path) -> None:
    images = tmp_path / "images"
    shutil.copytree(folders["charlotte"], images)
    for number in ("10000", "20001"):
        cv2.imwrite(str(images / f"S{number[0]}" / f"R{number}.tiff"), np.full((40, 40), 34, np.uint16))
    (images / "S1" / "R10001.tiff").unlink()
    summary = run("charlotte", images, tmp_path / "out")
    assert (summary.rows, summary.gathered) == (8, 5)
    assert summary.reasons["not centikelvin"][0] == 2 and summary.reasons["no picture"][0] == 1
    assert "5 of 8 rows gathered" in str(summary)
    assert "2 not: not centikelvin (first: 10000: not centikelvin: the median pixel would be -273 degC" in str(summary)
    told = pq.read_table(tmp_path / "out" / "rejects").to_pylist()
    assert {row["name"] for row in told} == {"10000", "10001", "20001"} and all(row["reason"] for row in told)
    assert "34 degC as celsius" in (tmp_path / "out" / "README.md").read_text()
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert manifest["rows"] == 5 and manifest["kind"] == "gathered"


def test_a_wrong_unit_ends_the_run_before_it_begins(folders: dict[str, Path], tmp_path: Path) -> None:
    columns = {"thermal": "S1/NAME.tiff"}
    with pytest.raises(UserError, match=r"none of the first 4 rows of .* can be taken as plain:\n  R10000: not kelvin"):
        run("plain", folders["charlotte"], tmp_path / "out", columns=columns, unit="kelvin")
    assert not (tmp_path / "out" / "_plan").exists()
    run("plain", folders["charlotte"], tmp_path / "out", columns=columns)
    with pytest.raises(UserError, match="the folder of the data set itself"):
        run("charlotte", folders["charlotte"], folders["charlotte"])
    with pytest.raises(UserError, match="gather:\n  columns.depth: unknown key; known here: landmarks, mask"):
        run("plain", folders["charlotte"], tmp_path / "x", columns={"depth": "NAME"})


def test_the_parser_of_a_bundle_gives_the_classes(folders: dict[str, Path], tmp_path: Path) -> None:
    run("sejong", folders["sejong"], tmp_path / "bare")
    run("sejong", folders["sejong"], tmp_path / "parsed", bundle="starter", condition="warm")
    bare, parsed = (
        Shards(str(tmp_path / name), ("classes", "condition")).rows(np.arange(4)) for name in ("bare", "parsed")
    )
    assert (bare["classes"] == 255).all() and parsed["classes"].max() < 19 and len(np.unique(parsed["classes"])) > 2
    assert parsed["condition"].tolist() == ["warm"] * 4
    # A thermal picture in grey, which is all that CHARLOTTE has, is not parsed.
    run("charlotte", folders["charlotte"], tmp_path / "grey", bundle="starter")
    assert (Shards(str(tmp_path / "grey"), ("classes",)).rows(np.arange(4))["classes"] == 255).all()


def rows_for(task: Any, config: Any, uri: Path) -> dict[str, np.ndarray]:
    prepare = getattr(task, "prepare", None)
    shards = Shards(str(uri), task.COLUMNS, prepare=prepare and partial(prepare, config=config))
    return {**shards.rows(np.arange(4)), "row": np.arange(4), "draw": np.arange(4)}


def test_grey_pairs_train_a_thermalizer_only_as_what_they_are(folders: dict[str, Path], tmp_path: Path) -> None:
    run("sejong", folders["sejong"], tmp_path / "out", bundle="starter", condition="warm")
    small = {"unet": {"width": 8, "blocks": [1, 1, 1, 1]}}
    config = thermalizer.Config(**small)
    model, rows = thermalizer.build(config), rows_for(thermalizer, config, tmp_path / "out")
    with pytest.raises(UserError, match="8-bit grey, not degrees: set loss.paired_scale=minmax, or affine"):
        thermalizer.loss(model, rows, config, 0)
    with pytest.raises(UserError, match=r"need radiometric ones \(--validation URI\), or validate on nothing"):
        thermalizer.validate(model, [rows], config)
    config = thermalizer.Config(**small, loss={"paired_scale": "affine"})
    value, metrics = thermalizer.loss(model, rows, config, 0)
    assert value.isfinite() and metrics["mse"] > 0 and "rmse_kelvin" not in metrics


def test_tasks_refuse_rows_without_their_truth_by_name(folders: dict[str, Path], tmp_path: Path) -> None:
    run("charlotte", folders["charlotte"], tmp_path / "out")
    config = landmarker.Config(network={"size": 32, "width": 0.25, "head": 32}, thermal=0.0)
    with pytest.raises(UserError, match="no row of a batch has its 70 landmarks"):
        landmarker.loss(landmarker.build(config), rows_for(landmarker, config, tmp_path / "out"), config, 0)
    other = parser.Config()
    with pytest.raises(UserError, match="rows without a mask"):
        parser.loss(parser.build(other), rows_for(parser, other, tmp_path / "out"), other, 0)
    third = thermalizer.Config(unet={"width": 8, "blocks": [1, 1, 1, 1]})
    model, rows = thermalizer.build(third), rows_for(thermalizer, third, tmp_path / "out")
    for call in (lambda: thermalizer.loss(model, rows, third, 0), lambda: thermalizer.validate(model, [rows], third)):
        with pytest.raises(UserError, match=r"condition '', which .* \(warm, cold\): gather with --condition"):
            call()
    rows["condition"] = np.full(len(rows["condition"]), "warm", object)
    assert thermalizer.loss(model, rows, third, 0)[0].requires_grad
    terms = thermalizer.Config(unet={"width": 8, "blocks": [1, 1, 1, 1]}, loss={"prior": 1})
    with pytest.raises(UserError, match=r"rows without a mask .* gather with --bundle starter"):
        thermalizer.loss(model, rows, terms, 0)
    with pytest.raises(UserError, match="pictures of 20 px: the thermalizer takes multiples of 32"):
        thermalizer.loss(model, {**rows, "visible": rows["visible"][:, :20, :20]}, third, 0)


def test_grey_pictures_train_a_landmarker_of_ones_own_alone(folders: dict[str, Path], tmp_path: Path) -> None:
    """CHARLOTTE has no picture in colour: what stands in `visible` is thermal, which only a landmarker without predicted
    thermal pictures takes."""
    run("charlotte", folders["charlotte"], tmp_path / "out")
    data = str(tmp_path / "out")
    own, mixed = (
        TrainJob(task="landmarker", data=data, split="all", config={"thermal": share}) for share in (0.0, 0.4)
    )
    assert len(own.data_rows()) == COUNT
    for job in (mixed, TrainJob(task="parser", data=data, split="all")):
        with pytest.raises(
            UserError,
            match=f"task {job.task} takes pictures of a camera for visible light, and .* has none: all show the thermal",
        ):
            job.check_rows()


def test_data_sets_of_two_sizes_are_refused(folders: dict[str, Path], tmp_path: Path) -> None:
    run("charlotte", folders["charlotte"], tmp_path / "small")
    run("charlotte", folders["charlotte"], tmp_path / "large", size=64)
    both = f"{tmp_path / 'small'},{tmp_path / 'large'}"
    with pytest.raises(UserError, match=r"32 px in .*small, 64 px in .*large.*: make them anew with one --size"):
        Shards(both, ("visible",))
    assert len(Shards(both, ("condition",))) == 2 * len(Shards(str(tmp_path / "small"), ("condition",)))


@pytest.mark.slow
def test_tfakes_tables_take_charlotte_with_profiles(
    folders: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Thermal frames alone, profiles of both people among them: sides, heights as taken, errors against the 72 and the 43."""
    images, out = tmp_path / "images", str(tmp_path / "out")
    shutil.copytree(folders["charlotte"], images)
    head, first, *others = (images / "S2.csv").read_text().splitlines()  # the world gives profiles of S1 alone
    late = {f"{axis}{slot}" for axis in "xy" for slot in range(43, 72)}
    cells = ("NaN" if name in late else cell for name, cell in zip(head.split(","), first.split(","), strict=True))
    (images / "S2.csv").write_text("\n".join([head, ",".join(cells), *others]))
    run("charlotte", images, Path(out), crop="face", condition="warm")
    recipe = Recipe(field=out, frame=32, high_px=100)
    assert not has_pairs(out, recipe)
    frames = field_rows(out, recipe, frames=True)
    stored = Shards(out, ("points_given", "landmarks_72", "face_height")).rows(np.arange(COUNT))
    profile = stored["points_given"] == 43
    assert profile.sum() == 3 and frames["annotated"].all()
    np.testing.assert_array_equal(np.abs(frames["pose"][:, 0]) >= recipe.side_deg, profile)
    spans = np.nanmax(stored["landmarks_72"], axis=1) - np.nanmin(stored["landmarks_72"], axis=1)
    assert (spans[:, 1] < 20).all() and (stored["face_height"] > 50).all()  # on 32 px, and as they came
    np.testing.assert_array_equal(frames["height"], stored["face_height"])

    monkeypatch.setattr(adapt, "leave_subject_out", partial(leave_subject_out, steps=20))
    torch.manual_seed(0)
    network = new_landmarker(LandmarkerConfig(size=32, width=0.25, head=32, cells=1, outputs="softplus")).eval()
    found = landmarks.measure(network, frames, landmarks.Adapters({}), recipe)
    assert np.isfinite(found["labels"]).all() and np.isnan(found["true"]).all()
    assert found["side"] == profile.tolist() and 0 < sum(found["high"]) < COUNT
    line = {"measures": {"frames": found}, "threshold": 0.0}
    assert np.isfinite(by_person([line], "labels", "Side", None)).all()
    assert np.isnan(by_person([line], "true", "Full", 1.0)).all()
    # The same points in files have the same table.
    (files := tmp_path / "points").mkdir()
    finder, names = Detector(network, batch=8), Shards(out, ("pair_id",)).values("pair_id")
    for name, frame in zip(names, frames["frame"], strict=True):
        (files / f"{name}.pts").write_text(pts_text(finder.best(frame, "temperature").points))
    own = measure_points(out, str(files), 70, high_px=recipe.high_px).estimates["labels_nme_missed_1"]
    for subset in SUBSETS:
        assert own[subset].value == pytest.approx(np.nanmean(by_person([line], "labels", subset, None)), abs=2e-3)


def test_pairs_of_a_thermalizer_have_colours_classes_and_degrees(
    folders: dict[str, Path], rendered: list[pa.Table], tiny_world: str, tmp_path: Path
) -> None:
    recipe = Recipe(size=32)
    for layout, condition, paired in (("tfake", "", True), ("charlotte", "warm", False), ("sejong", "warm", False)):
        out = tmp_path / layout
        run(layout, folders[layout], out, condition=condition)
        assert has_pairs(str(out), recipe) == paired
    rows = field_rows(str(tmp_path / "tfake"), recipe, frames=False)
    assert set(rows["condition"]) == set(recipe.conditions) and len(rows["visible"]) == len(rows["pose"])
    assert not has_pairs(str(tmp_path / "charlotte"), recipe)
    # Of a set that publishes splits one alone is read; all rows here are of train.
    own, other = (recipe.model_copy(update={"field_split": split}) for split in ("train", "test"))
    assert len(field_rows(str(tmp_path / "tfake"), own, frames=True)["side"]) > 0
    with pytest.raises(UserError, match="no row of split 'test'"):
        field_rows(str(tmp_path / "tfake"), other, frames=True)
    assert own.digest() != recipe.digest()
    assert has_pairs(tiny_world, recipe) and len(field_rows(tiny_world, recipe, frames=False)["thermal"]) > 0
    assert not has_pairs(worlds.write_record(tmp_path / "made", rendered, held_out=0), recipe)  # predicted


def test_a_few_rows_without_dense_points_are_no_faces(folders: dict[str, Path], tmp_path: Path) -> None:
    images = tmp_path / "images"
    shutil.copytree(folders["tfake"], images)
    with np.load(images / "annotations.npz") as npz:
        dense = {name: npz[name] for name in npz.files[1:]}
    np.savez(images / "annotations.npz", **dense)
    run("tfake", images, tmp_path / "out")
    config = landmarker.Config(network={"size": 32, "width": 0.25, "head": 32, "standard": 478}, thermal=0.0)
    rows = rows_for(landmarker, config, tmp_path / "out")
    assert (
        np.isnan(rows["points"][0]).all() and np.isfinite(rows["points"][1:]).all()
    )  # one row a picture, not a condition
    value, _ = landmarker.loss(landmarker.build(config), rows, config, 0)
    assert value.isfinite()


@pytest.mark.slow
def test_a_shard_that_breaks_during_training_is_named_and_the_run_goes_on_when_it_is_whole(
    folders: dict[str, Path], tmp_path: Path
) -> None:
    """What is in use survives the damage; the next start names the shard and waits for it; made anew, the run continues."""
    from models.errors import EnvironmentFault, Interrupted
    from pipelines.config.profile import Training
    from pipelines.training.checkpoints import Checkpoints
    from pipelines.training.fit import fit
    from pipelines.training.job import claim

    out, pool = tmp_path / "rows", Training(threads=1)
    run("charlotte", folders["charlotte"], out)
    job = TrainJob(task="tests.pipelines.training.tiny_task", data=str(out), config={"steps": 6, "batch": 4})
    storage = Storage(tmp_path / "run")
    claim(job, job.digest(), storage)
    file = out / read_commits(Storage(out))[1].file
    content = file.read_bytes()
    taken = 0

    def stop() -> bool:  # after two steps the file is damaged, after four the run is asked to stop
        nonlocal taken
        taken += 1
        if taken == 2:
            file.write_bytes(content[: len(content) // 2])
        return taken == 4

    with pytest.raises(Interrupted, match="stopped at step 4 of 6"):
        fit(job, storage, pool, stop=stop)
    with pytest.raises(
        EnvironmentFault, match=r"more rows than can be read now: shard .*part-00001.*damaged.*continues"
    ):
        fit(job, storage, pool)
    (out / "_commits" / "part-00001.json").unlink()
    run("charlotte", folders["charlotte"], out)
    assert file.read_bytes() == content
    assert fit(job, storage, pool)["step"] == 6 and Checkpoints(storage).pointer()["step"] == 6


def test_a_partition_is_the_same_whoever_makes_it(folders: dict[str, Path], tmp_path: Path) -> None:
    """Two workers at one partition: the first record wins, the bytes are equal."""
    job = GatherJob(layout="charlotte", images=str(folders["charlotte"]), size=48, partition=8)
    digests = []
    for name, threads in (("one", 1), ("two", 4)):
        plan = write_gather_plan(job, None, Storage(tmp_path / name))
        for _ in range(2):
            Gatherer(plan, [0], threads)({"id": np.array([0])})
        digests.append(read_commits(plan.out)[0].digest)
    assert digests[0] == digests[1]


@pytest.mark.slow
def test_the_field_in_charlottes_layout_through_ray_to_an_error_in_its_72_points(
    tmp_path: Path, local_ray: object
) -> None:
    """world -> files -> gather -> shards -> the starter's landmarker on them; and the same rows from either way of running."""
    profile = tmp_path / "test.yaml"
    profile.write_text("{name: test, groups: [{stages: [render]}], writer: {tasks: 1, cpus: 1}}")
    files = tmp_path / "charlotte"
    values: dict[str, Any] = {"size": 96, "profile": str(profile), "views": 2, "partition": 8}
    world.run("field", "test", 24, str(files), layout="charlotte", **values)
    assert {path.name for path in files.glob("S*.csv")} == {f"S{k}.csv" for k in range(1, 11)}
    again = {path: path.read_bytes() for path in files.rglob("*.csv")}
    (files / "_commits" / "part-00001.json").unlink()
    world.run("field", "test", 24, str(files), layout="charlotte", **values)
    assert {path: path.read_bytes() for path in files.rglob("*.csv")} == again
    with pytest.raises(UserError, match="another run; what differs: source.layout: charlotte -> sejong"):
        world.run("field", "test", 24, str(files), layout="sejong", **values)

    job = {"layout": "charlotte", "images": str(files), "size": 96, "crop": "face", "partition": 10}
    summary = gather.run(job, str(tmp_path / "ray"), profile=str(profile))
    assert (summary.rows, summary.gathered) == (24, 24)
    gather.run(job, str(tmp_path / "here"), local=True)
    one, other = ({k: r.digest for k, r in read_commits(Storage(tmp_path / name)).items()} for name in ("ray", "here"))
    assert one == other and len(one) == 3

    columns = ("visible", "thermal", "valid", "landmarks_72", "points_given", "identity_id", "bbox")
    rows = Shards(str(tmp_path / "ray"), columns).rows(np.arange(24))
    assert set(rows["identity_id"]) == {str(k) for k in range(1, 11)} and set(rows["points_given"]) == {43, 72}
    assert 18 < np.nanmedian(rows["thermal"]) < 38
    front = rows["points_given"] == 72
    assert np.isfinite(rows["landmarks_72"][front]).all() and np.isnan(rows["landmarks_72"][~front][:, 43:]).all()
    from models.landmarks.detect import load_detector
    from models.landmarks.metrics import nme
    from models.weights.store import ROOT

    finder = load_detector(ROOT / "models" / "starter" / "landmarks" / "70")
    grey = landmarker.levels(rows["thermal"][front])
    found = np.stack(
        [finder.at_boxes(p, box[None])[0].points for p, box in zip(grey, rows["bbox"][front], strict=True)]
    )
    error = nme(to_standard(found, found, 72), rows["landmarks_72"][front])
    assert np.median(error) < 0.12  # in the same places, of a landmarker that never saw the domain
    card = train.run(
        "tests.pipelines.training.tiny_task", str(tmp_path / "ray"), str(tmp_path / "run"), overrides=["steps=3"],
        profile=str(profile), local=True,
    )  # fmt: skip
    assert card.steps == 3
    from datasets import load_dataset

    opened = load_dataset(str(tmp_path / "ray"), split="train", cache_dir=str(tmp_path / "cache"))
    assert len(opened) == 24 and opened[0]["thermal_kind"] == "measured"
