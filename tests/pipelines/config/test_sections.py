"""Every section of a configuration file: what it holds by default, and the least and most that each key takes."""

import importlib
import inspect
from typing import Any

import pytest
from pydantic import BaseModel, ValidationError

from models.weights.store import ROOT
from pipelines.config.captions import VllmOptions
from pipelines.config.chat import ChatServer
from pipelines.config.gather import GatherJob
from pipelines.config.job import GenerateJob, Identities, Stop
from pipelines.config.profile import CaptionEngines, Group, Limits, Profile, RayStart, Serving, Training, Writer
from pipelines.config.recipe import PARTITION_BYTES, VERSION
from pipelines.config.thermalize import ThermalizeJob
from pipelines.config.translate import TranslateJob
from pipelines.config.views import Views
from pipelines.config.world import WorldJob

PICTURES = {"images": "folder", "size": 128}
GATHER = {"layout": "plain", "images": "folder"}
WORLD = {"domain": "portrait", "split": "test", "count": 8}
JOB = {"name": "job", "identities": {"count": 1}}
SECTIONS: dict[type[BaseModel], dict[str, Any]] = {
    RayStart: {}, Group: {"stages": ["thermal"]}, Writer: {}, CaptionEngines: {}, Training: {}, Limits: {}, Serving: {},
    Profile: {"name": "p", "groups": [{"stages": []}]}, Identities: {}, Views: {}, Stop: {}, GenerateJob: JOB,
    VllmOptions: {}, ChatServer: {}, GatherJob: GATHER, WorldJob: WORLD, ThermalizeJob: PICTURES,
    TranslateJob: PICTURES,
}  # fmt: skip
"""Section -> what it has to be given."""
BOUNDS: list[tuple[type[BaseModel], str, Any, float, float | None]] = [
    (RayStart, "cpus", 8, 4, None), (RayStart, "object_store_mb", 512, 80, None),
    (RayStart, "stall_minutes", 30, 0, None),
    (Group, "in_flight", 2, 2, None), (Group, "cpus", 1, 0, None), (Group, "gpus", 0, 0, None),
    (Group, "memory_mb", None, 1, None), (Group, "threads", 1, 1, None),
    (Writer, "tasks", 2, 1, None), (Writer, "cpus", 1, 0, None), (Writer, "threads", 2, 1, None),
    (CaptionEngines, "engines", 1, 1, None), (CaptionEngines, "cpus", 1, 0, None), (CaptionEngines, "gpus", 0, 0, None),
    (CaptionEngines, "threads", 2, 1, None), (CaptionEngines, "batch", 64, 1, None),
    (CaptionEngines, "start_seconds", 300, 1, None),
    (Training, "workers", 1, 1, None), (Training, "cpus", 1, 0, None), (Training, "gpus", 0, 0, None),
    (Training, "threads", 2, 1, None), (Training, "memory_mb", 6144, 64, None), (Training, "failures", 3, 0, None),
    (Limits, "body_mb", 24, 1, None), (Limits, "pictures", 8, 1, None), (Limits, "megapixels", 24, 0.1, None),
    (Limits, "views", 8, 1, None), (Limits, "layers", 16, 1, None), (Limits, "steps", 50, 1, None),
    (Limits, "attempts", 8, 1, None), (Limits, "captions", 64, 1, None),
    (Serving, "gateways", 1, 1, None), (Serving, "batch_wait_ms", 20, 0, None), (Serving, "queue", 64, 1, None),
    (Serving, "retry_seconds", 2, 1, None), (Serving, "request_seconds", 120, 0.1, None),
    (Profile, "start_seconds", 300, 1, None),
    (Identities, "count", None, 1, None), (Identities, "minimum_angle", 50, 0, 90),
    (Views, "per_identity", 4, 1, None), (Views, "draws", 1, 1, None),
    (Stop, "rejected_share", 0.9, 0.01, 1), (Stop, "first_samples", 64, 1, None),
    (GenerateJob, "seed", 0, 0, None), (GenerateJob, "partition_samples", 64, 1, None), (GenerateJob, "limit", None, 1, None),
    (GenerateJob, "samples", 1, 1, None),
    (VllmOptions, "temperature", 0.8, 0.01, 2), (VllmOptions, "top_p", 1, 0.01, 1), (VllmOptions, "max_tokens", 110, 8, None),
    (VllmOptions, "attempts", 3, 1, 16), (VllmOptions, "stated", 1, 0, 1),
    (ChatServer, "requests_per_minute", None, 0.1, None), (ChatServer, "concurrency", 8, 1, 1024),
    (ChatServer, "timeout", 60, 0.1, None), (ChatServer, "patience", 300, 0, None),
    (GatherJob, "size", 128, 32, 1024), (GatherJob, "partition", 64, 1, None), (GatherJob, "limit", None, 1, None),
    (GatherJob, "standard", 70, 5, 478),
    (WorldJob, "count", 8, 1, None), (WorldJob, "size", 128, 32, 1024), (WorldJob, "views", 4, 1, None),
    (WorldJob, "gap", 1, 0, 1.5), (WorldJob, "first", 0, 0, None), (WorldJob, "partition", 64, 1, None),
    (WorldJob, "render_batch", 16, 1, None),
    (ThermalizeJob, "size", 128, 32, 4096), (ThermalizeJob, "partition_samples", 64, 1, None),
    (ThermalizeJob, "limit", None, 1, None),
    (TranslateJob, "size", 128, 32, 4096), (TranslateJob, "partition_samples", 64, 1, None),
    (TranslateJob, "limit", None, 1, None), (TranslateJob, "samples", 1, 1, 64),
]  # fmt: skip
"""(section, key, default, least, most)"""
EXACT = {"megapixels", "request_seconds", "rejected_share", "temperature", "top_p", "requests_per_minute", "timeout"}
"""Keys that are larger than zero, where the least of the table is merely small."""


