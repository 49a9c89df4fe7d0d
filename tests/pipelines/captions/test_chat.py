"""A server of chat completions as the writer of captions, by a real one on this machine that misbehaves as it is told."""

import json
import logging
import re
import threading
import time
from collections.abc import Callable
from concurrent.futures import wait
from email.utils import formatdate
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from models.captions.answers import CAPTION
from models.captions.grammar import write_caption
from models.config import check
from models.errors import EnvironmentFault, Interrupted, UserError
from models.weights.bundle import Bundle
from pipelines import generate
from pipelines.captions import chat
from pipelines.captions.chat import ChatClient, check_reachable
from pipelines.captions.engine import text_seed
from pipelines.captions.prompt_job import resolve_prompt
from pipelines.captions.resident import Structured
from pipelines.captions.write import write_captions
from pipelines.config.captions import Captions
from pipelines.config.generate import chain_for
from pipelines.config.job import GenerateJob
from pipelines.config.profile import CaptionEngines
from pipelines.config.request import Request
from pipelines.plan.extend import write_generate_plan
from pipelines.storage.uri import Storage
from tests.pipelines import small
from tests.pipelines.captions.chat_server import DROP, HANG, KEY, Answer, Server, honest, reply


def captions(server: Server, **values: Any) -> Captions:
    fields = {"backend": "chat", "url": server.url, "model": "small", "key": "CHAT_KEY", "patience": 5, **values}
    return Captions.model_validate(fields)


def requests(count: int) -> list[tuple[dict[str, str], int]]:
    return [({"sex": "man", "age": "young"}, seed) for seed in range(count)]


def ask(server: Server, count: int = 1, **values: Any) -> tuple[list[str], ChatClient]:
    with ChatClient(captions(server, **values)) as client:
        return [one.text for one in client.collect(client.submit(requests(count)))], client


def test_a_request_carries_model_chat_seed_options_and_key(server: Server) -> None:
    options = {"temperature": 0.5, "extra": {"top_k": 3, "top_p": None}}
    with ChatClient(captions(server, options=options)) as client:
        done = list[int]()
        asked = [({"sex": "man"}, 11), Structured([{"role": "user", "content": "- sex: man | woman"}], 12,
                 {"required": [CAPTION], "properties": {CAPTION: {}}}, 0.0)]  # fmt: skip
        found = client.collect(client.submit(asked, done.append))
        assert done == [1, 1] and not client.busy
    one, other = sorted(server.bodies, key=lambda body: body["seed"])
    assert one.pop("messages")[0]["content"].endswith("- sex: man")
    assert one == {"model": "small", "temperature": 0.5, "max_tokens": 110, "seed": 11, "top_k": 3}
    assert other["temperature"] == 0.0 and other["max_tokens"] == 310
    assert other["response_format"]["json_schema"]["strict"] is True
    assert found[0].tokens == 7 and found[0].text == write_caption({"sex": "man"}, 11)
    assert server.keys == [f"Bearer {KEY}"] * 2
    server.reset()
    ask(server, key="")
    assert server.keys == [None]


TROUBLE: dict[str, Answer] = {
    "429": (429, {"Retry-After": "0.01"}, "slow down"), "500": (500, {}, ""), "502": (502, {}, "<html>"),
    "503": (503, {}, ""), "timeout": HANG, "no connection (RemoteProtocolError)": DROP,
    "no answer of a chat": (200, {}, '{"choices": [{"mess'),
}  # fmt: skip


@pytest.mark.parametrize("why", TROUBLE)
def test_what_goes_wrong_on_the_way_is_asked_again(server: Server, why: str) -> None:
    times = 1 if why == "timeout" else 2
    server.answer = lambda body, number: TROUBLE[why] if number < times else honest(body)
    (text,), client = ask(server, timeout=0.5 if why == "timeout" else 60)
    assert text == write_caption({"sex": "man", "age": "young"}, 0)
    assert client.counts == {why: times, "answered": 1}


