"""Thermalizing a user's pictures: what is taken, what is refused and why, both layouts, and a run that goes on."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from PIL import Image

from models.errors import UserError
from models.temperature import from_centikelvin
from models.thermal.unet.network import ThermalConfig, new_thermalizer, save_thermalizer
from models.unet import UNetConfig
from models.weights.bundle import Bundle, load_bundle
from models.weights.store import seal
from pipelines import inspect, thermalize
from pipelines.config import thermalize as config
from pipelines.config.request import load_thermalize
from pipelines.config.thermalize import ThermalizeJob
from pipelines.pictures.codecs import decode
from pipelines.pictures.square import make_square
from pipelines.plan import thermalize as thermalize_plan
from pipelines.plan.chains import read_chain
from pipelines.plan.thermalize import ThermalizePlan, write_thermalize_plan
from pipelines.rows.ids import split_of
from pipelines.run.clean import run as clean
from pipelines.run.driver import end_run
from pipelines.run.photographs import Summary
from pipelines.run.writer import tfake_values, write_partition, write_thermal_files
from pipelines.storage.commits import read_commits
from pipelines.storage.uri import Storage
from tests.pipelines import small

SIZE = 64


def picture(seed: int, shape: tuple[int, int] = (SIZE, SIZE)) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 255, (*shape, 3), dtype=np.uint8)


def mask(shape: tuple[int, int] = (SIZE, SIZE)) -> np.ndarray:
    ids = np.zeros(shape, np.uint8)
    ids[8:-8, 8:-8] = 1
    ids[:4] = 255  # FaceSynthetics' IGNORE
    return ids


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Three good pictures in FaceSynthetics' layout, and files that cannot be taken."""
    folder = tmp_path / "photos"
    (folder / "more").mkdir(parents=True)
    for number, name in enumerate(("000000", "000001", "more/000002")):
        Image.fromarray(picture(number)).save(folder / f"{name}.png")
        Image.fromarray(mask()).save(folder / f"{name}_seg.png")
    Image.fromarray(picture(3)).save(folder / "000003.png")  # no mask
    Image.fromarray(picture(4)).save(folder / "000004.png")
    Image.fromarray(mask((32, 32))).save(folder / "000004_seg.png")
    Image.fromarray(picture(5)).save(folder / "000005.png")
    Image.fromarray(mask() + 40).save(folder / "000005_seg.png")
    (folder / "000006.png").write_bytes((folder / "000000.png").read_bytes()[:200])
    Image.fromarray(mask()).save(folder / "000006_seg.png")
    Image.fromarray(picture(7, (48, SIZE))).save(folder / "000007.png")
    Image.fromarray(mask((48, SIZE))).save(folder / "000007_seg.png")
    (folder / "000008.png").symlink_to("000008.png")
    Image.fromarray(mask()).save(folder / "000008_seg.png")
    (folder / "notes.txt").write_text("hello")
    return folder


@pytest.fixture(scope="module")
def starter() -> Bundle:
    return load_bundle("starter")


@pytest.fixture
def planned(photos: Path, starter: Bundle, tmp_path: Path) -> Callable[..., ThermalizePlan]:
    def plan(out: str = "out", **values: Any) -> ThermalizePlan:
        job = ThermalizeJob(**({"images": str(photos), "masks": str(photos), "size": SIZE} | values))
        return write_thermalize_plan(job, starter, Storage(tmp_path / out))

    return plan


def whole_run(plan: ThermalizePlan, write: Callable[..., Any]) -> None:
    """Run a plan in this process, by the same stages that Ray Data runs."""
    chain = small.chain_of(plan)
    for partition in range(plan.partitions):
        write(chain(plan.partition(partition)), plan, 1)


def test_a_thermalizer_of_ones_own_is_named_from_the_working_directory(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_thermalizer(
        new_thermalizer(ThermalConfig(conditions=("hot",)), UNetConfig(width=8, blocks=(1, 1, 1, 1))), tmp_path / "mine"
    )
    seal(tmp_path / "mine")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="this thermalizer knows no condition 'warm'; it has: hot"):
        thermalize.run(str(photos), "out", overrides=["thermal.weights=mine"])
    assert load_bundle("starter", ["thermal.weights=hub:a/b@1"]).part("thermal").weights["model"].uri == "hub:a/b@1"


