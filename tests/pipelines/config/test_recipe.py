"""Recipe and extent: what makes a run another one, what does not, and the layers that both speak of."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from models.errors import EnvironmentFault, UserError
from models.layers import parse_condition
from models.stages import STAGES
from models.thermal.unet.network import ThermalConfig, new_thermalizer, save_thermalizer
from models.unet import UNetConfig
from models.weights.bundle import Bundle, licence_of, load_bundle
from models.weights.store import seal
from pipelines import inspect
from pipelines.config.captions import Captions
from pipelines.config.generate import chain_for, parts_in_use, recipe_for
from pipelines.config.job import GenerateJob
from pipelines.config.recipe import VERSION, caption_recipe
from pipelines.config.request import check_request
from pipelines.pictures.codecs import decode
from pipelines.plan.chains import read_chain
from pipelines.plan.claim import RUN
from pipelines.plan.extend import write_generate_plan
from pipelines.plan.generate import GeneratePlan, read_generate_plan
from pipelines.report.card import render_card
from pipelines.storage.uri import Storage
from tests.pipelines import small, small_stages

Job = Callable[..., GenerateJob]


class Patient(small_stages.Visible):
    """The small painter of a later version, whose default has changed."""

    class Settings(small_stages.Visible.Settings):
        """Twice the steps."""

        steps: int = 8


def digest(job: GenerateJob, bundle: Bundle) -> str:
    return recipe_for(job, bundle, chain_for(job, bundle)).digest


def test_a_file_of_people_is_the_same_by_any_path_to_it(
    bundle: Bundle, job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    near, far = (job(f"identities={{source: {place}}}") for place in ("people.parquet", f"{tmp_path}/people.parquet"))
    assert digest(near, bundle) == digest(far, bundle) != digest(job("identities={source: other.parquet}"), bundle)


def test_a_changed_default_cannot_slip_into_a_run(
    bundle: Bundle, job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = write_generate_plan(job(), bundle, Storage(tmp_path / "out"))
    monkeypatch.setitem(STAGES["visible"], small_stages.KIND, f"{__name__}:Patient")
    with pytest.raises(
        UserError, match=r"what differs: stages\.visible\.settings\.steps: 4 -> 8\. Choose another --out"
    ):
        write_generate_plan(job(), bundle, plan.out)
    # Said by the job or by the part it is the same run; and what was made is made again as it was.
    assert write_generate_plan(job("settings.visible.steps=4"), bundle, plan.out).digest == plan.digest
    part = load_bundle(f"{bundle.folder}/bundle.yaml", ["visible.settings.steps=4"])
    assert write_generate_plan(job(), part, plan.out).digest == plan.digest
    assert read_generate_plan(plan.out).chain.link("visible").settings.model_dump()["steps"] == 4


@pytest.mark.parametrize(
    ("edits", "told"),
    [
        (["seed=4"], "seed: 3 -> 4"),
        (["views.per_identity=5"], "source.views.per_identity: 4 -> 5"),
        (["identities.minimum_angle=51"], "source.identities.minimum_angle: 50.0 -> 51.0"),
        (["conditions=[cold]"], "layers: "),
        (["gates.identity=0.3"], "stages.gates.settings.identity: 0.35 -> 0.3"),
        (["settings.visible.steps=5"], "stages.visible.settings.steps: 4 -> 5"),
        (["encoding.visible=png"], "encoding.visible: jpeg -> png"),
        (["partition_samples=4"], "partition: 2 -> 1"),
        (["captions=llm"], "captions.source: template -> llm"),
    ],
)
def test_what_may_change_a_byte_makes_another_run(
    edits: list[str], told: str, bundle: Bundle, job: Job, tmp_path: Path
) -> None:
    out = Storage(tmp_path / "out")
    write_generate_plan(job(), bundle, out)
    with pytest.raises(UserError, match="belongs to another run; what differs: ") as error:
        write_generate_plan(job(*edits), bundle, out)
    assert told in str(error.value)


@pytest.mark.parametrize("edit", ["visible.options.wait=0.001", "visible.batch=2", "visible.redraw_batch=2"])
def test_options_and_batches_of_a_part_are_of_the_recipe(edit: str, bundle: Bundle, job: Job) -> None:
    assert digest(job(), load_bundle(f"{bundle.folder}/bundle.yaml", [edit])) != digest(job(), bundle)


def test_other_weights_make_another_run(bundle: Bundle, job: Job) -> None:
    before, weights = digest(job(), bundle), Path(bundle.folder, "parser")
    (weights / "weights.bin").write_bytes(b"another")
    seal(weights)
    assert digest(job(), bundle) != before


def test_how_much_is_made_is_in_no_digest_and_in_no_row(bundle: Bundle, job: Job, tmp_path: Path) -> None:
    """Nor is the run's name, nor when it would have stopped."""
    first = small.make_here(job(), bundle, tmp_path / "first")
    extent = "name=another", "description=words", "limit=14", "stop.first_samples=9", "identities.count=5"
    other = small.make_here(job(*extent), bundle, tmp_path / "other")
    assert other.digest == first.digest
    assert other.recipe == first.recipe
    (one, _), (two, _) = (sorted(small.shards(tmp_path / name).items())[:2] for name in ("first", "other"))
    assert one == two
    wait = load_bundle(f"{bundle.folder}/bundle.yaml", ["name=renamed", "description=other"])
    assert digest(job(), wait) == first.digest


