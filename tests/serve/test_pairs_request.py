"""What a request resolves to, and its rows: those of the job that makes the same."""

import asyncio
import json

import numpy as np
import pytest
from pydantic import ValidationError

from models.attributes import ATTRIBUTES
from models.captions.reading import read_attributes
from models.columns import Columns
from models.layers import Layer
from pipelines.captions.read import Reading
from pipelines.config.captions import Captions
from pipelines.config.generate import chain_for, recipe_for
from pipelines.config.job import Encoding, load_job
from pipelines.config.profile import Limits
from pipelines.plan.attributes import IDENTITY
from pipelines.plan.people.source import people_of
from pipelines.plan.samples import samples_of
from pipelines.rows.schema import RECORD
from pipelines.run.chain import Chain
from serve import pairs_request, rows
from serve.app import Settings
from serve.batching import Answer
from serve.http import answers
from serve.http.problems import ProblemError
from serve.http.requests import PairsRequest, ThermalizeRequest
from serve.service import Service
from serve.stage_deployment import Call, StageDeployment
from tests.serve.conftest import NULL, SETTINGS

LIMITS = Limits()


@pytest.fixture(scope="module")
def quiet() -> Service:
    """The service of the starter without deployments."""
    return Service(SETTINGS.load(), stage_deployments=[])


@pytest.fixture(scope="module")
def null() -> Service:
    return Service(NULL.load(), stage_deployments=[])


def asked(service: Service, **fields: object) -> tuple[PairsRequest, pairs_request.ResolvedRequest]:
    request = PairsRequest.model_validate(fields)
    return request, pairs_request.resolve_pairs(request, service.job, service.chain, service.bundle, LIMITS)


def attributes(service: Service, embedding: list[float] | None = None, **fields: object) -> list[tuple[dict, dict]]:
    """Return words and sources of every sample of a request."""
    request, made = asked(service, **fields)
    table = rows.sample_table(request, made, rows.person_of(request, embedding, service.reference))
    columns = (table[name].to_pylist() for name in ("attributes", "attributes_source"))
    return [(json.loads(words), json.loads(sources)) for words, sources in zip(*columns)]


def test_a_row_of_an_answer_is_a_row_of_the_record() -> None:
    assert set(answers.Pair.model_fields) <= set(RECORD)
    assert set(answers.Thermal.model_fields) - {"picture"} <= set(RECORD)


def test_a_seed_is_the_person_samples_and_recipe_of_a_job() -> None:
    demo = load_job("demo").model_copy(
        update={"captions": Captions(backend="template"), "encoding": Encoding(visible="png")}
    )
    service = Service(Settings(overrides=["captions=template"]).load(), stage_deployments=[])
    request, made = asked(service, seed=7, views=4)
    person = rows.person_of(request, None, service.reference)
    first = next(people_of(demo.identities, service.bundle, demo.seed).blocks(0, 1))[0]
    assert person.id == first.id
    np.testing.assert_array_equal(person.embedding, first.embedding)
    assert samples_of(made.job, person) == samples_of(demo, first)
    chain = chain_for(demo, service.bundle)
    assert made.chain == chain
    assert made.recipe == recipe_for(demo, service.bundle, chain)


def test_what_may_change_a_byte_is_in_the_digest(null: Service) -> None:
    changed: list[dict] = [
        {}, {"seed": 1}, {"views": 2}, {"conditions": ["warm"]}, {"conditions": [22.5]}, {"samples": 2},
        {"attributes": {"glasses": "clear"}}, {"gates": {"attempts": 2}}, {"encoding": "jpeg"}, {"caption": "A man."},
        {"embedding": [1.0] * 512},
    ]  # fmt: skip
    digests = [asked(null, **fields)[1].recipe.digest for fields in changed]
    assert len(set(digests)) == len(changed)
    assert asked(null, conditions=[22.5])[1].recipe.digest == asked(null, conditions=["22.50"])[1].recipe.digest


def test_settings_of_a_request_win_over_those_of_the_service(quiet: Service) -> None:
    visible = asked(quiet, settings={"visible": {"guidance": 1.5}})[1].chain.link("visible").settings
    assert (visible.steps, visible.guidance) == (2, 1.5)  # type: ignore[attr-defined]
    assert asked(quiet)[1].chain == asked(quiet, settings={"visible": {"guidance": 2.0, "steps": 2}})[1].chain


