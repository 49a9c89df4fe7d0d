"""`embed` on real Ray: a row a picture, hostile ones with their reasons, the rest equal to insightface."""

import shutil
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml
from PIL import Image

from models.errors import EnvironmentFault, UserError
from models.faces.onnx_file import export_detector, export_recogniser
from models.faces.recogniser import Embedder
from models.faces.scrfd import SCRFD
from models.weights.bundle import load_bundle
from models.weights.store import ROOT, seal
from pipelines import embed
from pipelines.plan.embed import EmbedJob, write_embed_plan
from pipelines.plan.people.given import GivenPeople
from pipelines.run.driver import end_run
from pipelines.storage.commits import list_finished, read_commits
from pipelines.storage.uri import Storage
from tests.pipelines.pictures.test_open import HOSTILE

STARTER = ROOT / "models" / "starter"


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The starter's bundle file, with an untrained face pack where the starter's is not there yet."""
    if (STARTER / "faces" / "files.json").is_file():
        return "starter"
    folder = tmp_path_factory.mktemp("bundle")
    export_detector(SCRFD(), folder / "faces" / "det.onnx")
    export_recogniser(Embedder("residual"), folder / "faces" / "rec.onnx")
    seal(folder / "faces")
    content = yaml.safe_load((STARTER / "bundle.yaml").read_text())
    (folder / "bundle.yaml").write_text(yaml.safe_dump(content))
    return str(folder / "bundle.yaml")


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Hostile pictures, one without a face in a subfolder, and a file that is no picture's."""
    folder = tmp_path / "photos"
    (folder / "more").mkdir(parents=True)
    for name, (data, file, _) in HOSTILE.items():
        (folder / f"{name}{Path(file).suffix}").write_bytes(data)
    Image.new("RGB", (200, 150), (90, 120, 200)).save(folder / "more" / "sky.jpg")
    (folder / "notes.txt").write_text("not looked at")
    return folder


@pytest.mark.slow
def test_every_hostile_picture_keeps_its_row_and_reason(local_ray, bundle: str, photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "people.parquet"
    summary = embed.run(str(photos), str(out), bundle=bundle)
    rows = {row["picture"]: row for row in pq.read_table(out).to_pylist()}
    pages = ["many pages.tif", "many pages.tif#1", "many pages.tif#2"]  # of a TIFF each is a picture
    assert len(rows) == len(HOSTILE) + len(pages[1:]) + 1 == summary.pictures
    assert list(rows) == sorted(rows)
    for name, (_, file, reason) in HOSTILE.items():
        row = rows[f"{name}{Path(file).suffix}"]
        reason = "no face" if row["picture"] in pages else reason
        assert row["reason"].startswith(f"{reason}:"), row
        assert row["embedding"] is None
    assert all(rows[name]["reason"].startswith("no face") for name in [*pages, "more/sky.jpg"])
    assert rows["more/sky.jpg"]["width"] == 200
    assert summary.ignored == 1
    assert summary.embedded == 0
    with pytest.raises(UserError, match="holds no identity"):
        GivenPeople(str(out))


@pytest.mark.slow
@pytest.mark.skipif(not (STARTER / "faces" / "files.json").is_file(), reason="the starter pack is not there yet")
def test_people_come_back_as_identities(local_ray, tmp_path: Path) -> None:
    from insightface.app import FaceAnalysis

    from models.synthworld.render.render import render
    from models.synthworld.sampling.domain import load_domain, sample_scene
    from models.synthworld.sampling.splits import identities

    people = identities("test")[:3]
    scenes = [sample_scene(load_domain("portrait"), person, 0, "warm") for person in people]
    pictures = render(scenes, 192).rgb.numpy()
    folder = tmp_path / "photos"
    folder.mkdir()
    for person, picture in zip(people, pictures):
        Image.fromarray(picture).save(folder / f"{person}.png")
    Image.fromarray(np.concatenate(list(pictures), axis=1)).save(folder / "group.png")
    out = tmp_path / "people.parquet"
    summary = embed.run(str(folder), str(out))
    assert summary.embedded == 3
    assert summary.reasons == {"several faces": 1}
    found = next(GivenPeople(str(out), None, load_bundle("starter")).blocks(0, 3))
    assert [person.id for person in found] == [f"{person}.png" for person in people]
    app = FaceAnalysis(name="starter/faces", root=str(ROOT), providers=["CPUExecutionProvider"])
    app.prepare(-1, det_size=(128, 128))
    for person, picture in zip(found, pictures):
        (face,) = app.get(np.ascontiguousarray(picture[..., ::-1]))
        assert float(person.embedding @ face.normed_embedding) > 0.9999


def test_folders_without_pictures_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="does not exist"):
        embed.run(str(tmp_path / "nowhere"), str(tmp_path / "out.parquet"))
    (tmp_path / "notes.txt").write_text("hello")
    with pytest.raises(UserError, match="holds no picture"):
        embed.run(str(tmp_path), str(tmp_path / "out.parquet"))


