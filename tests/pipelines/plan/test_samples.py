"""The plan: what is drawn for whom, in which order, and how configuration that cannot be is refused."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from models.attributes import ATTRIBUTES
from models.captions.phrases import UNSAID
from models.captions.reading import disagreements, read_attributes
from models.config import sort_edits
from models.errors import EnvironmentFault, UserError
from models.faces.pack import recogniser_digest
from models.weights.bundle import Bundle, load_bundle
from pipelines.config import generate
from pipelines.config.generate import chain_for, identities_per_partition, sample_bytes
from pipelines.config.job import GenerateJob, load_job
from pipelines.config.profile import Profile, load_profile
from pipelines.config.request import check_request, load_request
from pipelines.plan.extend import write_generate_plan
from pipelines.plan.generate import read_generate_plan
from pipelines.plan.people.given import GivenPeople
from pipelines.plan.people.identities import RECOGNISER, Identity, Reference
from pipelines.plan.people.sampling import sample_people
from pipelines.storage.uri import Storage
from tests.pipelines import small
from tests.pipelines.small_stages import SIZE

Job = Callable[..., GenerateJob]


def test_a_larger_plan_begins_with_the_same_samples(bundle: Bundle, job: Job, tmp_path: Path) -> None:
    few = write_generate_plan(job(), bundle, Storage(tmp_path / "few"))
    more = write_generate_plan(job("identities.count=9", "seed=3"), bundle, Storage(tmp_path / "more"))
    for k in range(few.partitions):
        assert few.sample_table(k) == more.sample_table(k)
        assert few.identity_table(k) == more.identity_table(k)


def test_views_and_draws_are_added_without_changing_the_ids_that_were_there(
    bundle: Bundle, job: Job, tmp_path: Path
) -> None:
    def ids(name: str, *edits: str) -> set[str]:
        plan = write_generate_plan(job(*edits), bundle, Storage(tmp_path / name))
        return {i for k in range(plan.partitions) for i in plan.sample_table(k)["sample_id"].to_pylist()}

    few = ids("few")
    assert few < ids("views", "views.per_identity=6")
    assert few < ids("draws", "views.draws=2")
    assert few == ids("asked", "settings.visible.steps=3", "conditions=[warm]", "gates.attempts=1")
    assert not few & ids("seed", "seed=4")


def test_identity_words_are_constant_and_agree_with_the_embedding(bundle: Bundle, job: Job, tmp_path: Path) -> None:
    plan = write_generate_plan(job(), bundle, Storage(tmp_path / "out"))
    reference = Reference.of(bundle)
    words: dict[str, set[tuple[str, ...]]] = {}
    for k in range(plan.partitions):
        people = {row["identity_id"]: row for row in plan.identity_table(k).to_pylist()}
        for row in plan.sample_table(k).to_pylist():
            drawn = json.loads(row["attributes"])
            assert all(word in ATTRIBUTES[name][2] for name, word in drawn.items())
            assert drawn["sex"] == reference.words(np.array(people[row["identity_id"]]["embedding"]))["sex"]
            constant = tuple(drawn[name] for name in ATTRIBUTES if ATTRIBUTES[name][0] == "identity")
            words.setdefault(row["identity_id"], set()).add(constant)
    assert len(words) == 6
    assert all(len(found) == 1 for found in words.values())


def test_a_job_may_choose_its_words(bundle: Bundle, job: Job, tmp_path: Path) -> None:
    plan = write_generate_plan(
        job("views.attributes={glasses: clear, pose: [frontal]}"), bundle, Storage(tmp_path / "out")
    )
    drawn = [json.loads(text) for text in plan.sample_table(0)["attributes"].to_pylist()]
    assert {(words["glasses"], words["pose"]) for words in drawn} == {("clear", "frontal")}


def test_people_share_a_partition_and_fill_batches(bundle: Bundle, job: Job) -> None:
    def people(*edits: str) -> int:
        return identities_per_partition(job(*edits), bundle, chain_for(job(*edits), bundle))

    assert people() == 2
    assert people("partition_samples=1") == 1
    assert people("views.per_identity=3", "partition_samples=64") == 20
    assert people("views.per_identity=6", "partition_samples=42") == 6  # two people of six fill three batches of four


def test_a_partition_keeps_to_what_its_columns_may_take(
    bundle: Bundle, job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Layers and attempts are columns, too."""

    def people(*edits: str) -> int:
        wanted = job("partition_samples=4096", "views.per_identity=1", *edits)
        return identities_per_partition(wanted, bundle, chain_for(wanted, bundle))

    monkeypatch.setattr(generate, "PARTITION_BYTES", 2**20)
    few = people()
    assert 4 <= few < people("conditions=[warm]") < people("conditions=[warm]", "gates.attempts=1")
    # At least one person; no more than the samples that are asked for; what is beside pixels counts little.
    monkeypatch.setattr(generate, "PARTITION_BYTES", 1)
    assert people() == 1
    monkeypatch.setattr(generate, "PARTITION_BYTES", 2**40)
    assert people() == 4096
    pixels = SIZE**2 * (3 + 1 + 2 * 2)
    wanted = job()
    each = sample_bytes(wanted, bundle, chain_for(wanted, bundle)) / wanted.gates.attempts
    assert pixels < each < pixels + 6000