def test_gates_that_a_request_leaves_open_are_the_services(quiet: Service) -> None:
    gates = asked(quiet, gates={"identity": 0.5})[1].job.gates
    assert gates == quiet.job.gates.model_copy(update={"identity": 0.5})
    assert gates.attempts == 1


@pytest.mark.parametrize(
    ("limit", "at_the_limit", "beyond", "named"),
    [
        ("views", {"views": 2}, {"views": 3}, "views is 3, at most 2"),
        ("attempts", {"gates": {"attempts": 2}}, {"gates": {"attempts": 3}}, "gates.attempts is 3, at most 2"),
        ("layers", {"samples": 1}, {"samples": 2}, "conditions x samples is 4, at most 2"),
    ],
)
def test_a_request_may_ask_for_as_much_as_the_limits_say(
    null: Service, limit: str, at_the_limit: dict, beyond: dict, named: str
) -> None:
    limits = Limits().model_copy(update={limit: 2})

    def resolve(fields: dict) -> pairs_request.ResolvedRequest:
        request = PairsRequest.model_validate({"conditions": ["warm", "cold"], "gates": {"attempts": 1}, **fields})
        return pairs_request.resolve_pairs(request, null.job, null.chain, null.bundle, limits)

    made = resolve(at_the_limit)
    assert made.attempts == at_the_limit.get("gates", {}).get("attempts", 1)
    with pytest.raises(ProblemError, match=named):
        resolve(beyond)


def test_steps_are_limited_also_where_the_service_sets_them(quiet: Service) -> None:
    def resolve(limit: int, **settings: int) -> None:
        request = PairsRequest(settings={"visible": settings} if settings else {})
        limits = Limits(steps=limit)
        pairs_request.resolve_pairs(request, quiet.job, quiet.chain, quiet.bundle, limits)

    resolve(2)
    resolve(3, steps=3)
    with pytest.raises(ProblemError, match=r"settings\.visible\.steps is 3, at most 2"):
        resolve(2, steps=3)
    with pytest.raises(ProblemError, match=r"settings\.visible\.steps is 2, at most 1"):
        resolve(1)


def test_a_prompt_is_what_the_request_does_not_name(null: Service) -> None:
    reading = Reading(
        attributes={"sex": ["man"], "pose": ["turned left", "turned right"], "beard": ["full"]}, conditions=("cold",)
    )
    request = PairsRequest(prompt="...", attributes={"beard": "none"}, seed=3)
    made = pairs_request.apply_reading(request, reading)
    assert made.prompt is None and list(made.conditions or ()) == ["cold"]
    assert made.attributes["pose"] in ("turned left", "turned right")
    assert (made.attributes["sex"], made.attributes["beard"]) == ("man", "none")
    assert "pose" not in pairs_request.apply_reading(request.model_copy(update={"yaw": 20.0}), reading).attributes
    resolved = pairs_request.resolve_pairs(made, null.job, null.chain, null.bundle, LIMITS, "a scar")
    assert resolved.job.captions.also == "a scar" and resolved.job.conditions == ("cold",)


def test_what_a_request_leaves_open_is_the_services(null: Service) -> None:
    request, made = asked(null)
    assert made.job.conditions == null.job.conditions and made.job.samples == null.job.samples
    assert made.attempts == null.job.gates.attempts and made.job.captions == null.job.captions
    assert (made.job.identities.count, made.job.identities.source, made.job.limit) == (1, "reference", None)
    assert asked(null, embedding=[1.0] * 512)[1].job.identities.source == "request"
    assert asked(null, picture="AA==")[1].job.identities.source == "request"
    assert asked(null, caption="A man.")[1].recipe.captions == {"source": "given"}
    assert request.seed == made.job.seed == 0 and made.record.run == made.recipe.digest
    merged = pairs_request._merge_settings({"a": {"x": 1, "y": 1}, "b": {"z": 1}}, {"a": {"x": 2}, "c": {"w": 3}})
    assert merged == {"a": {"x": 2, "y": 1}, "b": {"z": 1}, "c": {"w": 3}}