def test_a_file_that_is_there_and_cannot_be_read_keeps_its_row(tmp_path: Path) -> None:
    (tmp_path / "loop.png").symlink_to("loop.png")
    (tmp_path / "gone.png").symlink_to("nowhere.png")
    bundle = load_bundle("null")
    plan = write_embed_plan(EmbedJob(images=str(tmp_path)), bundle, Storage(tmp_path / "out.run"))
    rows = embed.PhotoEmbedder(plan, [0], threads=1).table(["loop.png", "gone.png"]).to_pylist()
    assert [row["reason"] for row in rows] == [
        "cannot be read: Too many levels of symbolic links", "cannot be read: No such file or directory",
    ]  # fmt: skip


def test_a_run_goes_on_and_grows_with_its_folder(tmp_path: Path) -> None:
    """What was embedded stays byte for byte; pictures that were added come in partitions of their own."""
    folder, out, bundle = tmp_path / "photos", Storage(tmp_path / "out.run"), load_bundle("null")
    folder.mkdir()
    for number in range(3):
        Image.new("RGB", (64, 64), (number, 0, 0)).save(folder / f"b{number}.png")

    def embedded() -> embed.EmbedPlan:
        plan = write_embed_plan(EmbedJob(images=str(folder)), bundle, out)
        missing = [part for part in range(plan.partitions) if part not in list_finished(out)]
        embedder = embed.PhotoEmbedder(plan, missing, threads=1)
        for place in range(len(missing)):
            embedder({"id": np.array([place])})
        return plan

    embedded()
    before = {record.file: out.read(record.file) for record in read_commits(out).values()}
    Image.new("RGB", (64, 64), (9, 0, 0)).save(folder / "a.png")
    plan = embedded()
    assert (plan.samples, plan.partitions) == (4, 2)
    assert plan.recipe.size == 0 and plan.recipe.source == {"images": str(folder)}  # no picture is made
    assert all(out.read(name) == content for name, content in before.items())
    summary = end_run(
        plan, lambda plan, commits: embed._finish(plan, commits, str(tmp_path / "out.parquet"), bundle, 0.2)
    )
    rows = pq.read_table(tmp_path / "out.parquet").to_pylist()
    assert len({row["identity_id"] for row in rows}) == 4  # each is a person until somebody says otherwise
    assert summary.embedded == 4 and [row["picture"] for row in rows] == ["a.png", "b0.png", "b1.png", "b2.png"]
    (folder / "b1.png").unlink()
    with pytest.raises(UserError, match=r"b1\.png is planned and no longer there"):
        embedded()


def test_missing_weights_are_said_before_ray_starts(tmp_path: Path) -> None:
    Image.new("RGB", (64, 64)).save(tmp_path / "a.png")
    content = yaml.safe_load((STARTER / "bundle.yaml").read_text())
    content["parts"]["faces"]["weights"] = "nowhere"
    (tmp_path / "bundle.yaml").write_text(yaml.safe_dump(content))
    with pytest.raises(EnvironmentFault, match="nowhere"):
        embed.run(str(tmp_path), str(tmp_path / "out.parquet"), bundle=str(tmp_path / "bundle.yaml"))


def test_damaged_weights_are_said_before_a_plan_is_written(tmp_path: Path) -> None:
    Image.new("RGB", (64, 64)).save(tmp_path / "a.png")
    pack = tmp_path / "pack"
    shutil.copytree(STARTER / "faces", pack)
    network = next(pack.glob("*.onnx"))
    network.write_bytes(network.read_bytes()[:-1] + b"?")
    bundle = load_bundle("starter", [f"faces.weights={pack}"])
    with pytest.raises(EnvironmentFault, match=network.name):
        write_embed_plan(EmbedJob(images=str(tmp_path)), bundle, Storage(tmp_path / "out.run"))
    assert not (tmp_path / "out.run").exists()


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        ("bundle.faces.weights=nowhere", "nowhere does not exist"),
        ("profile.ray.object_store_mb=100000000", "object_store_mb=80"),
        ("profile.ray.cpsu=1", "unknown key"),
    ],
)
def test_values_of_bundle_and_profile_are_edited(edit: str, message: str, tmp_path: Path) -> None:
    Image.new("RGB", (64, 64)).save(tmp_path / "a.png")
    with pytest.raises(UserError, match=message):
        embed.run(str(tmp_path), str(tmp_path / "out.parquet"), overrides=[edit])
