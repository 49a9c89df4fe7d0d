"""A run whose thermal part takes rooms in degrees and draws: its layers, marks and resumed bytes."""

from pathlib import Path

import pyarrow.parquet as pq
import pytest

from models.errors import UserError
from models.weights.bundle import load_bundle
from models.weights.store import seal
from pipelines.config.chain import resolve_chain
from tests.models.thermal.latent.tiny import write_part
from tests.pipelines import small


@pytest.fixture(scope="module")
def part(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A thermal latent diffusion with random weights."""
    folder = write_part(tmp_path_factory.mktemp("part"), 64)
    seal(folder)
    return folder


def edits(part: Path) -> list[str]:
    return ["thermal.kind=latent-diffusion", f"thermal.weights={part}", "thermal.licence=apache-2.0",
            "thermal.settings.steps=1"]  # fmt: skip


def test_a_room_in_degrees_is_a_layer_and_what_is_beyond_training_is_marked(part: Path, tmp_path: Path) -> None:
    job = small.job("identities.count=1", "gates={attempts: 1}", "conditions=[22.5, 55, any]", "samples=2")
    small.make_here(job, load_bundle("null", edits(part)), tmp_path)
    rows = pq.read_table(tmp_path / "data").to_pylist()
    first = [row for row in rows if row["sample_id"] == rows[0]["sample_id"]]
    assert [(row["condition"], row["thermal_draw"]) for row in first] == [
        ("22.5", 0), ("22.5", 1), ("55", 0), ("55", 1), ("any", 0), ("any", 1),
    ]  # fmt: skip
    assert [row["beyond_rooms"] for row in first] == [False, False, True, True, False, False]
    assert len({row["thermal"]["bytes"] for row in first}) == 6


def test_a_room_that_no_word_names_is_refused_before_the_run(part: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="it has: warm, cold, any, and rooms in degrees"):
        small.make_here(small.job("conditions=[damp]"), load_bundle("null", edits(part)), tmp_path)


def test_the_visible_stage_hands_its_latents_to_the_thermal_one(part: Path) -> None:
    bundle = load_bundle("starter", [*edits(part), "visible.options.latents=true"])
    layers = small.job("conditions=[warm, 4]").layers
    chain = resolve_chain(
        bundle, given=("noise_id", "embedding", "caption"), wanted=("thermal", "classes"), layers=layers
    )
    assert "reads visible, latents, latent_space from visible" in str(chain)
    assert "noise_id from source" in str(chain)
    # Not where they are switched off on either side.
    for off in ("visible.options.latents=false", "thermal.options.latents=false"):
        bundle = load_bundle("starter", [*edits(part), "visible.options.latents=true", off])
        again = resolve_chain(bundle, given=("noise_id", "embedding", "caption"), wanted=("thermal",), layers=layers)
        assert "latents" not in str(again.link("thermal").flow.reads_if_there if "thermal" in off else again)