def test_angles_and_an_expression_are_of_every_view(null: Service) -> None:
    request, made = asked(null, seed=5, views=2, yaw=-40, pitch=3, expression="sad")
    assert made.job.views.list_views() == [{"yaw": -40.0, "pitch": 3.0, "expression": "sad"}] * 2
    person = rows.person_of(request, None, null.reference)
    table = rows.sample_table(request, made, person)
    words = [json.loads(text) for text in table["attributes"].to_pylist()]
    assert [(word["pose"], word["expression"]) for word in words] == [("turned right", "sad")] * 2
    columns = rows.sample_columns(table, person, ["A man.", "A man."], ["template", "template"], null.bundle.size)
    np.testing.assert_array_equal(columns["pose_asked"], np.array([[-40, 3, np.nan]] * 2, np.float32))
    # What a job of the same seed and view makes, and another recipe than without.
    assert (
        samples_of(made.job, person)[0]["sample_id"] == samples_of(asked(null, seed=5)[1].job, person)[0]["sample_id"]
    )
    digests = {asked(null, **fields)[1].recipe.digest for fields in ({}, {"yaw": 0}, {"yaw": 1}, {"pitch": 0})}
    assert len(digests) == 4
    assert "pose_asked" in made.record.columns and "pose_asked" not in asked(null)[1].record.columns