def test_sampled_identities_keep_their_distance_and_their_order(bundle: Bundle) -> None:
    reference = Reference.of(bundle)
    people = sample_people(reference, 40, 70, seed=0)
    cosines = np.array([a for _, a in people]) @ np.array([a for _, a in people]).T
    assert np.degrees(np.arccos(np.clip(cosines[~np.eye(40, dtype=bool)].max(), -1, 1))) >= 70
    assert [name for name, _ in sample_people(reference, 5, 70, seed=0)] == [name for name, _ in people[:5]]
    with pytest.raises(UserError, match=r"only \d+ of 500 identities are 89 degrees apart.*Lower"):
        sample_people(reference, 500, 89, seed=0)


def table(ids: list[str], embeddings: list[list[float]], **columns: list[str]) -> pa.Table:
    return pa.table({"identity_id": ids, "embedding": embeddings, **columns})


def everyone(people: GivenPeople) -> list[Identity]:
    return [person for block in people.blocks(0, len(people)) for person in block]


GOOD = [0.5] * 512


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            table(["a", "b"], [GOOD, [1.0] * 100]),
            r"identity 'b' \(row 1\): its embedding has 100 values instead of 512",
        ),
        (table(["a"], [[float("nan")] * 512]), r"identity 'a' \(row 0\).*not finite"),
        (table(["a"], [[0.0] * 512]), r"identity 'a' \(row 0\).*length zero"),
        (table(["a", "a"], [GOOD, GOOD]), r"identity 'a' stands twice"),
        (table(["a"], [GOOD], attributes=['{"sex": "robot"}']), r"identity 'a'.*robot"),
        (table(["a"], [GOOD], attributes=[["sex"]]), r"identity 'a'.*not a JSON object"),
        (pa.table({"identity_id": ["a"], "embedding": ["x"]}), r"identity 'a' \(row 0\).*does not hold 512 numbers"),
        (pa.table({"identity_id": ["a"], "embedding": [["x"] * 512]}), r"identity 'a' \(row 0\).*512 numbers"),
        (pa.table({"identity_id": pa.array([None], pa.string()), "embedding": [GOOD]}), r"row 0 has no identity_id"),
        (pa.table({"identity_id": ["a"]}), r"no column 'embedding'"),
    ],
)
def test_embeddings_that_cannot_be_are_named(content: pa.Table, message: str, tmp_path: Path) -> None:
    pq.write_table(content, tmp_path / "people.parquet")
    with pytest.raises(UserError, match=message):
        GivenPeople(str(tmp_path / "people.parquet"))


def test_people_from_a_file_bring_their_words(bundle: Bundle, job: Job, tmp_path: Path) -> None:
    random = np.random.default_rng(0).normal(size=(3, 512)).tolist()
    given = table(
        ["a", "b", "c"], random, attributes=['{"sex": "man", "pose": "frontal"}', "", None], reason=["", "", "no face"]
    )
    pq.write_table(given, tmp_path / "people.parquet")
    plan = write_generate_plan(
        job(f"identities={{source: {tmp_path}/people.parquet}}"), bundle, Storage(tmp_path / "out")
    )
    assert plan.samples == 8
    rows = plan.sample_table(0).to_pylist()
    assert {json.loads(row["attributes"])["sex"] for row in rows[:4]} == {"man"}
    assert {json.loads(row["attributes_source"])["sex"] for row in rows[:4]} == {"given"}
    assert {json.loads(row["attributes_source"])["sex"] for row in rows[4:]} == {
        "estimated"
    }  # by a probe of the embedding
    with pytest.raises(UserError, match="holds 2 identities, 5 were asked for"):
        GivenPeople(str(tmp_path / "people.parquet"), 5)


