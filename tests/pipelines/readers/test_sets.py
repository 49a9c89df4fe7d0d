"""Published data sets, written as they lie on disk with their oddities, come back by their own protocol."""

import csv
import json
import shutil
from pathlib import Path
from typing import Any, get_args

import cv2
import numpy as np
import pyarrow.parquet as pq
import pytest

from cluster.commands import options
from models.errors import EnvironmentFault, UserError
from pipelines import gather
from pipelines.check_data import check_data
from pipelines.config.gather import LayoutName
from pipelines.gather import gather_set
from pipelines.pictures.codecs import encode_jpeg
from pipelines.readers import LAYOUTS
from pipelines.readers.sets.source import SOURCES, describe
from pipelines.rows.encode import encode_gathered
from tests.pipelines.readers.layouts import job, read_rows

RNG = np.random.default_rng(0)


def picture(path: Path, height: int = 36, width: int = 48, colour: bool = True) -> Path:
    """Write a picture of noise; without colour its three channels are equal, as thermal frames are often stored."""
    path.parent.mkdir(parents=True, exist_ok=True)
    values = RNG.integers(0, 255, (height, width, 3 if colour else 1), np.uint8)
    assert cv2.imwrite(str(path), values if colour else np.repeat(values, 3, axis=2))
    return path


def text(path: Path, content: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)
    return path


def speakingfaces(folder: Path) -> Path:
    for subject, part in ((7, "train"), (101, "valid"), (142, "test")):
        trial = folder / f"{part}_data" / f"sub_{subject}" / "trial_1"
        for frame in (1, 2):
            picture(trial / "thr_image" / f"{subject}_1_1_4_{frame}_1.png", colour=False)
            picture(trial / "rgb_image" / f"{subject}_1_1_4_{frame}_2.png", 51, 77)
            picture(trial / "rgb_image_aligned" / f"{subject}_1_1_4_{frame}_3.png")
    # The second session has a command in its names; a frame that nobody aligned; one whose thermal half is lost.
    trial = folder / "train_data" / "sub_7" / "trial_2"
    picture(trial / "thr_image_cmd" / "7_2_2_1_13_5_1.png", colour=False)
    picture(trial / "rgb_image_cmd_aligned" / "7_2_2_1_13_5_3.png")
    picture(trial / "thr_image" / "7_2_1_1_9_1.png", colour=False)
    picture(trial / "rgb_image" / "7_2_1_1_9_2.png", 51, 77)
    picture(trial / "rgb_image_aligned" / "7_2_1_1_8_3.png")
    return folder


def tufts(folder: Path) -> Path:
    for person in (1, 12):
        for number in (1, 2, 5):
            picture(folder / "TD_RGB_E_Set1" / str(person) / f"TD_RGB_E_{number}.jpg", 60, 40)
            picture(folder / "TD_IR_E_Set1" / str(person) / f"TD_IR_E_{number}.jpg", colour=False)
    picture(folder / "TD_IR_A" / "TD_IR_A_Set2" / "12" / "TD_IR_A_3.jpg", colour=False)
    picture(folder / "TD_NIR_A_Set2" / "12" / "TD_NIR_A_3.jpg")
    text(folder / "TD_IR_E_Set1" / "1" / "Thumbs.db", "")
    return folder


def vis_th(folder: Path) -> Path:
    for code in ("1_01_NN", "2_20_LD"):
        picture(folder / "001" / f"TH_001_{code}.tiff", colour=False)
        picture(folder / "001" / f"VIS_001_{code}.jpg", 27, 48)
    picture(folder / "050 lost half" / "TH_050_1_02_EH.tiff", colour=False)
    return folder


def aachen(folder: Path) -> Path:
    celsius = np.full((36, 48), 22.0, np.float32)
    celsius[8:30, 12:36] = 34 + RNG.normal(0, 0.2, (22, 24))
    points = np.stack([np.linspace(9, 29, 68), np.linspace(13, 35, 68)], axis=1)  # y, x
    for name in ("irface_sub001_seq01_frm00010.jpg_lfb", "irface_sub002_seq03_frm00200.jpg_lfb"):
        picture(folder / f"{name}.png", colour=False)
        rows = [[None, None] if k == 3 else list(point) for k, point in enumerate(points)]
        text(folder / f"{name}.ljson", json.dumps({"landmarks": {"points": rows}, "labels": []}))
    np.save(folder / "irface_sub001_seq01_frm00010.jpg_lfb.npy", celsius)
    return folder