@pytest.mark.parametrize("before", [{}, {"recipe": {"version": 1}}])
def test_an_output_of_an_older_layout_is_refused_with_what_to_do(
    before: dict[str, object], bundle: Bundle, job: Job, tmp_path: Path
) -> None:
    plan = write_generate_plan(job(), bundle, Storage(tmp_path / "out"))
    old = {"digest": "0123456789abcdef", "partitions": 3, "samples": 24, "job": {"kind": "generate"}, **before}
    plan.out.write("_plan/run.json", json.dumps(old).encode())
    with pytest.raises(UserError, match=r"made by another version \(layout 1, this is 3\): go on with the version that began "
                                        r"it, or choose another --out"):  # fmt: skip
        write_generate_plan(job(), bundle, plan.out)
    with pytest.raises(UserError, match="made by another version: read it with the version that made it"):
        read_generate_plan(plan.out)


@pytest.mark.parametrize(
    "damage", [{"recipe": None}, {"recipe": {"version": VERSION, "stages": [{"part": "x"}]}}, {"recipe": []}]
)
def test_a_recipe_that_is_damaged_is_named(damage: dict[str, object], bundle: Bundle, job: Job, tmp_path: Path) -> None:
    out = write_generate_plan(job(), bundle, Storage(tmp_path / "out")).out
    out.write(RUN, json.dumps(json.loads(out.read(RUN)) | damage).encode())
    for read in (
        lambda: write_generate_plan(job(), bundle, out),
        lambda: read_generate_plan(out),
        lambda: read_chain(out),
    ):
        with pytest.raises(EnvironmentFault, match="run.json is damaged: without it nothing tells what this output is"):
            read()


def test_a_recipe_with_values_that_are_none_is_damaged(bundle: Bundle, job: Job, tmp_path: Path) -> None:
    out = write_generate_plan(job(), bundle, Storage(tmp_path / "out")).out
    run = json.loads(out.read(RUN))
    run["recipe"]["size"] = "large"
    out.write(RUN, json.dumps(run).encode())
    with pytest.raises(EnvironmentFault, match="run.json is damaged"):
        read_generate_plan(out)


