"""Of very many rows of each person some are taken: from everywhere, the same ones everywhere, and nothing else is opened."""

import json
import shutil
from collections import Counter
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from models.errors import UserError
from pipelines.check_data import check_data
from pipelines.gather import gather_set, run
from pipelines.readers import list_files, list_items
from pipelines.readers.item import Item
from pipelines.readers.spread import spread_rows
from pipelines.rows.halves import Halves
from pipelines.rows.shards import Shards
from tests.pipelines.readers.layouts import job
from tests.pipelines.readers.test_sets import mcxface, picture, text


def frame(person: int, session: int, number: int, split: str = "train") -> Item:
    facts = json.dumps({"trial": "1", "session": str(session)})
    return Item(f"{person}_1_{session}_4_{number}", str(person), "", "v", "t", facts=facts, split=split)


def take(items: list[Item], most: int) -> list[str]:
    return [item.name for item in spread_rows(items, most, Counter())]


def test_a_person_is_taken_from_all_sessions_and_all_over_them() -> None:
    long, short = [frame(7, 1, k) for k in range(1, 1001)], [frame(7, 2, k) for k in (5, 9)]
    few = [frame(8, 1, k) for k in range(3)]
    names = take([*long, *few, *short], 10)
    # The short session is whole, the long one has the rest, at distances that differ by no more than two to one.
    assert [name for name in names if name.startswith("7_1_2_")] == ["7_1_2_4_5", "7_1_2_4_9"]
    places = [int(name.rpartition("_")[2]) for name in names if name.startswith("7_1_1_")]
    assert places == [1, 126, 251, 376, 501, 626, 751, 876]
    # Somebody with fewer rows stays whole, and all keep their order.
    assert names[8:11] == [item.name for item in few] and [name[0] for name in names] == [*"7777777788877"]


def test_whoever_is_taken_is_taken_with_more_rows_too() -> None:
    items = [frame(7, session, k) for session in (1, 2, 10) for k in range(37)]
    before: set[str] = set()
    for most in range(1, 112):
        now = take(items, most)
        assert len(now) == most and before < set(now)
        sessions = Counter({"1": 0, "2": 0, "10": 0}) | Counter(name.split("_")[2] for name in now)
        assert max(sessions.values()) - min(sessions.values()) <= 1
        before = set(now)


def test_splits_missing_rows_and_nobody_known_are_left_alone() -> None:
    twice = [frame(7, 1, k) for k in range(9)] + [frame(7, 1, k, "test") for k in range(9, 18)]
    lost = [Item(f"lost {k}", "7", visible="v", reason="no thermal picture: x", split="train") for k in range(5)]
    nobody = [Item(f"street {k}", thermal="t", split="train") for k in range(6)]
    left = Counter[str]()
    found = list(spread_rows([*twice, *lost, *nobody], 2, left))
    assert Counter(item.split for item in found if item.identity and not item.reason) == {"train": 2, "test": 2}
    assert [item for item in found if item.reason or not item.identity] == [*lost, *nobody]
    assert left == {"train": 7, "test": 7}


def tufts(folder: Path, moments: int = 9) -> Path:
    """Two people before both cameras, the thermal picture of every third moment lost."""
    for person in (1, 2):
        for number in range(1, moments + 1):
            picture(folder / "TD_RGB_A_Set1" / str(person) / f"TD_RGB_A_{number}.jpg", 6, 4)
            if number % 3:
                picture(folder / "TD_IR_A_Set1" / str(person) / f"TD_IR_A_{number}.jpg", 6, 4, colour=False)
    return folder


def test_cameras_that_stood_apart_are_taken_at_the_same_moments(tmp_path: Path) -> None:
    wanted = job("tufts", tufts(tmp_path), rows_per_person=6)
    names = [item.name for item in list_items(wanted, list_files(wanted))]
    moments = [{name.rpartition("/")[0] for name in names if name.endswith(half)} for half in ("visible", "thermal")]
    assert moments[0] == moments[1] and len(names) == 12
    assert Counter(name.split("/")[1] for name in names) == {"1": 6, "2": 6}


def test_no_picture_is_opened_that_is_not_taken(tmp_path: Path) -> None:
    folder = tufts(tmp_path / "faces")
    wanted = job("tufts", folder, rows_per_person=4)
    taken = {item.visible or item.thermal for item in list_items(wanted, list_files(wanted))}
    for name in list_files(wanted):
        if name not in taken:
            (folder / name).write_bytes(b"no picture")
    out = tmp_path / "set"
    uri = gather_set(str(folder), "tufts", str(out), rows_per_person=4)
    assert len(pq.read_table(out / "data")) == 8 and not (out / "rejects").exists()
    assert len(Halves(uri)) == 4
    # More of each is the same output, grown; of what was left out before, nothing can be read here. Fewer is refused.
    said = str(run({"layout": "tufts", "images": str(folder), "rows_per_person": 6}, str(out), local=True))
    assert "8 of 12 rows gathered" in said and "left out: 18 rows by --rows-per-person 6" in said
    with pytest.raises(UserError, match="a run can grow, not shrink"):
        gather_set(str(folder), "tufts", str(out), rows_per_person=2)


def test_lists_of_a_protocol_keep_who_enrols_and_who_asks(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = mcxface(tmp_path / "mcx")
    lists = folder / "protocols" / "VIS-THERMAL-split1"
    shutil.rmtree(folder / "protocols" / "VIS-NIR-split1")
    for k in range(5):
        for camera in ("color", "thermal"):
            picture(folder / "data" / camera / f"x_{k}.png", colour=camera == "color")
    (lists / "dev" / "for_models.csv").write_text("PATH,REFERENCE_ID\n" + "\n".join(f"color/x_{k},x" for k in range(4)))
    text(lists / "dev" / "for_probes.csv", "PATH,REFERENCE_ID\n" + "\n".join(f"thermal/x_{k},x" for k in range(5))
         + "\nthermal/gone 1,x\nthermal/gone 2,x")  # fmt: skip
    # Files that are not there are told as before, and who is left out by the list that names them.
    said = str(check_data(str(folder), rows_per_person=2))
    assert "2 no picture (first: validation/probe/thermal/gone 1" in said
    assert "left out    7 rows by --rows-per-person 2: validation model 3, validation probe 4" in said
    assert "lists       2 rows enrol (model), 2 ask (probe)" in said
    assert "--reader mcxface --rows-per-person 2 --out DIR" in said
    found = gather_set(str(folder), "mcxface", str(tmp_path / "set"), rows_per_person=2)
    assert "left out: 7 rows by --rows-per-person 2: validation model 3, validation probe 4" in capsys.readouterr().out
    rows = Halves(found, split="validation")
    assert len(rows) == 1 and rows.models is not None and len(rows.models) == 1
    assert Counter(Shards(found, ("split",), memory=0).values("split")) == {"train": 2, "validation": 2, "test": 2}


def test_a_check_says_how_to_take_fewer_of_very_many(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tufts(tmp_path)
    assert "--rows-per-person" not in str(check_data(str(folder)))
    monkeypatch.setattr("pipelines.readers.check.MANY", 15)
    assert "with --rows-per-person N fewer rows of each person are read: now up to 15" in str(check_data(str(folder)))
    assert "now up to" not in str(check_data(str(folder), "tufts", rows_per_person=15))
