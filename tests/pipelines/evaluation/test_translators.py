"""`thermapair evaluate translation`: a small run on rendered people that goes on, its page, and people of one view."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import yaml

from models.attributes import ATTRIBUTES
from models.errors import UserError
from pipelines.evaluation import translators
from tests.pipelines import worlds


@pytest.fixture
def bundle(tmp_path: Path) -> str:
    path = tmp_path / "bundle.yaml"
    path.write_text(yaml.safe_dump({"name": "small", "size": 32, "parts": {"translate": {"kind": "null", "batch": 4}}}))
    return str(path)


@pytest.fixture
def judged(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stand in for the judges: a person is a picture's thumb, its words are always the first."""
    judges = SimpleNamespace(
        judge_attributes=lambda pictures: {
            n: np.eye(len(w))[[0] * len(pictures)] for n, (_, _, w) in ATTRIBUTES.items()
        },
        describe=lambda pictures: pictures[:, ::8, ::8].reshape(len(pictures), -1).astype(np.float32),
    )
    monkeypatch.setattr(translators, "load_judges", lambda folder: judges)

    def embed(bench: Any, pictures: np.ndarray, points: np.ndarray) -> np.ndarray:
        return pictures[:, ::4, ::4].reshape(len(pictures), -1) / 255 - 0.5

    monkeypatch.setattr(translators.Bench, "_embed", embed)


def test_a_run_is_measured_once_and_said_on_a_page(
    rendered: list[pa.Table], bundle: str, judged: None, tmp_path: Path
) -> None:
    data, out = worlds.write(tmp_path / "data", rendered), tmp_path / "out"
    found = translators.run(out, data, bundle, ["people=2", "together=1"])
    assert [row["row"] for row in found["identity"]] == ["raw probe", "Self-attn Mamba", "true visible"]
    page = (out / "tables.md").read_text()
    assert "2 people of" in page and "4 probes of views" in page and "| true visible | 1 | " in page
    assert "Not measured (no translator was named, or not yet): regression U-Net" in page
    # More people go on from there.
    lines = (out / "ledger.jsonl").read_text()
    more = translators.run(out, data, bundle, ["people=4", "together=1"])
    assert (out / "ledger.jsonl").read_text().startswith(lines) and len(
        (out / "ledger.jsonl").read_text().splitlines()
    ) == 12
    assert more["pictures"][1]["diversity"]["value"] > 0 and "diversity" not in more["pictures"][0]
    # What was kept of a part and is gone is measured again.
    next((out / "work").glob("*.npz")).unlink()
    assert translators.run(out, data, bundle, ["people=4", "together=1"]) == more


def test_people_need_two_views(rendered: list[pa.Table], bundle: str, tmp_path: Path) -> None:
    place = rendered[0].column_names.index("identity_id")
    alone = [block.set_column(place, "identity_id", block["sample_id"]) for block in rendered]  # everybody has one
    with pytest.raises(UserError, match="two views"):
        translators.run(tmp_path / "out", worlds.write(tmp_path / "data", alone), bundle)