def parquet(folder: Path, rows: int, **columns: pa.Array) -> str:
    folder.mkdir()
    pictures = [cv2.imencode(".png", picture(k))[1].tobytes() for k in range(rows)]
    pq.write_table(pa.table({"visible": pa.array(pictures, pa.binary()), **columns}), folder / "faces.parquet")
    return str(folder)


def test_classes_of_a_parquet_spare_the_parser(tmp_path: Path, starter: Bundle) -> None:
    """Also in a bundle that has none; without classes nothing is started."""
    path = tmp_path / "bundle.yaml"
    thermal = {"kind": "unet", "weights": str(starter.main("thermal")), "licence": "mit"}
    path.write_text(yaml.safe_dump({"name": "alone", "size": SIZE, "parts": {"thermal": thermal}}))
    masks = pa.array([cv2.imencode(".png", mask())[1].tobytes()], pa.binary())
    with_classes = parquet(tmp_path / "with", 1, classes=masks)
    request = load_thermalize(with_classes, bundle=str(path), profile="laptop")
    plan = write_thermalize_plan(request.job, request.bundle, Storage(tmp_path / "out"))
    assert plan.chain.stages == ("thermal",)
    groups = "profile.groups=[{stages: [visible]}, {stages: [thermal], threads: 2}]"
    with pytest.raises(UserError, match="thermal would compute on a CPU in 2 threads"):
        load_thermalize(with_classes, bundle=str(path), profile="laptop", overrides=[groups])
    bare = load_thermalize(parquet(tmp_path / "bare", 1), bundle=str(path), profile="laptop")
    with pytest.raises(UserError, match="stage thermal reads column classes, which the source does not bring"):
        write_thermalize_plan(bare.job, bare.bundle, Storage(tmp_path / "other"))


def test_a_row_group_is_read_once_for_its_pictures(
    tmp_path: Path, planned: Callable[..., ThermalizePlan], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        thermalize_plan, "ThreadPoolExecutor", lambda *_: ThreadPoolExecutor(1)
    )  # two at once may both read it
    masks = pa.array([cv2.imencode(".png", mask())[1].tobytes()] * 6, pa.binary())
    plan = planned(images=parquet(tmp_path / "six", 6, classes=masks), masks="")
    thermalize_plan._read_row_group.cache_clear()
    assert set(plan.partition(0)["reject"]) == {""}
    assert thermalize_plan._read_row_group.cache_info().misses == 1


def test_parquet_files_without_a_row_are_refused(tmp_path: Path, planned: Callable[..., ThermalizePlan]) -> None:
    with pytest.raises(UserError, match="none holds no picture: its Parquet files have no row"):
        planned(images=parquet(tmp_path / "none", 0), masks="")


def test_pairs_come_out_in_the_record(planned: Callable[..., ThermalizePlan], tmp_path: Path) -> None:
    plan = planned()
    whole_run(plan, write_partition)
    record = read_commits(plan.out)[0]
    rows = pq.read_table(tmp_path / "out" / record.file).to_pylist()
    # A picture that is not square is padded; the padding is background.
    assert [(row["identity_id"], row["condition"]) for row in rows[:2]] == [
        ("000000.png", "warm"),
        ("000000.png", "cold"),
    ]
    assert {row["identity_id"] for row in rows} == {"000000.png", "000001.png", "000007.png", "more/000002.png"}
    padded = next(row for row in rows if row["identity_id"] == "000007.png")
    assert (decode(padded["classes"]["bytes"])[:8] == 0).all() and decode(padded["visible"]["bytes"]).shape == (
        SIZE,
        SIZE,
        3,
    )
    for row in rows:
        celsius = from_centikelvin(decode(row["thermal"]["bytes"]))
        assert celsius.shape == (SIZE, SIZE) and 0 <= celsius.min() and celsius.max() <= 45
        assert row["embedding"] is None and row["thermal_kind"] == "predicted"
    assert (decode(rows[0]["classes"]["bytes"])[:4] == 0).all()  # IGNORE is background


