"""FaceCLIP-SDXL in a job: people with a crop, without one, and with one that is refused, which never ends the run."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from models.config import apply_edit, check
from models.errors import UserError
from models.weights.bundle import Bundle, load_bundle
from models.weights.store import ROOT, seal
from pipelines.config.job import GenerateJob
from pipelines.pictures.codecs import encode_png_rgb
from pipelines.plan.people.identities import unit
from tests.models.visible.faceclip.test_stage import write_part
from tests.pipelines import small


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """The null bundle with a FaceCLIP of random weights, which draws pictures of 32 pixels."""
    folder = tmp_path_factory.mktemp("bundle")
    write_part(folder / "drawn")
    seal(folder / "drawn")
    null = {name: {"kind": "null"} for name in ("parser", "thermal", "faces", "landmarks")}
    weights = {"model": str(folder / "drawn"), "faces": str(ROOT / "models/starter/faces")}
    visible = {"kind": "faceclip-sdxl", "weights": weights, "licence": "none", "batch": 4, "settings": {"steps": 1}}
    parts = {"captions": {"kind": "template"}, "visible": visible, **null}
    (folder / "bundle.yaml").write_text(yaml.safe_dump({"name": "tiny", "size": 32, "parts": parts}))
    return load_bundle(str(folder / "bundle.yaml"))


@pytest.fixture
def people(tmp_path: Path) -> Path:
    """Somebody with a crop, somebody with one in grey, somebody with one that is too small, and somebody without."""
    draw = np.random.default_rng(0)
    crop = draw.integers(0, 255, (448, 448, 3), np.uint8)
    grey = np.repeat(crop[..., :1], 3, axis=-1)
    crops = [encode_png_rgb(crop), encode_png_rgb(grey), encode_png_rgb(crop[:112, :112]), None]
    vectors = [unit(one).tolist() for one in draw.standard_normal((4, 512))]
    path = tmp_path / "people.parquet"
    names = ["coloured", "grey", "small", "none"]
    columns = {"identity_id": names, "embedding": vectors, "crop": pa.array(crops, pa.binary())}
    columns |= {"licence": ["cc-by-4.0", None, None, None], "consent": ["study 7", None, None, None]}
    pq.write_table(pa.table(columns), path)
    return path


def asked(people: Path) -> GenerateJob:
    """Two pictures of each, with gates that take what a random network draws."""
    gates = "gates={attempts: 2, face_area: [0, 1], identity: -1, detection: 0}"
    return small.job(f"identities={{source: {people}}}", "views.per_identity=2", gates, "partition_samples=4")


def check_output(out: Path) -> None:
    made = pq.read_table(out / "data").to_pylist()
    assert {row["identity_id"] for row in made} == {"coloured", "none"}
    assert len({row["visible"]["bytes"] for row in made}) == len({row["sample_id"] for row in made}) == 4
    refused = pq.read_table(out / "rejects").to_pylist()
    assert {row["identity_id"]: row["reject"].split(";")[0] for row in refused} == {
        "grey": "crop: a picture in grey, sepia or a palette, maybe a thermal one, and FaceCLIP reads faces in colour",
        "small": "crop: 112 x 112 pixels, and an aligned crop has 448 x 448",
    }
    assert {row["attempt"] for row in refused} == {0}  # another draw would fail again


def test_a_refused_crop_rejects_its_persons_rows_alone(bundle: Bundle, people: Path, tmp_path: Path) -> None:
    report = small.finish(small.make_here(asked(people), bundle, tmp_path / "out"))
    assert (report.accepted, report.rejected) == (4, 4)
    check_output(tmp_path / "out")


def test_terms_of_a_picture_travel_with_what_is_drawn_after_it(bundle: Bundle, people: Path, tmp_path: Path) -> None:
    small.finish(small.make_here(asked(people), bundle, tmp_path / "out"))
    made = pq.read_table(tmp_path / "out" / "data").to_pylist()
    assert {(row["identity_id"], row["licence"], row["picture_licence"], row["consent"]) for row in made} == {
        ("coloured", "none", "cc-by-4.0", "study 7"),
        ("none", "none", "", ""),
    }
    card = (tmp_path / "out" / "README.md").read_text()
    assert "Every face is synthetic" not in card and "| `consent` | person |" in card
    assert (
        "its people were given by a file and may be real. Where pictures of them were shown, `picture_licence`" in card
    )
    assert "stage `portrait`" not in card
    # Other terms are other people to a run that is there.
    table = pq.read_table(people)
    pq.write_table(table.drop_columns(["consent"]), people)
    with pytest.raises(UserError, match="person 'coloured', who is planned, has changed in the source"):
        small.make_here(asked(people), bundle, tmp_path / "out")


@pytest.mark.slow
def test_people_of_vectors_are_drawn_by_a_portrait_of_the_arcface_part(
    local_ray: Any, bundle: Bundle, people: Path, tmp_path: Path
) -> None:
    """On Ray, with the starter's visible model in the stage `portrait`: who has no picture is drawn by one of their embedding,
    the same for all their samples; who came with a picture is drawn by it, as without the stage."""
    content = yaml.safe_load(Path(bundle.folder, "bundle.yaml").read_text()) | {"size": 128}
    model = str(ROOT / "models/starter/visible")
    content["parts"]["portrait"] = {"kind": "latent-diffusion", "weights": model, "licence": "none"}
    content["parts"]["portrait"] |= {"batch": 4, "settings": {"steps": 8}}
    (tmp_path / "bundle.yaml").write_text(yaml.safe_dump(content))
    drawn = load_bundle(str(tmp_path / "bundle.yaml"))
    stages = "groups=[{stages: [portrait, visible, parser, thermal, faces, landmarks, gates], cpus: 1}]"
    with_portraits = small.make(
        apply_edit_to(asked(people), "settings.visible.portrait=true"), drawn, tmp_path / "with", stages
    )
    without = small.make(asked(people), drawn, tmp_path / "without", stages.replace("portrait, ", ""))
    assert (with_portraits.accepted, without.accepted) == (4, 4)
    assert (
        "drawn after a first portrait of their embedding (stage `portrait`)"
        in (tmp_path / "with/README.md").read_text()
    )
    one, other = (pictures_of(tmp_path / name) for name in ("with", "without"))
    assert one.keys() == other.keys()
    same = {name: one[name] == other[name] for name in one}
    assert {name for name, equal in same.items() if equal} == {name for name in same if name[0] == "coloured"}


def apply_edit_to(job: GenerateJob, edit: str) -> GenerateJob:
    content = job.model_dump(mode="json")
    apply_edit(content, edit)
    return check(GenerateJob, content, "job")


def pictures_of(out: Path) -> dict[tuple[str, str], bytes]:
    rows = pq.read_table(out / "data").to_pylist()
    return {(row["identity_id"], row["sample_id"]): row["visible"]["bytes"] for row in rows}
