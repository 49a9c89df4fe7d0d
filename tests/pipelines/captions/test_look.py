"""People described as their pictures show them, by a server that looks at colours; what an engine is given for it."""

import base64
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from pydantic import ValidationError

from models.captions.prompt import look_messages, messages
from models.captions.reading import disagreements
from models.errors import EnvironmentFault, UserError
from models.weights.bundle import Bundle, Part
from models.weights.store import seal
from pipelines.captions.engine import EngineSpec
from pipelines.captions.look import LASTING, UNCLEAR, find_shown, read_look, show_people, to_address
from pipelines.captions.resident import Structured, split_pictures
from pipelines.captions.write import write_captions
from pipelines.config.chat import TextOptions
from pipelines.config.job import GenerateJob
from pipelines.config.profile import CaptionEngines
from pipelines.config.request import check_request
from pipelines.plan.extend import write_generate_plan
from pipelines.plan.people.identities import unit
from pipelines.storage.uri import Storage
from tests.pipelines import small
from tests.pipelines.captions.chat_server import Answer, Server, honest, reply

RED, BLUE = (220, 30, 30), (30, 30, 220)
SEEN = {"red": {"sex": "woman", "age": "elderly", "hair_colour": "red", "hair_style": "bob", "beard": "none"},
        "blue": {"sex": "man", "age": "young", "hair_colour": "black", "hair_style": "buzz", "beard": "full"}}  # fmt: skip
"""What the server sees in a picture of either colour; all else is unclear."""


def picture(colour: tuple[int, int, int], side: int = 40) -> bytes:
    """A JPEG that says where it was taken."""
    image, content = Image.new("RGB", (side, side), colour), io.BytesIO()
    exif = Image.Exif()
    exif[0x010E] = "taken at home"
    image.save(content, "JPEG", exif=exif)
    return content.getvalue()


def look(url: str) -> str:
    """What the model says of a picture."""
    data = base64.b64decode(url.removeprefix("data:image/jpeg;base64,"))
    mean = np.array(Image.open(io.BytesIO(data))).reshape(-1, 3).mean(axis=0)
    return json.dumps({**dict.fromkeys(LASTING, UNCLEAR), **SEEN["red" if mean[0] > mean[2] else "blue"]})


def answer(body: dict[str, Any], number: int) -> Answer:
    content = body["messages"][0]["content"]
    return honest(body) if isinstance(content, str) else reply(look(content[1]["image_url"]["url"]))


def people(path: Path, pictures: Sequence[bytes | None], **columns: list[Any]) -> str:
    vectors = [unit(one) for one in np.random.default_rng(0).normal(size=(len(pictures), 512))]
    table = {"identity_id": [f"p{k}" for k in range(len(pictures))], "embedding": vectors, "reference": pictures}
    pq.write_table(pa.table({**table, **columns}), path)
    return str(path)


def look_job(server: Server, source: str, *edits: str) -> GenerateJob:
    words = f"{{backend: chat, mode: look, url: '{server.url}', model: small, patience: 0.3, options: {{attempts: 2}}}}"
    return small.job(f"captions={words}", f"identities.source={source}", "identities.count=null", *edits)


def test_a_job_describes_people_as_their_pictures_show_them(server: Server, bundle: Bundle, tmp_path: Path) -> None:
    """Of five people two come with words, one without a picture and one with what is none."""
    given = ['{"sex": "man", "iris": "green"}', None, None, None, None]
    source = people(
        tmp_path / "people.parquet", [picture(RED), picture(BLUE), None, b"no picture", picture(RED)], attributes=given
    )
    server.answer = answer
    out = Storage(tmp_path / "out")
    plan = write_generate_plan(look_job(server, source), bundle, out)
    assert write_captions(plan, CaptionEngines()) == {"llm": 20}
    # Each picture is sent once, small, and without what its file says.
    sent = [body for body in server.bodies if not isinstance(body["messages"][0]["content"], str)]
    assert len(sent) == 3 and {body["temperature"] for body in sent} == {0.0}
    assert all(b"taken at home" not in base64.b64decode(_url(body).partition(",")[2]) for body in sent)
    # Rows and captions are of what is seen; what was given stays, and what is unclear is as without a picture.
    planned = [row for k in range(plan.partitions) for row in plan.sample_table(k).to_pylist()]
    found = [row for k in range(plan.partitions) for row in plan.captions(k).to_pylist()]
    for before, row in zip(planned, found, strict=True):
        words, sources, old = (
            json.loads(text) for text in (row["attributes"], row["attributes_source"], before["attributes"])
        )
        person = before["identity_id"]
        seen = SEEN["blue"] if person == "p1" else SEEN["red"] if person in ("p0", "p4") else {}
        expected = {**old, **seen, **(json.loads(given[0]) if person == "p0" else {})}  # type: ignore[arg-type]
        assert words == expected and disagreements(row["caption"], words) == {}
        assert sources["sex"] == ("given" if person == "p0" else "estimated")
        assert sources["hair_style"] == ("estimated" if seen else "none")
    # What the stages get has no picture, which no stage looks at.
    columns = plan.partition(0)
    assert "reference" not in columns and json.loads(columns["attributes"][0])["hair_style"] == "bob"