def test_of_a_person_who_exists_nothing_is_drawn_that_nobody_knows(job: Job, tmp_path: Path) -> None:
    """Neither what they look like nor how they wear their hair; the caption says what the picture is to show, and no more."""
    people = table(["a", "b"], np.random.default_rng(0).normal(size=(2, 512)).tolist())
    pq.write_table(people, tmp_path / "people.parquet")
    known = job(f"identities={{source: {tmp_path}/people.parquet}}")
    plan = small.make_here(known, load_bundle("null"), tmp_path / "out")
    theirs = {name for name, (scope, _, _) in ATTRIBUTES.items() if scope == "identity"} | {"hair_style", "beard"}
    rows = pq.read_table(tmp_path / "out" / "data").to_pylist()
    assert len(rows) == 16
    for row in rows:
        words, sources = json.loads(row["attributes"]), json.loads(row["attributes_source"])
        assert set(words) == set(ATTRIBUTES) - theirs
        assert {name for name, source in sources.items() if source == "none"} == theirs
        said = read_attributes(row["caption"])
        assert not {name for name, word in said.items() if name in theirs and word != UNSAID}, row["caption"]
        assert disagreements(row["caption"], words) == {}
    asked = job(f"identities={{source: {tmp_path}/people.parquet}}", "views.attributes={beard: full}")
    plan = write_generate_plan(asked, load_bundle("null"), Storage(tmp_path / "asked"))
    row = plan.sample_table(0).to_pylist()[0]
    assert json.loads(row["attributes"])["beard"] == "full" and json.loads(row["attributes_source"])["beard"] == "asked"


def test_embeddings_of_any_scale_and_words_of_any_type_are_taken(tmp_path: Path) -> None:
    direction = np.random.default_rng(0).normal(size=512).astype(np.float32)
    words = pa.array([[("sex", "woman")], None], pa.map_(pa.string(), pa.string()))
    for attributes in (words, [{"sex": "woman", "age": None}, None]):
        both = [direction, direction * np.float32(1e25)]
        content = pa.table({"identity_id": ["a", "b"], "embedding": list(both), "attributes": attributes})
        pq.write_table(content, tmp_path / "people.parquet")
        small_, huge = everyone(GivenPeople(str(tmp_path / "people.parquet")))
        assert (small_.given, huge.given) == ({"sex": "woman"}, {})
        assert float(small_.embedding @ huge.embedding) == pytest.approx(1)


def test_embeddings_of_another_recogniser_are_refused(tmp_path: Path) -> None:
    starter = load_bundle("starter")
    here = recogniser_digest(starter.main("faces"))
    for recogniser, name in ((here, "same"), ("0" * 16, "other")):
        content = table(["a"], [GOOD]).replace_schema_metadata({"bundle": "theirs", RECOGNISER: recogniser})
        pq.write_table(content, tmp_path / f"{name}.parquet")
    assert len(GivenPeople(str(tmp_path / "same.parquet"), None, starter)) == 1
    with pytest.raises(UserError, match="with bundle theirs.*Embed the pictures again with --bundle starter"):
        GivenPeople(str(tmp_path / "other.parquet"), None, starter)