@settings(max_examples=4, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.sampled_from(["", "", "429", "500", "no answer of a chat"]), max_size=24), st.integers(1, 9))
def test_order_and_seeds_stay_whatever_goes_wrong(server: Server, trouble: list[str], concurrency: int) -> None:
    server.reset()
    server.answer = lambda body, number: (
        TROUBLE[trouble[number]] if number < len(trouble) and trouble[number] else honest(body)
    )
    texts, client = ask(server, 12, concurrency=concurrency)
    assert texts == [write_caption({"sex": "man", "age": "young"}, seed) for seed in range(12)]
    assert client.counts["answered"] == 12 and server.most <= concurrency


def test_a_pause_that_the_server_asks_for_is_everybodys(server: Server) -> None:
    """The second request is under way and answered; the third waits as the first does."""

    def answer(body: dict[str, Any], number: int) -> Answer:
        time.sleep(0.05 * number)
        return (429, {"Retry-After": "0.3"}, "") if number == 0 else honest(body)

    server.answer = answer
    texts, client = ask(server, 3, concurrency=2)
    assert all(texts) and client.counts["429"] == 1
    assert len(server.times) == 4 and min(server.times[2:]) - server.times[0] > 0.28


@pytest.mark.parametrize(
    ("said", "seconds"),
    [
        ("2", 2),
        ("0.5", 0.5),
        ("-3", 0),
        ("", 0),
        ("soon", 0),
        ("nan", 0),
        ("inf", 0),
    ],
)
def test_retry_after_is_a_number(said: str, seconds: float) -> None:
    assert chat.read_pause(chat.httpx.Response(429, headers={"Retry-After": said})) == seconds


def test_retry_after_is_a_date() -> None:
    response = chat.httpx.Response(429, headers={"Retry-After": formatdate(time.time() + 600)})
    assert abs(chat.read_pause(response) - 600) < 30


def test_requests_are_spaced_by_their_limit(server: Server) -> None:
    ask(server, 5, requests_per_minute=1200)
    assert server.times[-1] - server.times[0] > 0.15  # four gaps of 50 ms, the first of which a busy machine shortens


@pytest.mark.parametrize("answer", [(500, {}, ""), DROP, HANG, (429, {}, ""), (429, {"Retry-After": "900"}, "")])
def test_a_server_that_is_gone_ends_the_run_to_be_resumed(server: Server, answer: Answer) -> None:
    server.answer = lambda body, number: answer
    with pytest.raises(
        EnvironmentFault, match=r"the model small at http://127.*answered nothing.*same command again"
    ) as error:
        ask(server, 4, patience=0.1, timeout=0.05 if answer == HANG else 5)  # a busy machine is no silent server
    assert error.value.exit_code == 75
    assert ("come back after 900 s" in str(error.value)) == (answer[1] == {"Retry-After": "900"})


def test_a_request_that_fails_alone_has_no_text_and_does_not_end_the_run(server: Server) -> None:
    server.answer = lambda body, number: (500, {}, "") if body["seed"] == 2 else honest(body)
    texts, client = ask(server, 6, concurrency=2)
    assert [bool(text) for text in texts] == [True, True, False, True, True, True]
    assert client.counts["given up"] == 1 and client.counts["500"] == chat.TRIES


def test_answers_are_taken_out_of_thoughts_and_fences_and_too_long_ones_not_at_all(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chat, "LARGEST", 5000)
    schema = {"required": [], "properties": {"a": {}}}
    for answer, structured, text, count in (
        ("<think>Well.\nA man?</think>\n A man.", False, "A man.", None),
        ('```json\n{"a": 1}\n```', True, '{"a": 1}', None),
        ("Sure! Here it is.", True, "Sure! Here it is.", "prose for JSON"),
        ("word " * 111, False, "", "too long"), ("x" * 1761, False, "", "too long"),
        ("word " * 310, True, ("word " * 310).strip(), None),
        ("word " * 311, True, "", "too long"), (None, False, "", None),
    ):  # fmt: skip
        server.answer = lambda body, number, answer=answer: reply(answer)
        with ChatClient(captions(server)) as client:
            asked = Structured([], 1, schema) if structured else ({}, 1)
            (found,) = client.collect(client.submit([asked]))
        assert found.text == text and (count is None or client.counts[count] == 1)
    server.answer = lambda body, number: (200, {}, " " * (chat.LARGEST + 1)) if number == 0 else honest(body)
    server.bodies.clear()
    assert ask(server)[1].counts == {"an answer without end": 1, "answered": 1}


