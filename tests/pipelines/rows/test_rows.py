"""What our outputs hold: selections of one vocabulary, readable by `datasets`, documented as they are."""

import json

import pyarrow as pa
import pytest

from models.columns import COLUMNS, SPLITS, Column
from pipelines.rows import document
from pipelines.rows.encode import name_rendered
from pipelines.rows.ids import split_of
from pipelines.rows.schema import GATHERED, PICTURE, RECORD, WORLD, arrow_schema, arrow_type


@pytest.mark.parametrize("names", [WORLD, GATHERED, RECORD], ids=["world", "gathered", "record"])
def test_outputs_are_selections_of_the_vocabulary(names: tuple[str, ...]) -> None:
    found = arrow_schema(names)
    assert found.names == list(names) and len(set(names)) == len(names)
    assert found.field("visible").type == PICTURE and found.field("thermal").type == PICTURE
    assert found.field("landmarks_70").type == pa.list_(pa.float32(), 140)
    features = json.loads(found.metadata[b"huggingface"])["info"]["features"]
    assert features["visible"] == {"_type": "Image"} and features["view"] == {"dtype": "int32", "_type": "Value"}
    points = {"feature": {"dtype": "float32", "_type": "Value"}, "length": 956, "_type": "List"}
    assert features["landmarks_478"] == points


def test_every_column_of_a_file_has_a_type_and_a_list_of_no_length_has_none() -> None:
    on_the_way = {"seconds", "shrunk", "latents"}
    assert all(arrow_type(column) for name, column in COLUMNS.items() if name not in on_the_way)
    with pytest.raises(ValueError, match="a list of unknown length"):
        arrow_type(Column("float32", "of stages", ("stages",)))


def test_a_rendered_row_has_the_ids_of_its_picture() -> None:
    """Conditions share a sample; another view, domain or gap is another one; the world's splits are those of training."""
    one = name_rendered("field", 0.5, "generator", 100_007, 1, "warm", {"sex": "man"})
    assert (one["identity_id"], one["world_identity"], one["split"]) == ("100007", 100_007, "train")
    assert one["attributes_source"] == '{"sex": "rendered"}' and len(one["sample_id"]) == 20
    cold = name_rendered("field", 0.5, "generator", 100_007, 1, "cold", {})
    assert cold["sample_id"] == one["sample_id"] and cold["pair_id"] != one["pair_id"]
    others = [
        ("lab", 0.5, 100_007, 1),
        ("field", 1.0, 100_007, 1),
        ("field", 0.5, 100_008, 1),
        ("field", 0.5, 100_007, 2),
    ]
    ids = {name_rendered(d, gap, "judges", who, view, "warm", {})["sample_id"] for d, gap, who, view in others}
    assert len(ids | {one["sample_id"]}) == 5
    splits = {
        name: name_rendered("lab", 1, name, 0, 0, "warm", {})["split"] for name in ("judges", "validation", "test")
    }
    assert splits == {"judges": "train", "validation": "validation", "test": "test"}


def test_people_fall_into_splits_by_name() -> None:
    found = [split_of(str(person)) for person in range(2000)]
    assert set(found) == set(SPLITS) and 0.87 < found.count("train") / 2000 < 0.93


def test_the_page_about_rows_is_up_to_date() -> None:
    """After a change of columns: `python -m pipelines.rows.document`."""
    assert document.PATH.read_text(encoding="utf-8") == document.text()
    assert "| `thermal` | uint16 [S, S] | layer | cK | PNG of 16 bit |" in document.text()