def test_the_licence_is_that_of_the_parts_in_use(bundle: Bundle, job: Job, tmp_path: Path) -> None:
    """Neither a second part nor a language model that nobody asks for is in the rows, the card or what is fetched."""
    strict = {"weights": str(tmp_path / "nowhere"), "licence": "research-only"}
    both = small.with_part(bundle, "other", stage="faces", kind=small_stages.KIND, **strict)
    both = small.with_part(both, "captions", kind="vllm", **strict)
    plan = small.make_here(job("parts.faces=faces", "limit=4"), both, tmp_path / "out")
    assert set(parts_in_use(plan.job, both, plan.chain)) == {"visible", "parser", "thermal", "faces", "gates"}
    assert plan.recipe.licence == "apache-2.0"
    assert "research-only" not in render_card(plan, 8, rejects=False, sheet=True)
    rows = pq.read_table(tmp_path / "out" / "data", columns=["licence"])
    assert set(rows["licence"].to_pylist()) == {"apache-2.0"}
    written = parts_in_use(job("parts.faces=faces", "captions=llm"), both, plan.chain)
    assert licence_of(written.values()) == "research-only"


def test_of_two_parts_of_captions_a_job_says_which(bundle: Bundle, job: Job) -> None:
    both = small.with_part(bundle, "grammar", stage="captions", kind="template")
    with pytest.raises(UserError, match="say which, as in --set parts.captions=captions"):
        check_request(job("captions=llm"), both, small.profile())
    assert check_request(job(), both, small.profile()), "templates need no part"
    chosen = job("captions=llm", "parts.captions=grammar")
    request = check_request(chosen, both, small.profile())
    assert recipe_for(chosen, both, request.chain).captions == {"source": "llm"}
    chosen = job("captions=llm", "parts.captions=captions")
    assert recipe_for(chosen, both, check_request(chosen, both, small.profile()).chain).captions["kind"] == "vllm"
    with pytest.raises(UserError, match="no part 'third' of this stage; it has: captions, grammar"):
        check_request(job("parts.captions=third"), both, small.profile())


def test_one_condition_has_one_name(job: Job, tmp_path: Path) -> None:
    assert {parse_condition(value) for value in (22, 22.0, "22", " 22.00 ")} == {"22"}
    assert parse_condition(-0.0) == "0" and parse_condition("warm") == "warm" and parse_condition(22.5) == "22.5"
    null = load_bundle("null")
    runs = [digest(job(f"conditions=[{text}]"), null) for text in ("22", "22.0", "'22'", "21.999")]
    assert len({*runs[:3]}) == 1 and runs[3] != runs[0]
    for text, message in (
        ("22, '22.0'", "name one or more different conditions"),
        ("", "name one or more different conditions"),
        ("Warm", "neither a word in lower case nor degrees Celsius"),
        ("99", "a room of -60 to 80 degrees Celsius"),
        ("true", "condition"),
    ):
        with pytest.raises(UserError, match=message):
            job(f"conditions=[{text}]")


@pytest.fixture
def layered(job: Job, tmp_path: Path) -> GeneratePlan:
    """Two people in the warm and in a room of 22.5 degrees, each drawn twice, without models."""
    edits = "conditions=[warm, 22.5]", "samples=2", "identities.count=2", "gates.attempts=1"
    return small.make_here(job(*edits), load_bundle("null"), tmp_path / "layers")


def test_layers_are_rows_with_ids_noise_and_scores_of_their_own(layered: GeneratePlan) -> None:
    rows = pq.read_table(Path(layered.out.uri, "data")).to_pylist()
    assert len(rows) == len({row["pair_id"] for row in rows}) == 32
    sample = [row for row in rows if row["sample_id"] == rows[0]["sample_id"]]
    assert [(row["condition"], row["thermal_draw"]) for row in sample] == [
        ("warm", 0), ("warm", 1), ("22.5", 0), ("22.5", 1),
    ]  # fmt: skip
    pictures = [decode(row["thermal"]["bytes"]).astype(int) for row in sample]
    assert all(np.abs(one - other).max() > 0 for k, one in enumerate(pictures) for other in pictures[:k])
    assert np.abs(pictures[0] - pictures[1]).max() < 100  # the same face in other noise, not another face
    assert len({row["visible"]["bytes"] for row in sample}) == 1
    names = ("warm", "warm.1", "22.5", "22.5.1")
    scores = json.loads(sample[0]["scores"])
    assert set(scores) >= {f"{kind}_{name}" for kind in ("celsius", "clipped") for name in names}
    assert scores["celsius_warm"] == pytest.approx(34, abs=0.5) and scores["celsius_22.5"] == pytest.approx(
        32.6, abs=0.5
    )