def test_a_refused_request_has_no_text_and_the_server_is_quoted_without_the_key(
    server: Server, bundle: Bundle, job: Callable[..., GenerateJob], tmp_path: Path
) -> None:
    server.answer = lambda body, number: (400, {}, f'{{"error": "unknown field seed, key {KEY}"}}')
    plan = write_generate_plan(chat_job(server, job), bundle, Storage(tmp_path / "out"))
    with pytest.raises(
        EnvironmentFault, match=r"answered none of 8 requests \(it says: 400 .*unknown field seed, key \*\*\*"
    ):
        write_captions(plan, CaptionEngines())
    assert plan.list_captioned() == set()


def test_each_refused_request_is_counted_once(server: Server) -> None:
    server.answer = lambda body, number: (400, {}, "{}") if body["seed"] % 2 else honest(body)
    texts, client = ask(server, 6)
    assert texts.count("") == client.counts["refused (400)"] == 3


@pytest.mark.parametrize(
    ("status", "message"),
    [
        (401, r"refuses the key in the environment variable CHAT_KEY \(401\)"),
        (403, "refuses the key"),
        (404, r"has no model small, or is not the address of such an API \(404\)"),
        (302, r"\(302\).*captions.url"),
    ],
)
def test_what_no_try_would_mend_is_said_at_once(server: Server, status: int, message: str) -> None:
    server.answer = lambda body, number: (status, {"Location": "http://127.0.0.1:9/"}, f"no {KEY}")
    with ChatClient(captions(server, concurrency=1)) as client:
        answers = client.submit(requests(3))
        wait(answers)
        with pytest.raises(UserError, match=message) as error:
            client.collect(answers)
    assert error.value.exit_code == 2 and len(server.bodies) == 1 and KEY not in str(error.value)
    server.answer = lambda body, number: (402, {}, "")
    with pytest.raises(EnvironmentFault, match="paid"):
        ask(server)


def test_the_run_ends_a_wait(server: Server) -> None:
    server.answer = lambda body, number: HANG
    stopped = threading.Event()
    began = time.monotonic()
    with ChatClient(captions(server), stopped) as client:
        asked = client.submit(requests(40))
        assert client.busy
        stopped.set()
        with pytest.raises(Interrupted):
            client.collect(asked)
    assert time.monotonic() - began < 2


def test_the_server_is_asked_for_its_models_before_anything_starts(server: Server) -> None:
    check_reachable(captions(server))
    assert server.keys == [f"Bearer {KEY}"]
    with pytest.raises(UserError, match=r"captions.model: .* has no model tiny; it has large, small"):
        check_reachable(captions(server, model="tiny"))
    for count, rest in ((8, "m7."), (9, "m7 and 1 more."), (11, "m7 and 3 more.")):
        server.models = (200, {}, json.dumps({"data": [{"id": f"m{k:x}"} for k in range(count)]}))
        with pytest.raises(UserError, match=rf"it has m0, m1, m2, m3, m4, m5, m6, {re.escape(rest)}$"):
            check_reachable(captions(server, model="tiny"))
    for answer in (
        (404, {}, ""),
        (500, {}, ""),
        (200, {}, "<html>"),
        (200, {}, '{"data": []}'),
    ):  # the first caption tells
        server.models = answer  # type: ignore[assignment]
        check_reachable(captions(server, model="tiny"))
    server.models = (200, {}, '{"data": [{"id": "tiny:latest"}]}')
    check_reachable(captions(server, model="tiny"))
    server.models = (401, {}, "")
    with pytest.raises(UserError, match="refuses the key in the environment variable CHAT_KEY"):
        check_reachable(captions(server))
    with pytest.raises(UserError, match=r"asks for a key \(401\): put it into an environment variable"):
        check_reachable(captions(server, key=""))
    with pytest.raises(EnvironmentFault, match=r"http://127.0.0.1:9/v1 cannot be reached \(ConnectError\)"):
        check_reachable(captions(server, url="http://127.0.0.1:9/v1"))