def test_what_cannot_be_taken_has_its_reason(planned: Callable[..., ThermalizePlan], tmp_path: Path) -> None:
    plan = planned(layout="tfake")
    whole_run(plan, write_thermal_files)
    record = read_commits(plan.out)[0]
    rejects = pq.read_table(tmp_path / "out" / record.facts["rejects"]).to_pylist()
    assert {(row["thermal"], row["thermal_kind"]) for row in rejects} == {(None, "")}
    reasons = {row["identity_id"]: row["reject"] for row in rejects}
    assert set(reasons) == {f"00000{k}.png" for k in (3, 4, 5, 6, 7, 8)}
    for name, words in (
        ("000003.png", "no mask"), ("000004.png", "32 x 32 px beside a picture of 64 x 64"),
        ("000005.png", "class 41 is unknown"), ("000006.png", "truncated"), ("000007.png", "not square: 64 x 48"),
        ("000008.png", "symbolic links"),
    ):  # fmt: skip
        assert words in reasons[name]
    assert record.facts["samples"] == 9 and record.facts["rejected"] == 6 and record.rows == 6


def test_t_fakes_layout_holds_its_scale(planned: Callable[..., ThermalizePlan], tmp_path: Path) -> None:
    whole_run(planned("pairs"), write_partition)
    whole_run(planned("files", layout="tfake"), write_thermal_files)
    rows = pq.read_table(tmp_path / "pairs" / "data").to_pylist()
    found = {(row["identity_id"], row["condition"]): from_centikelvin(decode(row["thermal"]["bytes"])) for row in rows}
    for condition in ("warm", "cold"):
        for name in ("000000", "more/000002"):
            values = cv2.imread(str(tmp_path / "files" / condition / f"{name}_thermal.png"), cv2.IMREAD_UNCHANGED)
            assert values.dtype == np.uint16 and values.shape == (SIZE, SIZE)
            wanted = np.clip(found[f"{name}.png", condition], 20, 40)
            np.testing.assert_allclose(20 + 20 * (values / 65535.0), wanted, atol=0.001)
    assert tfake_values(np.array([10.0, 20, 30, 40, 50, np.nan])).tolist() == [0, 0, 32768, 65535, 65535, 0]