def tfw(folder: Path) -> Path:
    face = "4,5,30,33,10.5,12,20,12.5,15,18,11,25,19,25"
    header = "filename,xs,ys,xe,ye,p1x,p1y,p2x,p2y,p3x,p3y,p4x,p4y,p5x,p5y"
    for part in ("train", "val", "test"):
        picture(folder / "TFW" / part / "indoor_gray" / "103_1_1_4_450_1.png", colour=False)
        picture(folder / "TFW" / part / "indoor" / "103_1_1_4_450_1.png")
        picture(folder / "TFW" / part / "outdoor_gray" / "3312.png", colour=False)
        text(folder / "TFW" / part / "indoor.csv", f"{header}\n103_1_1_4_450_1.png,{face}\n")
        text(folder / "TFW" / part / "outdoor.csv", f"{header}\n3312.png,{face}\n3312.png,{face}\n")
    text(
        folder / "TFW" / "test" / "indoor.csv",
        f"{header}\n103_1_1_4_450_1.png,{face}\ngone.png,{face}\n103_1_1_4_450_1.png,4,5,x,33,1\n",
    )
    return folder


def sf_tl54(folder: Path) -> Path:
    points = [[10 + k % 9, 8 + k // 9] for k in range(54)]
    points[48:54] = [[10, 20], [14, 19], [18, 20], [14, 22], [14, 20], [14, 21]]
    shapes = [{"label": "face", "shape_type": "rectangle", "points": [[8, 6], [30, 30]]}]
    shapes += [{"label": "jaw", "shape_type": "linestrip", "points": points}]
    for part, count in (("train", 2), ("val", 1), ("test", 1)):
        for k in range(count):
            name = f"{100 + k}_1_2_{k}"
            picture(folder / "dataset" / "gray" / part / "images" / f"{name}_1.png", colour=False)
            picture(folder / "dataset" / "iron" / part / "images" / f"{name}_1.png")
            picture(folder / "dataset" / "rgb" / part / f"{name}_3.png")
            for kind in ("gray", "iron"):
                text(folder / "dataset" / kind / part / "json" / f"{name}_1.json", json.dumps({"shapes": shapes}))
    (folder / "dataset" / "gray" / "test" / "json" / "100_1_2_0_1.json").unlink()
    return folder


def mcxface(folder: Path) -> Path:
    for protocol in ("VIS-THERMAL-split1", "VIS-NIR-split1"):
        lists = {
            "norm/train_world": ["color/a_1,a", "thermal/a_1,a"],
            "dev/for_models": ["color/b 1,b"],
            "dev/for_probes": ["thermal/b 1,b", "thermal/gone,b", "nir/b 1,b"],
            "eval/for_models": ["color/c_1.jpg,c"],
            "eval/for_probes": ["thermal/c_1.jpg,c"],
        }
        for name, lines in lists.items():
            text(folder / "protocols" / protocol / f"{name}.csv", "\n".join(["PATH,REFERENCE_ID", *lines]))
    for name in ("a_1", "b 1", "c_1"):
        picture(folder / "data" / "color" / f"{name}.jpg")
        for camera in ("thermal", "nir"):
            picture(folder / "data" / camera / f"{name}.png", colour=False)
    return folder


WRITERS = {
    "speakingfaces": speakingfaces,
    "tufts": tufts,
    "vis-th": vis_th,
    "aachen": aachen,
    "tfw": tfw,
    "sf-tl54": sf_tl54,
}


def read(layout: str, folder: Path, **values: Any) -> tuple[dict[str, dict[str, Any]], dict[str, str]]:
    rows, reasons = read_rows(job(layout, folder, **values))
    return {row["name"]: row for row in rows}, reasons


def test_speakingfaces_pairs_streams_and_splits_by_subject(tmp_path: Path) -> None:
    rows, reasons = read("speakingfaces", speakingfaces(tmp_path))
    assert {name: row["split"] for name, row in rows.items() if name.endswith("_1_1_4_1")} == {
        "7_1_1_4_1": "train", "101_1_1_4_1": "validation", "142_1_1_4_1": "test",
    }  # fmt: skip
    one = rows["7_2_2_1_13_5"]
    assert json.loads(one["attributes"]) == {
        "trial": "2", "session": "2", "position": "1", "command": "13", "frame": "5",
    }  # fmt: skip
    assert (one["identity_id"], one["thermal_kind"], one["visible_kind"]) == ("7", "minmax", "rgb")
    assert len(rows) == 7
    assert "not registered: 7_2_1_1_9 has the raw visible picture alone" in reasons["7_2_1_1_9"]
    assert reasons["7_2_1_1_8"].startswith("no thermal picture")
    # The published split is the row's own, whatever the person's name hashes to.
    encoded = [encode_gathered(row, encode_jpeg)["split"] for row in rows.values()]
    assert encoded == [row["split"] for row in rows.values()]


def test_tufts_numbers_moments_and_keeps_halves_apart(tmp_path: Path) -> None:
    rows, reasons = read("tufts", tufts(tmp_path))
    assert not reasons
    assert len(rows) == 13
    seen, warm = rows["E/12/5/visible"], rows["E/12/5/thermal"]
    assert (seen["thermal"], seen["visible_kind"], warm["visible_kind"]) == (None, "rgb", "thermal")
    assert seen["identity_id"] == warm["identity_id"] == "12"
    assert json.loads(seen["attributes"])["expression"] == "sunglasses"
    assert "expression" not in json.loads(rows["A/12/3/thermal"]["attributes"])
    assert seen["split"] == ""


def test_tufts_without_numbers_goes_by_the_order_of_names(tmp_path: Path) -> None:
    for camera, names in (("RGB", ("b", "a")), ("IR", ("x", "y"))):
        for name in names:
            picture(tmp_path / f"TD_{camera}_E" / "3" / f"{name}.jpg", colour=camera == "RGB")
    rows, _ = read("tufts", tmp_path)
    assert set(rows) == {f"E/3/{k}/{half}" for k in (1, 2) for half in ("visible", "thermal")}


def test_vis_th_says_session_and_variation(tmp_path: Path) -> None:
    rows, reasons = read("vis-th", vis_th(tmp_path))
    assert not reasons
    assert set(rows) == {
        "001_1_01_NN/visible", "001_1_01_NN/thermal", "001_2_20_LD/visible", "001_2_20_LD/thermal", "050_1_02_EH/thermal",
    }  # fmt: skip
    assert json.loads(rows["001_2_20_LD/thermal"]["attributes"]) == {"session": "2", "variation": "LD"}
    assert rows["050_1_02_EH/thermal"]["identity_id"] == "50"


def test_aachen_reads_degrees_where_they_are_and_points_y_first(tmp_path: Path) -> None:
    rows, reasons = read("aachen", aachen(tmp_path))
    warm = rows["irface_sub001_seq01_frm00010.jpg_lfb"]
    assert warm["thermal_kind"] == "measured"
    # Grey levels of another frame would be taken for degrees beside these.
    lost = "irface_sub002_seq03_frm00200.jpg_lfb"
    assert reasons == {lost: f"no temperature: {lost}.png is grey levels, and other frames have degrees (.npy)"}
    assert 33 < np.nanmedian(warm["thermal"][warm["valid"]][warm["thermal"][warm["valid"]] > 28]) < 35
    points = warm["landmarks_70"]
    assert np.isnan(points[3]).all() and np.isnan(points[68:]).all()
    # 48 px wide in 64: the first point lies at (13, 9) of the frame, which is padded above and below.
    assert points[0] == pytest.approx((13 * 64 / 48, (9 + 6) * 64 / 48), abs=0.01)
    # A copy without any matrix is grey throughout.
    next(tmp_path.glob("*.npy")).unlink()
    rows, reasons = read("aachen", tmp_path)
    assert not reasons and {row["thermal_kind"] for row in rows.values()} == {"minmax"} and len(rows) == 2


def test_tfw_has_a_row_for_each_face_with_its_own_points(tmp_path: Path) -> None:
    rows, reasons = read("tfw", tfw(tmp_path))
    assert {name for name in rows if name.startswith("val/")} == {
        "val/indoor/103_1_1_4_450_1", "val/outdoor/3312", "val/outdoor/3312@1",
    }  # fmt: skip
    assert rows["val/outdoor/3312"]["split"] == "validation"
    assert rows["val/indoor/103_1_1_4_450_1"]["identity_id"] == "103"
    assert rows["val/outdoor/3312@1"]["landmarks_5"][0] == pytest.approx((10.5 * 64 / 48, (12 + 6) * 64 / 48))
    assert "indoor_gray/gone.png of TFW/test/indoor.csv is not there" in reasons["test/indoor/gone"]
    assert reasons["test/indoor/103_1_1_4_450_1@1"].startswith("landmarks: TFW/test/indoor.csv")


def test_sf_tl54_pairs_by_name_or_place_and_spreads_its_points(tmp_path: Path) -> None:
    rows, reasons = read("sf-tl54", sf_tl54(tmp_path))
    assert set(rows) == {"train/100_1_2_0_1", "train/101_1_2_1_1", "validation/100_1_2_0_1"}
    assert reasons == {"test/100_1_2_0_1": "no landmarks: 100_1_2_0_1.json is not there"}
    one = rows["train/101_1_2_1_1"]
    assert (one["identity_id"], one["visible_kind"], one["split"]) == ("101", "rgb", "train")
    assert int(np.isfinite(one["landmarks_70"]).all(axis=1).sum()) == 54
    # With one visible picture too few, no place can be trusted: the thermal pictures stand alone.
    next((tmp_path / "dataset" / "rgb" / "train").glob("100*")).unlink()
    rows, _ = read("sf-tl54", tmp_path)
    assert rows["train/101_1_2_1_1"]["visible_kind"] == "thermal"


def test_protocol_files_say_splits_and_roles(tmp_path: Path) -> None:
    mcxface(tmp_path)
    with pytest.raises(UserError, match="protocols VIS-NIR-split1, VIS-THERMAL-split1: --protocol NAME"):
        read("mcxface", tmp_path)
    rows, reasons = read("mcxface", tmp_path, protocol="VIS-THERMAL-split1")
    assert {name: (row["split"], row["visible_kind"]) for name, row in rows.items()} == {
        "train/train/color/a_1": ("train", "rgb"),
        "train/train/thermal/a_1": ("train", "thermal"),
        "validation/model/color/b 1": ("validation", "rgb"),
        "validation/probe/thermal/b 1": ("validation", "thermal"),
        "test/model/color/c_1": ("test", "rgb"),
        "test/probe/thermal/c_1": ("test", "thermal"),
    }
    assert json.loads(rows["test/probe/thermal/c_1"]["attributes"])["role"] == "probe"
    assert reasons["validation/probe/thermal/gone"].startswith("no picture: thermal/gone of ")
    assert reasons["validation/probe/nir/b 1"] == "modality: nir of nir/b 1 is neither visible nor thermal"
    with pytest.raises(UserError, match="protocols"):
        read("mcxface", tmp_path, protocol="other")


@pytest.mark.parametrize("layout", WRITERS)
def test_a_folder_is_known_by_what_lies_in_it(layout: str, tmp_path: Path) -> None:
    found = check_data(str(WRITERS[layout](tmp_path / "set")), picture=str(tmp_path / "look.png"))
    assert found.layout == layout
    assert describe(layout) in str(found)
    assert cv2.imread(str(tmp_path / "look.png")).std() > 10
    other = "tufts" if layout != "tufts" else "vis-th"
    with pytest.raises(UserError, match=f"It looks like: .*{layout}"):
        check_data(str(tmp_path / "set"), other)


def test_what_a_check_says(tmp_path: Path) -> None:
    found = check_data(str(speakingfaces(tmp_path)))
    said = str(found)
    for words in (
        "rows        7: 7 pairs",
        "people      3",
        "splits      train 3 of 1 people, validation 2 of 1 people, test 2 of 1 people",
        "missing     2",
        "1 not registered (first: 7_2_1_1_9: 7_2_1_1_9 has the raw visible picture alone",
        "thermal     48 x 36 px (7)",
        "temperature none: grey levels",
        f"use         thermapair evaluate hfr --data {tmp_path} --reader speakingfaces --out DIR",
        "            likewise evaluate translation, train hfr, evaluate lapig, train translator",
        "            with --parser starter --condition NAME also train thermalizer",
    ):
        assert words in said, said
    warm = str(check_data(str(aachen(tmp_path / "aachen")), "aachen"))
    assert "temperature 22.0 to 34.2 degC" in warm or "temperature 22.0 to 34.3 degC" in warm
    assert (
        "landmarks   68 points (1)" in warm
        and "1 no temperature (first: irface_sub002" in warm
        and "use         thermapair evaluate tfake --data" in warm
    )
    # Halves apart are said to be so, and whom both show: what recognition across modalities can be measured on.
    apart = str(check_data(str(tufts(tmp_path / "tufts"))))
    assert "halves      apart: no pixel joins the two cameras' pictures; 2 people are shown by both" in apart
    assert (
        "likewise evaluate translation, train hfr\n" not in apart
        and "likewise evaluate translation, train hfr" in apart
    )
    assert "splits      none published" in apart and "thermalizer" not in apart
    # One person can be told from nobody, and five points tell no landmarks: what is left is to gather the rows.
    for folder, layout in ((vis_th(tmp_path / "vis"), "vis-th"), (tfw(tmp_path / "tfw"), "tfw")):
        said = str(check_data(str(folder)))
        assert f"use         thermapair gather --layout {layout} --images {folder} --out DIR" in said
    # Faces of nobody known are nobody.
    assert "people      1\n" in said and "train 3 of 1 people" in said
    # Somebody of two splits is told.
    tables = mcxface(tmp_path / "mcx") / "protocols" / "VIS-THERMAL-split1"
    text(tables / "eval" / "for_probes.csv", "PATH,REFERENCE_ID\nthermal/c_1,a\n")
    assert "in two splits: a" in str(check_data(str(tmp_path / "mcx"), "mcxface", protocol="VIS-THERMAL-split1"))


@pytest.mark.parametrize("layout", ["facesynthetics", "tfake", "sejong", "charlotte"])
def test_what_the_world_writes_is_known_and_measured(layout: str, written: dict[str, Path], tmp_path: Path) -> None:
    found = check_data(str(written[layout]), picture=str(tmp_path / "look.png"))
    assert found.layout == layout and not found.missing and not found.refused and found.rows.total() > 0
    said = str(found)
    degrees = {"tfake", "charlotte"}
    assert (" degC (5 to 95 %)" in said) == (layout in degrees)
    assert ("points" in said) == (layout != "sejong")
    assert cv2.imread(str(tmp_path / "look.png")).std() > 10


def test_lists_of_several_protocols_are_to_be_named(tmp_path: Path) -> None:
    folder = mcxface(tmp_path / "mcx")
    with pytest.raises(UserError, match="has the protocols VIS-NIR-split1, VIS-THERMAL-split1: --protocol NAME"):
        check_data(str(folder))
    with pytest.raises(UserError, match="has no protocol VIS; it has the protocols VIS-NIR-split1"):
        check_data(str(folder), protocol="VIS")
    with pytest.raises(UserError, match="It looks like: mcxface"):
        check_data(str(folder), "tufts")
    said = str(check_data(str(folder), protocol="VIS-THERMAL-split1"))
    assert "splits      train 2 of 1 people, validation 2 of 1 people, test 2 of 1 people" in said
    assert "lists       2 rows enrol (model), 2 ask (probe)" in said
    assert "--reader mcxface --protocol VIS-THERMAL-split1 --out DIR" in said
    # Files that a list names and nobody has are counted by their kind, the first ones by name, and all of them in a table.
    assert "1 no picture (first: validation/probe/thermal/gone: thermal/gone of protocols/VIS-THERMAL-split1/" in said
    lists = folder / "protocols" / "VIS-THERMAL-split1" / "dev" / "for_probes.csv"
    lists.write_text(lists.read_text() + "".join(f"\nthermal/lost {k},b" for k in range(4)))
    table = tmp_path / "missing.csv"
    said = str(check_data(str(folder), protocol="VIS-THERMAL-split1", missing=str(table)))
    assert "5 no picture (first: validation/probe/thermal/gone: " in said
    assert "; then validation/probe/thermal/lost 0, validation/probe/thermal/lost 1 ...)" in said
    rows = list(csv.DictReader(table.open()))
    assert len(rows) == 6 and {row["name"] for row in rows} >= {f"validation/probe/thermal/lost {k}" for k in range(4)}
    assert rows[4]["reason"] == f"no picture: thermal/lost 3 of {lists.relative_to(folder)} is not there"
    # Gathering goes on without them, and says where each stands.
    summary = gather.run(
        {"layout": "mcxface", "images": str(folder), "protocol": "VIS-THERMAL-split1"},
        str(tmp_path / "set"),
        local=True,
    )
    assert "5 not: no picture (first: validation/probe/thermal/gone" in str(summary)
    told = pq.read_table(tmp_path / "set" / "rejects").to_pylist()
    assert f"each by its name and reason: {tmp_path / 'set'}/rejects" in str(summary) and len(told) == 6
    # A line that says nobody is of nobody.
    text(lists.parents[1] / "eval" / "for_probes.csv", "PATH,REFERENCE_ID\nthermal/c_1.jpg,\n")
    nobody = str(check_data(str(folder), protocol="VIS-THERMAL-split1"))
    assert "1 no person (first: " in nobody and "says nobody for thermal/c_1.jpg" in nobody


def test_half_a_set_is_known_for_what_it_is(tmp_path: Path) -> None:
    folder = speakingfaces(tmp_path / "faces")
    for place in folder.rglob("rgb_image*"):
        shutil.rmtree(place)
    found = check_data(str(folder))
    assert (found.layout, found.rows.total(), found.opened) == ("speakingfaces", 0, 0)
    assert "8 no visible picture (first: 7_1_1_4_1: " in str(found)
    with pytest.raises(UserError, match="none of the first 8 rows of .* can be taken as speakingfaces") as refused:
        gather_set(str(folder), "speakingfaces", str(tmp_path / "set"))
    assert f"`thermapair data check {folder}` says what there is and what is missing." in str(refused.value)


def test_another_set_than_the_reader_reads_is_named(tmp_path: Path) -> None:
    """As `--reader` and `gather --layout` open a folder: nothing is written."""
    folder = vis_th(tmp_path / "faces")
    with pytest.raises(
        UserError, match=r"holds no Tufts: .* It looks like: vis-th \(--layout of gather and data check"
    ):
        gather_set(str(folder), "tufts", str(tmp_path / "set"))
    picture(tmp_path / "holiday" / "a.jpg")
    with pytest.raises(UserError, match=r"holds no Tufts: .*`thermapair data check .*holiday` says what it holds"):
        gather_set(str(tmp_path / "holiday"), "tufts", str(tmp_path / "set"))
    assert not (tmp_path / "set" / "data").exists()


def test_halves_of_two_sizes_are_no_pair(tmp_path: Path) -> None:
    folder = speakingfaces(tmp_path / "faces")
    picture(folder / "train_data" / "sub_7" / "trial_1" / "rgb_image_aligned" / "7_1_1_4_1_3.png", 36, 30)
    rows, reasons = read("speakingfaces", folder)
    assert (
        "7_1_1_4_1" not in rows and reasons["7_1_1_4_1"] == "mismatched: 48 x 36 px thermal beside 30 x 36 px visible"
    )


def test_a_folder_of_nothing_known_is_refused(tmp_path: Path) -> None:
    picture(tmp_path / "holiday" / "a.jpg")
    with pytest.raises(UserError, match="of no known layout .*gather it as plain"):
        check_data(str(tmp_path))


def test_every_layout_has_a_source_and_the_command_knows_them_all() -> None:
    assert {"plain", *SOURCES} == set(LAYOUTS) == set(get_args(LayoutName)) == set(options.LAYOUTS)


def test_a_list_that_cannot_be_read_is_no_other_layout(tmp_path: Path) -> None:
    """A failing disk is told of as such (exit code 75), whether a layout is named or looked for; of a picture it is a reason."""
    folder, gone = mcxface(tmp_path / "mcx"), Path("/proc/self/mem")  # to read which fails as a broken disk does
    named = folder / "protocols" / "VIS-THERMAL-split1" / "norm" / "train_world.csv"
    kept = named.read_bytes()
    named.unlink()
    named.symlink_to(gone)
    for layout in ("mcxface", None):
        with pytest.raises(EnvironmentFault, match=r"train_world\.csv cannot be read: Input/output error"):
            check_data(str(folder), layout, protocol="VIS-THERMAL-split1")
    named.unlink()
    named.write_bytes(kept)
    shown = folder / "data" / "color" / "a_1.jpg"
    shown.unlink()
    shown.symlink_to(gone)
    found = check_data(str(folder), protocol="VIS-THERMAL-split1")
    assert found.refused == {
        "unreadable": [("train/train/color/a_1", "unreadable: cannot be read: Input/output error")]
    }