def test_a_key_that_is_not_set_is_named_and_a_broken_one_not_shown(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UserError, match="the environment variable NO_SUCH_KEY is not set"):
        ChatClient(captions(server, key="NO_SUCH_KEY"))
    monkeypatch.setenv("CHAT_KEY", f"{KEY}\nX: 1")
    with pytest.raises(UserError, match="CHAT_KEY holds") as error:
        ChatClient(captions(server))
    assert KEY not in str(error.value)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"url": f"https://me:{KEY}@host/v1"}, "does not belong there"),
        ({"url": f"https://{KEY}@host/v1"}, "does not belong there"),
        ({"url": f"https://host/v1?api_key={KEY}"}, "does not belong there"),
        ({"url": f"https://host/v1#{KEY}"}, "does not belong there"),
        ({"url": f"ftp://{KEY}"}, "no address of a server"),
        ({"url": "http://host:port/v1"}, "no address of a server"),
        ({"url": "https://host/v1/chat/completions"}, "without /chat/completions"),
        ({"url": ""}, "chat needs url and model"),
        ({"model": ""}, "chat needs url and model"),
        ({"key": KEY}, "never the key itself"),
        ({"key": KEY.replace("-", "")}, "never the key itself"),
        ({"key": 12345678}, "name of an environment variable"),
        ({"options": {"extra": {"api_key": KEY}}}, "sounds like a secret"),
        ({"options": {"extra": {"stream": True}}}, "takes no stream"),
        ({"backend": "llm"}, "url: backend llm asks no server; say backend: chat"),
        ({"concurrency": 0}, "captions.concurrency"),
        ({"requests_per_minute": 0}, "captions.requests_per_minute"),
    ],
)
def test_what_cannot_be_is_refused_without_showing_a_secret(values: dict[str, Any], message: str) -> None:
    section = {"backend": "chat", "url": "https://host/v1", "model": "m", "key": "CHAT_KEY", **values}
    with pytest.raises(UserError, match=message) as error:
        check(GenerateJob, {"name": "x", "identities": {"count": 1}, "captions": section}, "job")
    assert (
        KEY not in str(error.value)
        and KEY.replace("-", "") not in str(error.value)
        and "12345678" not in str(error.value)
    )


def chat_job(server: Server, job: Callable[..., GenerateJob], *edits: str) -> GenerateJob:
    words = (
        f"{{backend: chat, url: '{server.url}', model: small, key: CHAT_KEY, patience: 0.3, options: {{attempts: 2}}}}"
    )
    return job(f"captions={words}", *edits)


def rows(plan: Any) -> list[dict[str, Any]]:
    return [row for k in range(plan.partitions) for row in plan.captions(k).to_pylist()]