def test_a_caption_that_says_nothing_of_the_pose_may_have_a_yaw(null: Service) -> None:
    for caption in ("A man.", "A man, turned to his left."):
        request, made = asked(null, caption=caption, yaw=30)
        table = rows.sample_table(request, made, rows.person_of(request, None, null.reference))
        assert table["pose_asked"].to_pylist()[0][0] == 30


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"yaw": 90.1}, "less than or equal to 90"), ({"pitch": -36}, "greater than or equal to -35"),
        ({"roll": float("nan")}, "finite number"), ({"yaw": [0, 30]}, "valid number"),
        ({"expression": "grin"}, "not grin"), ({"yaw": 3, "attributes": {"pose": "frontal"}}, "yaw or attributes.pose"),
        ({"expression": "sad", "attributes": {"expression": "sad"}}, "expression or attributes.expression"),
        ({"expression": "sad", "caption": "A man."}, "a caption or an expression"),
        ({"yaw": 30, "caption": "A man facing the camera."}, "yaw 30 is 'turned left', and the caption says 'frontal'"),
        ({"yaw": 0, "caption": "A man turned to his left and in right profile."}, "the caption says 'ambiguous'"),
    ],
)  # fmt: skip
def test_angles_of_a_request_that_cannot_be_are_refused(fields: dict, message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        PairsRequest.model_validate(fields)


def test_conditions_and_samples_are_layers(null: Service) -> None:
    made = asked(null, conditions=["warm", 20, -5.5], samples=2)[1]
    assert made.recipe.layers[:3] == (Layer("warm"), Layer("warm", 1), Layer("20"))
    assert made.chain.link("thermal").settings.layers == made.recipe.layers  # type: ignore[attr-defined]
    photo = ThermalizeRequest(pictures=["AA=="], conditions=["20"], samples=2)
    made = pairs_request.resolve_thermalize(photo, null.job, null.thermalize_chain, null.bundle, LIMITS)
    assert made.chain.link("thermal").settings.layers == (Layer("20"), Layer("20", 1))  # type: ignore[attr-defined]


def test_words_of_a_request_win_over_those_read_off_the_face(quiet: Service) -> None:
    for sex in ("woman", "man"):
        for words, sources in attributes(quiet, seed=7, views=3, attributes={"sex": sex, "glasses": "opaque"}):
            assert (words["sex"], sources["sex"]) == (sex, "given")
            assert (words["glasses"], sources["glasses"]) == ("opaque", "asked")
            assert "estimated" in sources.values()


def test_of_a_person_who_exists_no_looks_are_drawn(null: Service) -> None:
    ((words, sources),) = attributes(null, embedding=[1.0] * 512, seed=3, attributes={"age": "young"})
    drawn = [name for name in IDENTITY if name in words]
    assert drawn == ["age"]
    assert {name: sources[name] for name in IDENTITY} == {**dict.fromkeys(IDENTITY, "none"), "age": "given"}
    ((words, _),) = attributes(null, seed=3)
    assert set(IDENTITY) <= set(words)


def test_every_embedding_is_a_person_of_its_own(null: Service) -> None:
    one, other = [1.0] * 512, [2.0] * 511 + [1.0]
    people = [rows.person_of(PairsRequest(), vector, null.reference) for vector in (one, other, one)]
    assert people[0].id == people[2].id != people[1].id
    ids = [rows.sample_table(*asked(null), person)["sample_id"][0].as_py() for person in people]
    assert ids[0] == ids[2] != ids[1]
    assert rows.person_of(PairsRequest(identity_id="me"), one, null.reference).id == "me"


def test_a_given_caption_says_its_attributes(quiet: Service) -> None:
    said = {"sex": "man", "age": "young", "glasses": "opaque"}
    found = attributes(quiet, seed=7, views=2, caption="A young man with sunglasses.")
    assert [words for words, _ in found] == [said, said]
    for _, sources in found:
        assert sources == {name: "given" if name in said else "none" for name in ATTRIBUTES}
    assert read_attributes("A young man with sunglasses.") == said


def test_rows_of_requests_that_share_a_batch_go_back_to_their_own(null: Service) -> None:
    """Redraws come back as further rows, in another order than they were asked for."""
    strict = {
        "attempts": 3,
        "identity": -1,
        "detection": 0,
        "face_area": (0, 1),
        "celsius": (33.99, 34.01),
        "clipped": 1,
    }
    group = StageDeployment(null.chain, threads=1, most=64, wait=0.01, max_pixels=10**6)
    calls, alone = list[Call](), list[dict]()
    for seed, layer in ((1, "warm"), (2, "warm"), (3, "cold"), (4, "warm")):
        request, made = asked(null, seed=seed, views=2, conditions=[layer], gates=strict)
        person = rows.person_of(request, None, null.reference)
        table = rows.sample_table(request, made, person)
        columns = rows.sample_columns(table, person, ["words"] * 2, ["template"] * 2, null.bundle.size)
        calls.append(Call(made.chain, made.chain.stages, made.attempts, columns))
        alone.append(Chain(made.chain, made.chain.stages, made.attempts)(columns))

    async def ask() -> list[Answer[Columns]]:
        return await asyncio.gather(*(group.run(call) for call in calls))

    answers = asyncio.run(ask())
    assert [answer.batch_rows for answer in answers] == [6, 6, 2, 6]
    for answer, expected in zip(answers, alone):
        found = answer.value
        assert set(found) == set(expected)
        for name in set(found) - {"seconds"}:
            order_ = [np.lexsort((columns["attempt"], columns["sample_id"])) for columns in (found, expected)]
            np.testing.assert_array_equal(found[name][order_[0]], expected[name][order_[1]], err_msg=name)
    assert any(len(columns["final"]) > 2 for columns in alone)  # some were drawn again


def test_near_duplicates_are_looked_for_within_a_request_alone(null: Service) -> None:
    """Two callers who ask for the same, in one batch, are answered as if each had been alone."""
    gates = {"attempts": 2, "identity": -1, "detection": 0, "face_area": (0, 1), "clipped": 1, "duplicates": 0.02}
    request, made = asked(null, seed=1, views=2, conditions=["warm"], gates=gates)
    person = rows.person_of(request, None, null.reference)
    table = rows.sample_table(request, made, person)
    columns = rows.sample_columns(table, person, ["words"] * 2, ["template"] * 2, null.bundle.size)
    group = StageDeployment(null.chain, threads=1, most=64, wait=0.01, max_pixels=10**6)
    call = Call(made.chain, made.chain.stages, made.attempts, columns)
    for answer in group.run_chain([call, call]):
        assert list(answer["reject"]) == ["", ""] and list(answer["attempt"]) == [0, 0]
        assert [("difference" in json.loads(text)) for text in answer["scores"]] == [False, True]


def test_a_picture_or_an_expression_needs_its_adapter(quiet: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    for fields in ({"reference": "AAAA"}, {"crop": "AAAA"}, {"smirk": [0.0] * 55}):
        with pytest.raises(ProblemError, match=f"{next(iter(fields))}: the visible part of this bundle has no adapter"):
            asked(quiet, **fields)
    with pytest.raises(ValidationError, match="smirk"):
        PairsRequest(smirk=[0.0] * 53)
    # Where the part has one, every request of the chain has the columns: those without one share its batches.
    with_adapters = Settings(
        overrides=[
            "captions=template",
            *(f"visible.weights.{name}=models/starter/visible" for name in ("reference", "expression")),
        ]
    )
    service = Service(with_adapters.load(), stage_deployments=[])
    for fields, moved in (({}, False), ({"smirk": [0.0] * 55}, True)):
        request, made = asked(service, **fields)
        person = rows.person_of(request, None, service.reference)
        table = rows.sample_table(request, made, person)
        columns = rows.sample_columns(table, person, ["A man."], ["template"], 32, made.chain.given)
        assert columns["reference"].shape == (1, 32, 32, 3) and not columns["reference"].any()
        assert bool(np.isfinite(columns["smirk"]).all()) == moved