def test_a_partition_keeps_to_what_its_columns_may_take(
    planned: Callable[..., ThermalizePlan], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Four bytes of a pixel for the picture and its classes, two for each layer; at least one picture."""
    for share, rows in ((3 * 8 * SIZE**2, 3), (1, 1), (2**30, 64)):
        monkeypatch.setattr(config, "PARTITION_BYTES", share)
        assert planned(f"out-{rows}").recipe.partition == rows


def test_a_limit_is_of_all_pictures_and_may_be_raised(planned: Callable[..., ThermalizePlan]) -> None:
    sizes = []
    for limit in (3, 5, None):
        plan = planned(limit=limit, partition_samples=2)
        sizes.append([plan.rows(k) for k in range(plan.partitions)])
    assert sizes == [[2, 1], [2, 1, 2], [2, 1, 2, 2, 2]]
    with pytest.raises(UserError, match="is planned for 9 pictures, and 8 are asked for: a run can grow, not shrink"):
        planned(limit=8, partition_samples=2)


def test_repeating_writes_the_same_bytes(planned: Callable[..., ThermalizePlan], tmp_path: Path) -> None:
    digests = []
    for out in ("one", "two"):
        whole_run(planned(out, layout="tfake", partition_samples=3), write_thermal_files)
        digests.append([record.digest for record in read_commits(Storage(tmp_path / out)).values()])
    assert digests[0] == digests[1] and len(digests[0]) == 3
    clean(str(tmp_path / "one"))
    assert (tmp_path / "one" / "warm" / "000000_thermal.png").exists()


@pytest.mark.parametrize("masked", [True, False])
def test_parquet_pictures_are_taken(starter: Bundle, tmp_path: Path, masked: bool) -> None:
    def png(values: np.ndarray) -> bytes:
        return bytes(cv2.imencode(".png", values)[1])

    pictures: list[Any] = [{"bytes": png(picture(k)), "path": "a.png"} for k in range(3)] + [None]
    columns = {"image": pictures} | ({"classes": [png(mask())] * 4} if masked else {})
    (tmp_path / "in" / "data").mkdir(parents=True)
    pq.write_table(pa.table(columns), tmp_path / "in" / "data" / "a.parquet", row_group_size=2)
    job = ThermalizeJob(images=str(tmp_path / "in"), size=SIZE, conditions=["cold"], layout="tfake")
    plan = write_thermalize_plan(job, starter, Storage(tmp_path / "out"))
    assert plan.has_classes == masked
    assert str(read_chain(plan.out)) == str(plan.chain)
    whole_run(plan, write_thermal_files)
    assert sorted(path.name for path in (tmp_path / "out" / "cold" / "data").iterdir()) == [
        f"a-00000{k}_thermal.png" for k in range(3)
    ]  # two files may have a row of the same number
    assert read_commits(plan.out)[0].facts["reasons"] == {"empty": 1}


@pytest.mark.parametrize("person", ["", "column:who"])
def test_one_damaged_parquet_costs_its_own_rows(starter: Bundle, tmp_path: Path, person: str) -> None:
    whole = Path(parquet(tmp_path / "in", 3, who=pa.array(["a", "b", "c"]))) / "faces.parquet"
    content = whole.read_bytes()
    (tmp_path / "in" / "cut.parquet").write_bytes(content[:-40])
    (tmp_path / "in" / "not.parquet").write_bytes(b"hello")
    # The pages of the last column are no pages, and the footer is whole.
    where = pq.ParquetFile(whole).metadata.row_group(0).column(1)
    start, size = where.dictionary_page_offset or where.data_page_offset, where.total_compressed_size
    (tmp_path / "in" / "pages.parquet").write_bytes(content[:start] + b"\xff" * size + content[start + size :])
    job = ThermalizeJob(images=str(tmp_path / "in"), size=SIZE, person=person)
    plan = write_thermalize_plan(job, starter, Storage(tmp_path / "out"))
    rows = plan.partition(0)
    reasons = {str(name): str(reason) for name, reason in zip(rows["name"], rows["reject"]) if reason}
    assert [str(reason).split(":")[0] for reason in reasons.values()] == ["not Parquet"] * (3 if person else 2)
    assert "is no readable Parquet file" in reasons["cut"] and "not.parquet" in reasons["not"]
    assert len(rows["reject"]) - len(reasons) == (3 if person else 6)
    # Where faces are cut out the pictures are opened later, and these not at all.
    faces = write_thermalize_plan(job.model_copy(update={"faces": 1}), starter, Storage(tmp_path / "faces")).partition(
        0
    )
    assert {str(reason).split(":")[0] for reason in faces["reject"] if reason} == {"not Parquet"}
    assert sum(map(bool, faces["reject"])) == len(reasons)
    # They are planned like others: the same call goes on, and alone they are one message.
    assert write_thermalize_plan(job, starter, Storage(tmp_path / "out")).samples == plan.samples
    for name in ("faces", "pages"):
        (tmp_path / "in" / f"{name}.parquet").unlink()
    with pytest.raises(UserError, match=r"cut.parquet is no readable Parquet file"):
        write_thermalize_plan(job, starter, Storage(tmp_path / "other"))


def test_wrong_requests_are_refused_by_name(
    planned: Callable[..., ThermalizePlan], photos: Path, tmp_path: Path
) -> None:
    plan = planned()
    assert plan.samples == 9
    with pytest.raises(UserError, match=r"what differs: size: 64 -> 96\. "):
        planned(size=96)
    with pytest.raises(UserError, match=r"source.person:  -> folder:1"):
        planned(person="folder:1")
    with pytest.raises(UserError, match="has no mask for any picture"):
        planned("other", masks=str(tmp_path / "out"))
    Image.fromarray(picture(9)).save(photos / "000009.png")
    Image.fromarray(picture(9)).save(photos / "000009.jpg")
    with pytest.raises(UserError, match="000009 comes with 2 extensions"):
        planned("other", layout="tfake")
    with pytest.raises(UserError, match="does not exist"):
        planned("other", images=str(tmp_path / "nowhere"))
    with pytest.raises(UserError, match="this thermalizer knows no condition 'tropical'; it has: warm, cold"):
        thermalize.run(str(photos), str(tmp_path / "out"), conditions=["tropical"])
    with pytest.raises(UserError, match="size"):
        thermalize.run(str(photos), str(tmp_path / "out"), size=100)
    for person, message in (
        ("folder:0", "say folder:LEVEL"), ("pattern:(", "no regular expression"), ("who", "say folder:LEVEL"),
        ("column:person", "a folder of pictures has no columns; say folder:LEVEL or pattern:REGEX"),
    ):  # fmt: skip
        with pytest.raises(UserError, match=message):
            thermalize.run(str(photos), str(tmp_path / "out"), masks=str(photos), person=person)


PEOPLE = ("anna", "bert", "carl", "dora", "emil", "fred", "gina")


@pytest.fixture
def album(tmp_path: Path) -> Path:
    """Two sessions of seven people, `SESSION/PERSON-NUMBER.png`, at the size that is asked for."""
    folder = tmp_path / "album"
    for number in range(14):
        path = folder / f"s{number // 7}" / f"{PEOPLE[number % 7]}-{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture(number)).save(path)
    return folder


def thermalized(images: Path, out: Path, **values: Any) -> list[dict[str, Any]]:
    """Run a job on the null bundle, its end included, and return its rows, each picture once."""
    job = ThermalizeJob(**({"images": str(images), "size": SIZE, "conditions": ["warm"]} | values))
    plan = write_thermalize_plan(job, load_bundle("null"), Storage(out))
    whole_run(plan, write_partition)
    end_run(plan, thermalize._finish)
    return pq.read_table(out / "data").to_pylist()


def test_every_page_of_a_file_is_a_row_and_one_that_is_not_taken_says_why(tmp_path: Path) -> None:
    """A source may make several rows of a planned picture; the writer sees that every picture is covered."""
    folder, pages = tmp_path / "pages", [Image.fromarray(picture(seed, (40 + 8 * seed, 64))) for seed in range(3)]
    folder.mkdir()
    pages[0].save(folder / "a.tif", save_all=True, append_images=pages[1:])
    pages[1].save(folder / "b.tif")
    pages[0].save(folder / "c.tif", save_all=True, append_images=[pages[1]] * 64)
    rows = thermalized(folder, tmp_path / "out")
    assert [row["identity_id"] for row in rows] == ["a.tif"] * 3 + ["b.tif"]
    first = rows[0]["sample_id"]
    assert [row["sample_id"] for row in rows[:3]] == [first, f"{first}-1", f"{first}-2"]
    assert len({row["visible"]["bytes"] for row in rows}) == 3  # b.tif is a's second page
    assert len({row["pair_id"] for row in rows}) == 4
    squares = [make_square(np.asarray(page), SIZE) for page in pages]
    for number, row in enumerate(rows[:3]):
        assert tuple(row["content_box"]) == squares[number][1]
        far = [np.abs(decode(row["visible"]["bytes"]).astype(int) - square).mean() for square, _ in squares]
        assert int(np.argmin(far)) == number
    (refused,) = pq.read_table(tmp_path / "out" / "rejects").to_pylist()
    assert refused["reject"] == "too many pages: 65; the limit is 64, so split the file"
    remade = inspect.run(str(tmp_path / "out"), rows[2]["pair_id"])
    assert remade is not None and remade.same


def test_a_row_is_made_again_from_its_photograph(album: Path, tmp_path: Path) -> None:
    """A picture that was kept as it came is compared with what it holds, one that was squared with its encoding."""
    rows = thermalized(album, tmp_path / "out")
    for row in rows:
        remade = inspect.run(str(tmp_path / "out"), row["pair_id"])
        assert remade is not None and remade.same
    with pytest.raises(UserError, match="has no pair 'nobody'"):
        inspect.run(str(tmp_path / "out"), "nobody")


def test_the_split_is_by_person_where_somebody_says_who(album: Path, tmp_path: Path) -> None:
    sessions = thermalized(album, tmp_path / "folder", person="folder:1")
    assert {row["identity_id"] for row in sessions} == {"s0", "s1"}
    names = thermalized(album, tmp_path / "pattern", person="pattern:/(\\w+)-")
    assert {row["identity_id"] for row in names} == set(PEOPLE)
    for rows in (sessions, names):
        assert all(row["split"] == split_of(row["identity_id"]) for row in rows)
    assert len({row["split"] for row in names}) > 1  # by name, in every run alike
    card = (tmp_path / "pattern" / "README.md").read_text()
    assert "The split is by person, as `pattern:/(\\w+)-` says who is shown." in card
    # A picture of which nothing is said is no pair: it could stand in two splits.
    (album / "odd.png").write_bytes((album / "s0" / "anna-0.png").read_bytes())
    rows = thermalized(album, tmp_path / "odd", person="folder:1")
    assert len(rows) == 14
    (refused,) = pq.read_table(tmp_path / "odd" / "rejects").to_pylist()
    assert refused["reject"] == "no person: folder:1 does not say who odd.png shows"


def test_where_nobody_says_who_is_shown_there_is_one_split(album: Path, tmp_path: Path) -> None:
    rows = thermalized(album, tmp_path / "out")
    assert {row["split"] for row in rows} == {"train"} and len({row["identity_id"] for row in rows}) == 14
    assert len({split_of(row["identity_id"]) for row in rows}) > 1  # their names alone would have cut people apart
    card = (tmp_path / "out" / "README.md").read_text()
    assert "Nothing says who is shown, so all rows are of one split, train: say it with `--person`" in card


def test_the_person_of_a_parquet_is_in_its_column(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    png = [bytes(cv2.imencode(".png", picture(k))[1]) for k in range(4)]
    who = {"identity_id": ["a", "a", "b", "b"], "subject": ["x", "y", None, "z"]}
    pq.write_table(pa.table({"image": png, **who}), tmp_path / "in" / "a.parquet")
    rows = thermalized(tmp_path / "in", tmp_path / "own")
    assert [row["identity_id"] for row in rows] == ["a", "a", "b", "b"]
    rows = thermalized(tmp_path / "in", tmp_path / "named", person="column:subject")
    assert [row["identity_id"] for row in rows] == ["x", "y", "z"]
    with pytest.raises(UserError, match=r"no column 'face' \(--person\); it has: image, identity_id, subject"):
        thermalized(tmp_path / "in", tmp_path / "other", person="column:face")


def test_a_picture_that_fits_is_stored_as_it_came(tmp_path: Path) -> None:
    """Others are turned upright, padded and encoded; what they show and where is said."""
    folder = tmp_path / "in"
    folder.mkdir()
    flat = np.full((SIZE, SIZE, 3), 128, np.uint8)
    flat[:, : SIZE // 2] = 30
    Image.fromarray(flat).save(folder / "fits.png")
    Image.fromarray(flat).save(folder / "fits.jpg", quality=91)
    turned = Image.Exif()
    turned[274] = 3
    Image.fromarray(flat).save(folder / "turned.jpg", quality=91, exif=turned)
    Image.fromarray(picture(1, (SIZE // 2, SIZE))).save(folder / "wide.png")
    found = thermalized(folder, tmp_path / "out", encoding={"visible": "png"})
    stored, rows = [row["visible"] for row in found if row["name"] == "fits"], {row["name"]: row for row in found}
    assert {one["bytes"] for one in stored} == {(folder / name).read_bytes() for name in ("fits.png", "fits.jpg")}
    assert {one["path"].rpartition(".")[2] for one in stored} == {"png", "jpg"}
    upright = decode(rows["turned"]["visible"]["bytes"])
    assert rows["turned"]["visible"]["bytes"] != (folder / "turned.jpg").read_bytes()
    assert upright[:, : SIZE // 2].mean() > 100 > upright[:, SIZE // 2 :].mean()  # turned about
    assert rows["wide"]["content_box"] == [0, SIZE // 4, SIZE, SIZE - SIZE // 4] and rows["wide"]["size"] == SIZE
    assert rows["turned"]["content_box"] == [0, 0, SIZE, SIZE]
    assert (decode(rows["wide"]["visible"]["bytes"])[: SIZE // 4] == 0).all()


@pytest.mark.slow
def test_the_whole_run_on_ray_equals_this_process_and_goes_on(
    planned: Callable[..., ThermalizePlan], photos: Path, tmp_path: Path, local_ray: object
) -> None:
    whole_run(plan := planned("here", partition_samples=3), write_partition)
    wanted = {part: record.digest for part, record in read_commits(plan.out).items()}
    out = tmp_path / "ray"

    def run() -> Summary:
        return thermalize.run(str(photos), str(out), masks=str(photos), size=SIZE, partition_samples=3)

    summary = run()
    assert (summary.pictures, summary.made) == (9, 4)
    assert summary.reasons == {"no mask": 1, "mask": 2, "truncated": 1, "cannot be read": 1}
    assert {part: record.digest for part, record in read_commits(Storage(out)).items()} == wanted
    lost = read_commits(Storage(out))[0]
    (out / "_commits" / "part-00000.json").unlink()
    (out / lost.file).unlink()
    assert run() == summary
    assert {part: record.digest for part, record in read_commits(Storage(out)).items()} == wanted
    from datasets import load_dataset

    assert len(load_dataset(str(out), split="train", cache_dir=str(tmp_path / "cache"))) == 8