def test_a_layer_is_made_again_from_its_provenance(layered: GeneratePlan) -> None:
    rows = pq.read_table(Path(layered.out.uri, "data")).to_pylist()
    for row in rows[:4]:
        result = inspect.run(layered.out.uri, row["pair_id"])
        assert result is not None and result.same


def test_layers_that_were_there_keep_their_pairs(job: Job, tmp_path: Path, layered: GeneratePlan) -> None:
    """A condition or a draw more changes no pair of those that were asked for before."""
    edits = "conditions=[cold, warm]", "samples=3", "identities.count=2", "gates.attempts=1"
    small.make_here(job(*edits), load_bundle("null"), tmp_path / "more")
    drop = ["provenance", "scores"]
    few, more = (
        {row["pair_id"]: row for row in pq.read_table(folder).drop(drop).to_pylist()}
        for folder in (Path(layered.out.uri, "data"), tmp_path / "more" / "data")
    )
    warm = [name for name, row in few.items() if row["condition"] == "warm"]
    assert len(warm) == 16 and all(few[name] == more[name] for name in warm)


def test_gates_hold_every_layer_by_its_name(job: Job, tmp_path: Path) -> None:
    edits = "conditions=[warm, 22.5]", "samples=2", "identities.count=1", "gates.attempts=1", "gates.celsius=[33, 40]"
    small.make_here(job(*edits), load_bundle("null"), tmp_path / "out")
    rejects = pq.read_table(tmp_path / "out" / "rejects").to_pylist()
    assert len(rejects) == 16
    assert all(
        row["reject"].startswith("face temperature in 22.5 out of range: 32.6 degC, 33.0 to 40.0") for row in rejects
    )


def test_a_thermalizer_of_a_third_condition_makes_it(bundle: Bundle, job: Job, tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = new_thermalizer(
        ThermalConfig(conditions=("warm", "cold", "sauna")), UNetConfig(width=8, blocks=(1, 1, 1, 1))
    )
    save_thermalizer(network, tmp_path / "mine")
    seal(tmp_path / "mine")
    own = small.with_part(bundle, "thermal", kind="unet", weights=str(tmp_path / "mine"), licence="cc-by-nc-4.0")
    edits = "identities.count=1", "gates.celsius=[-50, 90]", "gates.clipped=1", "conditions=[cold, sauna]"
    small.make_here(job(*edits), own, tmp_path / "out")
    rows = pq.read_table(tmp_path / "out" / "data").to_pylist()
    assert {row["condition"] for row in rows} == {"cold", "sauna"} and {row["licence"] for row in rows} == {
        "cc-by-nc-4.0"
    }
    by = {(row["sample_id"], row["condition"]): decode(row["thermal"]["bytes"]) for row in rows}
    assert all((by[row["sample_id"], "cold"] != by[row["sample_id"], "sauna"]).any() for row in rows)


def test_captions_are_written_with_what_may_change_them_and_no_more() -> None:
    """Of a server its address, model and options; how it is asked, and by which key, changes no word."""
    assert caption_recipe(None, "", Captions(backend="template")) == {"source": "template"}
    asked = {"url": "https://host/v1/", "model": "m", "key": "KEY", "concurrency": 2, "options": {"temperature": 0.5}}
    found = caption_recipe(None, "", Captions(backend="chat", **asked))
    assert set(found) == {"source", "url", "model", "options"}
    assert (found["source"], found["url"], found["model"]) == ("chat", "https://host/v1", "m")
    assert found["options"]["temperature"] == 0.5
    # What else is written, and how: in the recipe as soon as it is not the default.
    assert caption_recipe(None, "", Captions(backend="template", also="a scar")) == {
        "source": "template", "mode": "describe", "also": "a scar"
    }  # fmt: skip
    invented = caption_recipe(None, "", Captions(backend="chat", mode="invent", **asked))
    assert (invented["mode"], invented["also"]) == ("invent", "")
