"""Configuration files: edits, what is refused and how, whose key an edit is, and digests."""

import hashlib
from pathlib import Path
from typing import Any, ClassVar

import pytest
from pydantic import BaseModel, ConfigDict

from models.config import apply_edit, check, digest_of, parse_config, read_config, sort_edits
from models.errors import UserError


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Inner(_Model):
    count: int = 1
    words: list[str] = []


class Outer(_Model):
    name: str
    inner: Inner = Inner()
    inners: dict[str, Inner] = {}
    anything: dict[str, Any] = {}


class Other(_Model):
    name: str = ""
    inner: dict[str, int] = {}
    parts: dict[str, Inner] = {}

    NAMED: ClassVar[type[BaseModel]] = Inner


def test_a_digest_depends_on_what_is_said_and_not_on_the_order_of_keys() -> None:
    one, other = {"a": 1, "b": {"c": [1, 2], "d": None}}, {"b": {"d": None, "c": [1, 2]}, "a": 1}
    assert digest_of(one) == digest_of(other) != digest_of({**one, "a": 2})
    assert digest_of([1, 2]) != digest_of([2, 1]) and digest_of(1, 2) != digest_of([1, 2])
    assert digest_of({"a": 1}, Path("/x")) == hashlib.sha256(b'[{"a": 1}, "/x"]').hexdigest()[:16]


def test_a_file_is_read_prepared_and_edited(tmp_path: Path) -> None:
    path = tmp_path / "file.yaml"
    path.write_text("name: one\ninner: {count: 2}\n")
    found = read_config(Outer, path, ["inner.count=3", "inner.words=[a, b]", "inners.new.count=4", "name="])
    assert (found.name, found.inner.count, found.inner.words, found.inners["new"].count) == ("", 3, ["a", "b"], 4)
    seen = []
    assert read_config(Outer, path, ["name=two"], lambda content: seen.append(dict(content))).name == "two"
    assert seen == [{"name": "one", "inner": {"count": 2}}]
    assert parse_config(Outer, b"name: three", "somewhere").name == "three"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"name: [", "file.yaml is not YAML: "),
        (b"[1]", "file.yaml must hold keys and values, not list."),
        (b"\xff\xfe\xff", "file.yaml is no text: a YAML file in UTF-8 is asked for."),
        (b"inner: {}", "file.yaml:\n  name: is missing"),
        (b"name: a\nmore: 1", "  more: unknown key; known here: anything, inner, inners, name"),
        (b"name: a\ninner: {more: 1}", "  inner.more: unknown key; known here: count, words"),
        (b"name: a\ninners: {x: {more: 1}}", "  inners.x.more: unknown key$"),
        (b"name: a\ninner: {count: x}", "  inner.count: Input should be a valid integer, .* \\(got 'x'\\)"),
        (b"name: a\ninner: 3", "  inner: Input should be .* \\(got 3\\)"),
        (b"name: {a: 1}", "  name: Input should be a valid string$"),
    ],
)
def test_what_is_wrong_is_named_by_its_key(content: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / "file.yaml").write_bytes(content)
    with pytest.raises(UserError, match=message):
        read_config(Outer, tmp_path / "file.yaml")


def test_every_wrong_key_is_named_at_once() -> None:
    with pytest.raises(UserError, match="here:\n  name: is missing\n  inner.count: .*\n  more: unknown"):
        check(Outer, {"inner": {"count": "x"}, "more": 1}, "here")


def test_files_that_are_not_there_or_no_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="none.yaml does not exist"):
        read_config(Outer, tmp_path / "none.yaml")
    with pytest.raises(UserError, match="cannot be read: Is a directory"):
        read_config(Outer, tmp_path)


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        ("name", "--set 'name': write it as key=value"),
        ("=1", "--set '=1': write it as key=value"),
        (" =1", "write it as key=value"),
        ("a.words.0=x", "a.words is a list: give it whole, as in --set 'a.words=\\[...\\]' in YAML"),
        ("a.words.0.more=x", "a.words is a list: give it whole"),
        ("a.count.more=x", "--set a.count.more=x: count is a single value and has no key 'more'"),
        ("name=[", "'\\[' is not YAML; put it in quotes: name='\"...\"'"),
    ],
)
def test_edits_that_cannot_be_are_named(edit: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        apply_edit({"a": {"words": ["x"], "count": 1}}, edit)


def test_an_edit_makes_the_levels_that_it_needs_and_keeps_the_others() -> None:
    content: dict[str, Any] = {"a": {"b": 1}, "n": None}
    for edit in ("a.c.d=[1]", "n.x=2", " e = f=g", "h="):
        apply_edit(content, edit)
    assert content == {"a": {"b": 1, "c": {"d": [1]}}, "n": {"x": 2}, "e": "f=g", "h": ""}


@pytest.mark.parametrize(
    ("edit", "home", "kept"),
    [
        ("name=1", "outer", "name=1"),  # of equals the first
        ("other.name=1", "other", "name=1"),
        (" other.name = 1 ", "other", "name = 1"),
        ("other=1", None, ""),
        ("inner.count=1", "outer", "inner.count=1"),
        ("inner.words=1", "outer", "inner.words=1"),
        ("inners.x.count=1", "outer", "inners.x.count=1"),
        ("parts.x.count=1", "other", "parts.x.count=1"),
        ("x.count=1", "other", "x.count=1"),  # an entry by its name
        ("x.more=1", None, ""),
        ("anything.a.b.c=1", "outer", "anything.a.b.c=1"),
        ("outer.more=1", None, ""),
        ("inner.more.count=1", "other", "inner.more.count=1"),  # who has most levels of the key
    ],
)
def test_an_edit_goes_to_the_file_that_has_its_key(edit: str, home: str | None, kept: str) -> None:
    models = {"outer": Outer, "other": Other}
    if home is None:
        with pytest.raises(
            UserError, match="no file has a key .* Known: outer: anything, inner, inners, name; other: inner"
        ):
            sort_edits([edit], models)
    else:
        assert sort_edits([edit], models) == {"outer": [], "other": [], home: [kept]}


def test_levels_below_a_mapping_count() -> None:
    """Both have the table and take any name in it; one alone has the key below."""

    class Plain(_Model):
        table: dict[str, int] = {}

    class Deep(_Model):
        table: dict[str, Inner] = {}

    found = sort_edits(["table.x.count=1", "table.x=1"], {"plain": Plain, "deep": Deep})
    assert found == {"plain": ["table.x=1"], "deep": ["table.x.count=1"]}