def made(section: type[BaseModel], **values: Any) -> Any:
    return section.model_validate({**SECTIONS[section], **values})


@pytest.mark.parametrize(
    ("section", "key", "default", "least", "most"), BOUNDS, ids=lambda one: getattr(one, "__name__", one)
)
def test_a_number_has_a_default_and_limits(
    section: type[BaseModel], key: str, default: Any, least: float, most: float | None
) -> None:
    assert getattr(made(section), key) == default
    assert getattr(made(section, **{key: least}), key) == least
    below = 0 if key in EXACT else least - 1 if isinstance(least, int) else least / 2
    beyond = [below] if most is None else [below, most + 1]
    if most is not None:
        assert getattr(made(section, **{key: most}), key) == most
    for wrong in beyond:
        with pytest.raises(ValidationError):
            made(section, **{key: wrong})


def test_pictures_fit_a_network_that_halves_them_five_times() -> None:
    assert made(ThermalizeJob, size=96).size == 96
    with pytest.raises(ValidationError, match="multiple of 32"):
        made(ThermalizeJob, size=100)


@pytest.mark.parametrize(("actors", "right"), [((1, 1), True), ((1, 3), True), ((0, 1), False), ((3, 2), False)])
def test_a_pool_has_a_smallest_and_a_largest_number_of_actors(actors: tuple[int, int], right: bool) -> None:
    if right:
        assert made(Group, actors=actors).actors == actors
    else:
        with pytest.raises(ValidationError, match="the smallest and the largest number of actors, at least 1"):
            made(Group, actors=actors)


def test_labels_are_asked_for_where_there_are_some() -> None:
    assert made(Group).selector == {}
    assert made(Group, labels={"room": "a"}).selector == {"label_selector": {"room": "a"}}


def test_every_section_is_frozen_and_takes_no_key_that_it_does_not_know() -> None:
    names = [path.stem for path in (ROOT / "pipelines" / "config").glob("*.py") if path.stem != "__init__"]
    modules = [importlib.import_module(f"pipelines.config.{name}") for name in names]
    models = {
        kind
        for module in modules
        for _, kind in inspect.getmembers(module, inspect.isclass)
        if issubclass(kind, BaseModel) and kind.__module__ == module.__name__
    }
    assert set(SECTIONS) <= models
    wrong = [
        kind for kind in models if kind.model_config.get("extra") != "forbid" or not kind.model_config.get("frozen")
    ]
    assert wrong == []


def test_words_of_a_job_are_those_of_the_vocabulary() -> None:
    views = made(Views, attributes={"glasses": "clear", "pose": ["frontal", "turned left"]})
    assert views.attributes == {"glasses": ["clear"], "pose": ["frontal", "turned left"]}
    for attributes, message in (
        ({"scar": "long"}, "no attribute 'scar'; known: sex, age"),
        ({"glasses": "pink"}, "glasses takes .*clear.*; not pink"),
        ({"glasses": ["clear", "pink"]}, "not pink"),
        ({"glasses": []}, "glasses takes .*; not nothing"),
        (["glasses"], "valid dictionary"),
    ):
        with pytest.raises(ValidationError, match=message):
            made(Views, attributes=attributes)