def test_an_output_of_something_else_is_left_alone(bundle: Bundle, job: Job, tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("precious")
    with pytest.raises(UserError, match="not empty"):
        write_generate_plan(job(), bundle, Storage(tmp_path))


def test_what_differs_from_the_run_that_is_there_is_told_and_nothing_else(
    bundle: Bundle, job: Job, tmp_path: Path
) -> None:
    write_generate_plan(job(), bundle, Storage(tmp_path / "out"))
    with pytest.raises(UserError, match=r"; what differs: seed: 3 -> 4\. Choose"):
        write_generate_plan(job("seed=4"), bundle, Storage(tmp_path / "out"))


@pytest.mark.parametrize("content", ['{"digest": "0', "{}", "[]", '{"digest": "0", "partitions": 1, "job": []}'])
def test_a_damaged_plan_names_itself_and_the_way_out(content: str, bundle: Bundle, job: Job, tmp_path: Path) -> None:
    plan = write_generate_plan(job(), bundle, Storage(tmp_path / "out"))
    plan.out.write("_plan/run.json", content.encode())
    for again in (lambda: write_generate_plan(job(), bundle, plan.out), lambda: read_generate_plan(plan.out)):
        with pytest.raises(EnvironmentFault, match=r"run\.json is damaged.*another --out"):
            again()


@pytest.mark.parametrize(
    ("edits", "message"),
    [
        (["identities.cuont=1"], "identities.cuont: unknown key; known here: count, minimum_angle, sampling, source"),
        (["samples=many"], "samples: Input should be a valid integer"),
        (["conditions=[warm, warm]"], "conditions"),
        (["views.attributes={hat: none}"], "no attribute 'hat'"),
        (["views.attributes={glasses: pink}"], "glasses takes none, clear, opaque; not pink"),
        (["identities.count=null"], "identities.count is needed"),
        (["seed.x=1"], "seed is a single value"),
        (["conditions.0=warm"], r"conditions is a list: give it whole, as in --set 'conditions=\[...\]'"),
        (["seed"], "write it as key=value"),
    ],
)
def test_a_job_that_cannot_be_is_refused_by_key(edits: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        load_job("demo", edits)


def test_a_job_that_is_no_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "job.yaml").write_bytes(b"\xff\xfe\x00name")
    with pytest.raises(UserError, match="job.yaml is no text"):
        load_job(str(tmp_path / "job.yaml"))


def test_a_limit_is_an_edit_of_the_job() -> None:
    assert load_request("null", "laptop", "pairs", limit=3).job.limit == 3
    assert load_request("null", "laptop", "pairs", ["limit=5"]).job.limit == 5
    assert load_request("null", "laptop", "pairs").job.limit == load_job("pairs").limit


def test_edits_find_their_file() -> None:
    edits = ["identities.count=3", "profile.writer.tasks=9", "groups=[]", "bundle.name=x", "job.name=y"]
    sorted_ = sort_edits(edits, {"job": GenerateJob, "profile": Profile, "bundle": Bundle})
    assert sorted_ == {
        "job": ["identities.count=3", "name=y"],
        "profile": ["writer.tasks=9", "groups=[]"],
        "bundle": ["name=x"],
    }
    with pytest.raises(UserError, match="no file has a key 'colour'"):
        sort_edits(["colour=red"], {"job": GenerateJob})


def test_the_files_of_the_repository_load() -> None:
    for name in ("demo", "pairs"):
        load_job(name)
    stages = ("visible", "parser", "thermal", "faces", "gates")
    for name in ("laptop", "gpu", "cluster"):
        assert [s for group in load_profile(name).assign(stages) for s in group.stages] == list(stages)
    with pytest.raises(UserError, match="no profile 'desktop': name one of cluster, gpu, laptop"):
        load_profile("desktop")


def test_a_new_stage_joins_the_group_before_it() -> None:
    profile = small.profile("groups=[{stages: [visible, parser]}, {stages: [faces]}]")
    chain = ("visible", "parser", "landmarks", "faces")
    assert [group.stages for group in profile.assign(chain)] == [["visible", "parser", "landmarks"], ["faces"]]
    with pytest.raises(UserError, match="groups: no stage 'visibel'; known: portrait, visible, parser"):
        small.profile("groups=[{stages: [visibel]}]")


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        ("visible.options.foo=1", r"small: visible.options.foo: unknown key; known here: wait"),
        ("visible.options.steps=3", r"small: visible.options.steps: unknown key"),  # a setting
        ("visible.settings.wait=3", r"small: visible.settings.wait: unknown key; known here: steps$"),  # an option
        ("visible.settings.size=64", r"small: visible.settings.size: the job says it, not the part"),
        ("visible.weights={unet: visible}", r"weights.unet: kind small has no such weights; known here: model"),
        ("visible.weights={}", r"small: visible.weights: kind small needs model"),
        ("parser.kind=nonsense", r"parser.kind: no kind 'nonsense' of stage parser; known: unet, null, small"),
        ("parser.stage=painter", r"parser.stage: no stage 'painter'; known: portrait, visible, parser, .*captions"),
        ("parser.licence=", r"weights model: no licence is named"),
        ("size=100", r"size: Input should be a multiple of 32"),
        ("captions.kind=parrot", r"captions.kind: no kind 'parrot' of captions; known: vllm, template"),
        ("captions.options.heat=1", r"captions.options.heat: unknown key"),
    ],
)
def test_a_bundle_that_no_stage_takes_is_refused_before_anything_starts(
    edit: str, message: str, bundle: Bundle, job: Job, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=message):
        check_request(job(), load_bundle(str(tmp_path / "bundle" / "bundle.yaml"), [edit]), small.profile())


def test_a_bundle_nobody_knows(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no bundle 'nobody': name one of .*starter"):
        load_bundle("nobody")


def test_other_people_mean_all_of_them_unless_a_number_is_given() -> None:
    assert load_job("demo", ["identities.source=people.parquet"]).identities.count is None
    assert load_job("demo", ["identities.source=people.parquet", "identities.count=3"]).identities.count == 3
    assert load_job("demo", ["identities.source=reference"]).identities.count == 6