def test_a_job_by_a_server_resumes_with_every_caption_that_is_committed(
    server: Server, bundle: Bundle, job: Callable[..., GenerateJob], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The server goes away in the middle and comes back as another model would: what is committed stays. No file has the key."""
    caplog.set_level(logging.DEBUG)
    out = Storage(tmp_path / "out")
    plan = write_generate_plan(chat_job(server, job), bundle, out)
    seeds = [seed for k in range(3) for seed in plan.sample_table(k)["seed"].to_pylist()]
    first = {text_seed(seed, 0) for seed in seeds[:8]}
    server.answer = lambda body, number: honest(body) if body["seed"] in first else (503, {}, "")
    with pytest.raises(EnvironmentFault, match="answered nothing"):
        write_captions(plan, CaptionEngines())
    kept = rows_of_first = plan.captions(0).to_pylist()
    assert len(kept) == 8 and {row["caption_source"] for row in rows_of_first} == {"llm"}
    # Back, with other words, and slower or quicker to be asked: the run goes on.
    server.bodies.clear()
    server.answer = lambda body, number: honest({**body, "seed": body["seed"] + 1})
    again = write_generate_plan(chat_job(server, job, "captions.concurrency=2", "captions.timeout=9"), bundle, out)
    assert write_captions(again, CaptionEngines()) == {"llm": 16}
    assert again.captions(0).to_pylist() == kept
    assert {body["seed"] for body in server.bodies} == {text_seed(seed, 0) for seed in seeds[8:]}
    assert write_captions(again, CaptionEngines()) == {}
    # Another model or address is another run.
    with pytest.raises(UserError, match=r"captions.model: small -> large"):
        write_generate_plan(chat_job(server, job, "captions.model=large"), bundle, out)
    # The key is nowhere.
    recipe = again.recipe.captions
    assert (recipe["source"], recipe["url"], recipe["model"]) == ("chat", server.url, "small")
    assert not {"key", "timeout", "concurrency"} & set(recipe)
    files = [path.read_bytes() for path in Path(tmp_path).rglob("*") if path.is_file()]
    assert files and not any(KEY.encode() in content for content in files)
    assert "503" in caplog.text and KEY not in caplog.text


def test_prose_in_the_place_of_json_is_asked_again_and_counted(
    server: Server, bundle: Bundle, job: Callable[..., GenerateJob], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The first answers are prose or cut JSON; half of the samples get no better one and keep what they were dealt."""
    plan = write_generate_plan(chat_job(server, job, "captions.mode=invent"), bundle, Storage(tmp_path / "out"))
    seeds = [seed for k in range(3) for seed in plan.sample_table(k)["seed"].to_pylist()]
    never = {text_seed(seed, attempt) for seed in seeds[::2] for attempt in range(2)}
    once = {text_seed(seed, 0) for seed in seeds[1::4]}

    def answer(body: dict[str, Any], number: int) -> Answer:
        if body["seed"] in never:
            return reply("Of course! Here is a person.")
        found = honest(body)
        return (
            reply(json.loads(found[2])["choices"][0]["message"]["content"][:-9], "length")
            if body["seed"] in once
            else found
        )

    server.answer = answer
    assert write_captions(plan, CaptionEngines()) == {"llm": 12, "grammar": 12}
    assert "24 x prose for JSON" in caplog.text and "6 x cut" in caplog.text
    found = rows(plan)
    assert [row["caption_source"] for row in found] == ["grammar", "llm"] * 12
    assert all('"invented"' in row["attributes_source"] for row in found[1::2])
    assert all('"invented"' not in row["attributes_source"] for row in found[::2])


def test_a_prompt_is_read_by_the_server_without_ray(
    server: Server, bundle: Bundle, job: Callable[..., GenerateJob], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = chat_job(server, job, "captions.mode=parse", "prompt=an old man with a scar")
    request = Request(wanted, bundle, small.profile(), chain_for(wanted, bundle))
    resolved, reading = resolve_prompt(request, Storage(tmp_path / "out"))
    assert reading is not None and reading.source == "llm" and reading.also == "a scar"
    assert resolved.job.captions.also == "a scar" and resolved.job.captions.model == "small"
    assert resolved.job.identities.words["age"] == "elderly"
    assert server.bodies[0]["temperature"] == 0.0


def test_a_new_run_asks_whether_the_server_is_there_and_one_that_goes_on_does_not(
    server: Server, bundle: Bundle, job: Callable[..., GenerateJob], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(generate, "run_job", lambda job, out, profile: "ran")
    wanted, out = chat_job(server, job), Storage(tmp_path / "out")
    request = Request(wanted, bundle, small.profile(), chain_for(wanted, bundle))
    server.models = (401, {}, "")
    with pytest.raises(UserError, match="refuses the key"):
        generate.generate(request, out)
    assert not out.list("_plan")
    write_generate_plan(wanted, bundle, out)
    assert generate.generate(request, out) == "ran"  # type: ignore[comparison-overlap]