def test_people_of_the_reference_have_to_be_counted() -> None:
    with pytest.raises(ValidationError, match=r"identities\.count is needed when identities are sampled"):
        made(GenerateJob, identities={})
    assert made(GenerateJob, identities={"source": "people.parquet"}).identities.count is None
    job = made(GenerateJob)
    assert (job.conditions, job.samples, job.captions.backend, job.encoding.visible) == (
        ("warm", "cold"),
        1,
        "llm",
        "jpeg",
    )
    assert [layer.condition for layer in job.layers] == ["warm", "cold"]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"layout": "sejong", "unit": "celsius"}, "unit is for the layout plain; sejong says it itself"),
        ({"layout": "sejong", "standard": 68}, "standard is for the layout plain"),
        ({"layout": "tfake", "columns": {"visible": "x"}}, "columns is for the layout plain; tfake"),
        ({"thermal": "folder"}, "thermal is T-FAKE's folder"),
    ],
)
def test_what_a_layout_says_itself_is_not_said_again(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        made(GatherJob, **values)
    made(GatherJob, layout="tfake", thermal="folder")
    made(GatherJob, unit="celsius", standard=68, columns={"visible": "rgb/NAME"})


def test_what_every_output_is_made_by_stays() -> None:
    """Another number is another layout: outputs of earlier versions would be read as if they were of this one."""
    assert (VERSION, PARTITION_BYTES) == (3, 2**28)


def test_rows_of_a_world_are_whole_people() -> None:
    job = made(WorldJob, count=50, views=3, conditions=("warm", "cold"), partition=20)
    assert (job.person_rows, job.partition_rows, job.partitions) == (6, 18, 3)
    assert [job.rows_of(k) for k in range(3)] == [range(18), range(18, 36), range(36, 50)]
    assert made(WorldJob, partition=1).partition_rows == 4
    first = [job.picture(row) for row in range(7)]
    assert [(view, condition) for _, view, condition in first[:6]] == [
        (0, "warm"), (0, "cold"), (1, "warm"), (1, "cold"), (2, "warm"), (2, "cold"),
    ]  # fmt: skip
    assert len({person for person, _, _ in first[:6]}) == 1 and first[6] == (first[0][0] + 1, 0, "warm")
    assert made(WorldJob, first=2).picture(0)[0] == first[0][0] + 2


def test_captions_are_one_word_or_a_backend_and_a_mode() -> None:
    word, both = (
        made(GenerateJob, captions="template"),
        made(GenerateJob, captions={"backend": "llm", "mode": "invent"}),
    )
    assert (word.captions.backend, word.captions.mode) == ("template", "describe")
    assert word.model_dump(mode="json")["captions"] == "template"
    assert made(GenerateJob, **{**both.model_dump(mode="json")}).captions == both.captions


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"captions": {"mode": "sing"}}, "describe"),
        ({"captions": {"backend": "template", "mode": "invent"}}, "template does not invent"),
        ({"captions": {"backend": "template", "mode": "look"}}, "template looks at no pictures"),
        ({"captions": {"mode": "parse"}}, "reads the job's prompt"),
        ({"captions": {"mode": "invent"}, "prompt": "a man"}, "invent does not read a prompt"),
        ({"views": {"attributes": {"glasses": {"none": 0.5, "clear": 0.3}}}}, "sum to 0.8, not to 1"),
        ({"views": {"attributes": {"glasses": {"none": 1.5, "clear": -0.5}}}}, "between 0 and 1"),
        ({"views": {"attributes": {"glasses": {"nose": 1}}}}, "glasses takes none, clear, opaque"),
        ({"identities": {"count": 1, "words": {"glasses": "none"}}}, "not of a person but of a view"),
    ],
)
def test_captions_and_shares_that_cannot_be_are_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        made(GenerateJob, **values)


def test_a_prompt_means_that_it_is_read() -> None:
    for captions in ("llm", {"backend": "llm"}, {}):
        assert made(GenerateJob, captions=captions, prompt="an old man").captions.mode == "parse"


SERVER = {"backend": "chat", "url": "https://host/v1", "model": "m"}


def test_who_describes_people_as_they_look_has_a_model() -> None:
    for captions in ({"mode": "look"}, {**SERVER, "mode": "look"}):
        assert made(GenerateJob, captions=captions, identities={"source": "people.parquet"}).captions.mode == "look"


@pytest.mark.parametrize("key", ["sk-live-123", "openai_key", "KEY=1", "1KEY"])
def test_a_key_is_the_name_of_a_variable_and_never_repeated(key: str) -> None:
    with pytest.raises(ValidationError, match="key is the name of the environment variable") as caught:
        made(GenerateJob, captions={**SERVER, "key": key})
    assert key not in "".join(error["msg"] for error in caught.value.errors())
    for name in ("", "OPENAI_KEY", "_KEY2"):
        assert made(GenerateJob, captions={**SERVER, "key": name}).captions.key == name


@pytest.mark.parametrize("key", [["OPENAI_KEY"], 7, {"name": "sk-live-123"}])
def test_a_key_that_is_no_text_is_refused_without_repeating_it(key: object) -> None:
    with pytest.raises(ValidationError, match="key is the name of an environment variable") as caught:
        made(GenerateJob, captions={**SERVER, "key": key})
    assert "sk-live-123" not in "".join(error["msg"] for error in caught.value.errors())


@pytest.mark.parametrize("own", ["model", "messages", "stream"])
def test_what_every_request_says_is_no_extra_of_one(own: str) -> None:
    with pytest.raises(ValidationError, match=f"options.extra takes no {own}"):
        made(GenerateJob, captions={**SERVER, "options": {"extra": {own: "x", "top_k": 3}}})
    assert made(GenerateJob, captions={**SERVER, "options": {"extra": {"top_k": 3}}}).captions.options.extra == {
        "top_k": 3
    }
