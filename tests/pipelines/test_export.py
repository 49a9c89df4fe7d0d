"""`export`: the same rows in tars and in folders of pictures, split by person, resumed partition by partition."""

import hashlib
import io
import json
import tarfile
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import yaml
from huggingface_hub import DatasetCardData
from pydantic import ValidationError

from models.errors import UserError
from models.weights.bundle import load_bundle
from pipelines import export
from pipelines.config.export import ExportJob
from pipelines.status import read_status
from pipelines.storage.uri import Storage
from tests.pipelines import small

JOB = ("identities.count=40", "views.per_identity=1", "gates={attempts: 1}", "partition_samples=16")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of the null bundle: 40 samples of as many people in three partitions."""
    out = tmp_path_factory.mktemp("export") / "out"
    small.finish(small.make_here(small.job(*JOB), load_bundle("null"), out))
    return out


def rows_of(made: Path) -> dict[str, dict[str, Any]]:
    return {row["pair_id"]: row for row in pq.read_table(made / "data").to_pylist()}


def read_tars(out: Path) -> dict[str, dict[str, bytes]]:
    """Return the files of each sample as a reader of WebDataset groups them: by what comes before the first dot."""
    found: dict[str, dict[str, bytes]] = {}
    for split, names in json.loads((out / "shards.json").read_text())["shards"].items():
        for name in names:
            assert name.startswith(f"{split}-")
            with tarfile.open(out / name) as tar:
                for entry in tar:
                    key, _, rest = entry.name.partition(".")
                    content = tar.extractfile(entry)
                    assert content is not None
                    found.setdefault(key, {})[rest] = content.read()
    return found


def test_tars_hold_every_row_once_with_its_pictures_as_they_were(made: Path, tmp_path: Path) -> None:
    summary = export.run(str(made), str(tmp_path / "tars"), "webdataset", local=True)
    rows, samples = rows_of(made), read_tars(tmp_path / "tars")
    assert samples.keys() == rows.keys() and sum(summary.rows.values()) == len(rows)
    for name, files in samples.items():
        facts, row = json.loads(files["json"]), rows[name]
        assert facts["split"] == row["split"] and facts["caption"] == row["caption"]
        assert facts["attributes"] == json.loads(row["attributes"])
        assert files["thermal.png"] == row["thermal"]["bytes"]
        assert files["visible.jpg"] == row["visible"]["bytes"]
        # Points are pairs, and what is not known is null.
        if "landmarks_70" in facts:
            assert len(facts["landmarks_70"]) == 70
        assert "NaN" not in files["json"].decode()
    # A person is in one split alone.
    splits: dict[str, set[str]] = {}
    for row in rows.values():
        splits.setdefault(row["identity_id"], set()).add(row["split"])
    assert all(len(one) == 1 for one in splits.values()) and len(summary.rows) > 1


def test_a_folder_of_pictures_has_a_line_for_each_row(made: Path, tmp_path: Path) -> None:
    export.run(str(made), str(tmp_path / "folder"), "images", local=True)
    rows, seen = rows_of(made), set[str]()
    for lines in sorted((tmp_path / "folder").glob("*/metadata.jsonl")):
        for line in lines.read_text().splitlines():
            facts = json.loads(line)
            assert facts["split"] == lines.parent.name
            assert (lines.parent / facts["visible_file_name"]).read_bytes() == rows[facts["pair_id"]]["visible"][
                "bytes"
            ]
            assert (lines.parent / facts["thermal_file_name"]).read_bytes() == rows[facts["pair_id"]]["thermal"][
                "bytes"
            ]
            seen.add(facts["pair_id"])
    assert seen == rows.keys()


def test_a_data_set_of_a_hub_has_a_shard_by_split_and_a_card_that_names_them(made: Path, tmp_path: Path) -> None:
    out = tmp_path / "hf"
    export.run(str(made), str(out), "hf", local=True)
    rows, seen = rows_of(made), dict[str, str]()
    for split in ("train", "validation", "test"):
        for path in sorted(out.glob(f"{split}-*.parquet")):
            table = pq.read_table(path)
            assert table.schema.metadata == pq.read_schema(next((made / "data").glob("*.parquet"))).metadata
            for row in table.to_pylist():
                assert row == rows[row["pair_id"]] and row["split"] == split
                seen[row["pair_id"]] = split
    assert seen.keys() == rows.keys() and len(set(seen.values())) > 1
    card = DatasetCardData(**yaml.safe_load((out / "README.md").read_text().split("---")[1]))
    (config,) = card.to_dict()["configs"]
    assert {one["split"]: one["path"] for one in config["data_files"]} == {
        split: f"{split}-*.parquet" for split in set(seen.values())
    }


@pytest.mark.slow
def test_datasets_loads_it_with_its_splits(made: Path, tmp_path: Path) -> None:
    from datasets import load_dataset

    export.run(str(made), str(tmp_path / "hf"), "hf", local=True)
    found = load_dataset(str(tmp_path / "hf"), cache_dir=str(tmp_path / "cache"))
    assert {row["pair_id"]: split for split, rows in found.items() for row in rows} == {
        name: row["split"] for name, row in rows_of(made).items()
    }
    assert found["train"][0]["thermal"].mode.startswith("I")


def test_only_the_splits_that_were_asked_for(made: Path, tmp_path: Path) -> None:
    summary = export.run(str(made), str(tmp_path / "train"), "webdataset", ["train"], local=True)
    wanted = {name for name, row in rows_of(made).items() if row["split"] == "train"}
    assert read_tars(tmp_path / "train").keys() == wanted and list(summary.rows) == ["train"]
    with pytest.raises(ValidationError, match="dev: choose of train, validation, test"):
        ExportJob(data="x", format="webdataset", splits=("dev",))


def test_what_was_lost_is_made_again_and_equal(made: Path, tmp_path: Path) -> None:
    out = tmp_path / "tars"
    export.run(str(made), str(out), "webdataset", local=True)
    before = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in out.glob("*.tar")}
    lost = next(out.glob("*-00001.tar"))
    lost.write_bytes(b"half")
    (out / "_commits" / "part-00001.json").unlink()
    (out / "manifest.json").unlink()
    assert read_status(str(out)).committed == 2
    export.run(str(made), str(out), "webdataset", local=True)
    assert {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in out.glob("*.tar")} == before
    found = read_status(str(out))
    assert (found.kind, found.state, found.done, found.samples) == ("export", "finished", 80, 80)


def test_what_cannot_be_exported_is_refused(made: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="holds no committed shard"):
        export.run(str(tmp_path), str(tmp_path / "out"), "images", local=True)
    with pytest.raises(UserError, match="is the output itself"):
        export.write_export_plan(ExportJob(data=Storage(made).uri, format="images"), Storage(made))
    export.run(str(made), str(tmp_path / "tars"), "webdataset", local=True)
    with pytest.raises(UserError, match="format|another"):
        export.run(str(made), str(tmp_path / "tars"), "images", local=True)


def test_a_tar_is_a_function_of_its_rows() -> None:
    sample = ("a", {"visible": ("jpg", b"picture")}, {"split": "train", "x": 1.5})
    (one,), (other,) = (export._tar("train", 3, [sample]) for _ in range(2))
    assert one == other and one[0] == "train-00003.tar"
    with tarfile.open(fileobj=io.BytesIO(one[1])) as tar:
        assert [(entry.name, entry.mtime, entry.uid) for entry in tar] == [("a.visible.jpg", 0, 0), ("a.json", 0, 0)]