def _url(body: dict[str, Any]) -> str:
    return str(body["messages"][0]["content"][1]["image_url"]["url"])


def test_a_person_whom_a_limit_cut_is_not_looked_at_again(server: Server, bundle: Bundle, tmp_path: Path) -> None:
    source = people(tmp_path / "people.parquet", [picture(RED)])
    server.answer = answer
    first = write_generate_plan(look_job(server, source, "limit=2"), bundle, Storage(tmp_path / "out"))
    write_captions(first, CaptionEngines())
    server.answer = lambda body, number: honest(body)  # a picture would have no answer that fits
    plan = write_generate_plan(look_job(server, source), bundle, Storage(tmp_path / "out"))
    assert write_captions(plan, CaptionEngines()) == {"llm": 2}
    rows = [json.loads(row["attributes"]) for k in range(plan.partitions) for row in plan.captions(k).to_pylist()]
    assert len(rows) == 4 and {row["hair_style"] for row in rows} == {"bob"}


def test_a_model_that_takes_no_images_ends_the_run(server: Server, bundle: Bundle, tmp_path: Path) -> None:
    source = people(tmp_path / "people.parquet", [picture(RED), picture(BLUE)])
    server.answer = lambda body, number: (400, {}, "no images here")
    plan = write_generate_plan(look_job(server, source), bundle, Storage(tmp_path / "out"))
    with pytest.raises(EnvironmentFault, match="answered none of 2 requests .it says: 400 no images here"):
        write_captions(plan, CaptionEngines())


def test_people_without_a_column_of_pictures_are_refused(server: Server, bundle: Bundle, tmp_path: Path) -> None:
    path = tmp_path / "people.parquet"
    people(path, [None])
    pq.write_table(pq.read_table(path).drop_columns(["reference"]), path)
    with pytest.raises(UserError, match="has no column 'reference'.*captions.mode look"):
        write_generate_plan(look_job(server, str(path)), bundle, Storage(tmp_path / "out"))
    for captions, message in (
        ({"mode": "look"}, "nobody has one of sampled people"),
        ({"backend": "template", "mode": "look"}, "template looks at no pictures"),
        ({"backend": "chat", "mode": "look", "url": server.url, "model": "m"}, "nobody has one of sampled people"),
    ):
        with pytest.raises(ValidationError, match=message):
            GenerateJob.model_validate({"name": "x", "identities": {"count": 1}, "captions": captions})


def write_model(folder: Path, **config: Any) -> str:
    """Write what says of a language model whether it takes images."""
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"max_position_embeddings": 8192, **config}))
    return str(seal(folder).parent)


def test_a_language_model_of_the_bundle_looks_where_it_takes_images(bundle: Bundle, tmp_path: Path) -> None:
    source = people(tmp_path / "people.parquet", [picture(RED)])
    job = small.job("captions={backend: llm, mode: look}", f"identities.source={source}", "identities.count=null")
    of_text, of_images = (
        write_model(tmp_path / name, **more) for name, more in (("text", {}), ("images", {"vision_config": {}}))
    )
    chosen = small.with_part(bundle, "captions", kind="vllm", weights=of_text, licence="mit")
    with pytest.raises(
        UserError, match="captions.mode look: the model in .*text takes no images.*captions.backend chat"
    ):
        check_request(job, chosen, small.profile())
    chosen = small.with_part(bundle, "captions", kind="vllm", weights=of_images, licence="mit")
    assert check_request(job, chosen, small.profile()).job == job
    chosen = small.with_part(bundle, "captions", kind="template", licence="mit")
    with pytest.raises(UserError, match="has no language model, and only one looks at pictures"):
        check_request(job, chosen, small.profile())


def test_an_engine_with_a_vision_language_model_takes_one_picture_beside_the_words(tmp_path: Path) -> None:
    models = {"text": {}, "images": {"vision_config": {}}, "short": {"vision_config": {}, "text_config": {
        "max_position_embeddings": 1024}, "max_position_embeddings": None}}  # fmt: skip
    arguments = {}
    for name, more in models.items():
        part = Part(kind="vllm", weights=write_model(tmp_path / name, **more), licence="mit")
        arguments[name] = EngineSpec(part, "", CaptionEngines()).arguments()
    assert [one["max_model_len"] for one in arguments.values()] == [2048, 6144, 1024]
    assert ["limit_mm_per_prompt" in one for one in arguments.values()] == [False, True, True]
    # The chat as templates take it, with the picture beside it; a chat of words alone stays as it is.
    asked = look_messages(LASTING, to_address(picture(RED)))
    chat, (shown,) = split_pictures(asked)
    assert chat[0]["content"] == [asked[0]["content"][0], {"type": "image"}]
    assert shown.size == (512, 512) and shown.getpixel((9, 9))[0] > 200
    assert split_pictures(messages({"sex": "man"})) == (messages({"sex": "man"}), [])


def row(person: str, **words: str) -> dict[str, Any]:
    sources = {**dict.fromkeys(LASTING, "none"), **dict.fromkeys(words, "asked")}
    return {"identity_id": person, "seed": 1, "attributes": json.dumps(words), "attributes_source": json.dumps(sources)}


def test_an_answer_that_does_not_fit_is_asked_for_again_and_then_left_out() -> None:
    whole = json.dumps({**dict.fromkeys(LASTING, UNCLEAR), "sex": "man"})
    assert read_look(whole) == {"sex": "man"}
    for wrong in (
        "A man.",
        whole[:-2],
        "[]",
        '{"sex": "man"}',
        whole.replace('"man"', '"boy"'),
        whole.replace('"man"', "[1]"),
    ):
        assert read_look(wrong) is None
    calls = list[list[Structured]]()

    def ask(requests: Sequence[Structured]) -> list[str]:
        calls.append(list(requests))
        return ["A man." if len(calls) == 1 or place == 1 else whole for place in range(len(requests))]

    rows = [row("a"), row("a"), row("b")]
    shown = find_shown(rows, dict.fromkeys("ab", picture(RED)), ask, TextOptions(attempts=3))
    assert shown == {"a": {"sex": "man"}, "b": {"sex": "man"}}
    assert [len(call) for call in calls] == [2, 2, 1]
    assert [call[0].temperature for call in calls] == [0.0, None, None]
    assert len({one.seed for call in calls for one in call}) == 3  # both rows have the same seed here
    calls.clear()
    assert find_shown(rows, {"a": None}, ask, TextOptions()) == {} and calls == []


def test_hair_that_the_job_names_stays() -> None:
    ((words,), (sources,)) = show_people(
        [row("a", glasses="none", beard="none")], {"a": {"beard": "full", "sex": "man"}}
    )
    assert words == {"sex": "man", "beard": "none", "glasses": "none"} and list(words) == ["sex", "beard", "glasses"]
    assert json.loads(sources)["beard"] == "asked" and json.loads(sources)["sex"] == "estimated"


def test_a_picture_is_sent_upright_and_small() -> None:
    tall = cv2.imencode(".png", np.full((900, 600, 3), 90, np.uint8))[1].tobytes()
    sent = Image.open(io.BytesIO(base64.b64decode(to_address(tall).partition(",")[2])))
    assert sent.format == "JPEG" and sent.size == (512, 512)
    assert to_address(b"") == to_address(b"nothing") == ""
