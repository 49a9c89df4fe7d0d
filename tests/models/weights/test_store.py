"""Sealed folders: whole or named, read once on a machine, the same from a folder, a URI and the hub."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from uuid import uuid4

import fsspec
import pytest

from models.errors import EnvironmentFault, UserError
from models.weights import store
from models.weights.store import SEAL, SmallFiles, contents_digest, fetch, list_files, seal, verify, weights_digest

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(store, "CACHE", tmp_path / "cache")
    return tmp_path / "cache"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "weights"
    (made / "deep").mkdir(parents=True)
    (made / "model.safetensors").write_bytes(b"numbers" * 9)
    (made / "deep" / "config.json").write_text('{"low": 0.5}')
    seal(made)
    return made


@pytest.fixture
def uri(folder: Path) -> str:
    """The same weights at a URI of their own."""
    place = f"memory://{uuid4().hex}/weights"
    for path in folder.rglob("*"):
        if path.is_file():
            upload(f"{place}/{path.relative_to(folder)}", path.read_bytes())
    return place


def upload(uri: str, content: bytes) -> None:
    with fsspec.open(uri, "wb") as file:
        file.write(content)


@pytest.fixture
def hashed_files(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The files whose bytes are hashed, as they are."""
    names: list[str] = []
    hashed = store._sha256
    monkeypatch.setattr(store, "_sha256", lambda path: names.append(path.name) or hashed(path))
    return names


def test_a_sealed_folder_is_whole(folder: Path) -> None:
    assert set(list_files(folder)) == {"model.safetensors", "deep/config.json"}
    assert fetch(folder) == folder
    before = weights_digest(folder)
    (folder / "x.lock").touch()
    seal(folder)
    assert weights_digest(folder) == before, "neither the seal nor a lock is part of the weights"


def spoilt(change: str) -> Callable[[Path], None]:
    def change_it(folder: Path) -> None:
        path = folder / "model.safetensors"
        if change == "missing":
            path.unlink()
        elif change == "half":
            path.write_bytes(path.read_bytes()[:10])
        else:
            path.write_bytes(b"n" + b"ombers" * 10 + b"no")

    return change_it


@pytest.mark.parametrize("known", [False, True])
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("missing", r"model\.safetensors is missing although files\.json lists it"),
        ("half", r"model\.safetensors is half-written: 10 of 63 bytes"),
        ("other", r"model\.safetensors is not the file that files\.json describes"),
    ],
)
def test_what_is_not_whole_is_named(folder: Path, change: str, message: str, known: bool) -> None:
    if known:
        verify(folder)
    spoilt(change)(folder)
    if change == "other":
        assert (folder / "model.safetensors").stat().st_size == 63, "the size alone tells nothing"
    for _ in range(2):  # a folder that is not whole is not remembered as whole
        with pytest.raises(EnvironmentFault, match=message):
            fetch(folder)


def test_folders_without_a_seal_are_named(tmp_path: Path) -> None:
    with pytest.raises(EnvironmentFault, match=r"weights are missing: .*none does not exist"):
        fetch(tmp_path / "none")
    with pytest.raises(EnvironmentFault, match="half-written or was never sealed"):
        fetch(tmp_path)


@pytest.mark.parametrize(
    "content", ["", "{", "[]", "{}", '{"files": 3}', '{"files": ["a"]}', '{"files": {"a": 1}}', '{"files": {"a": {}}}']
)
def test_a_damaged_seal_is_named(folder: Path, content: str) -> None:
    (folder / SEAL).write_text(content)
    for ask in (fetch, weights_digest):
        with pytest.raises(EnvironmentFault, match=r"weights/files\.json is not a list of files"):
            ask(folder)


@pytest.mark.parametrize("name", ["/etc/passwd", "../out", "deep/../../out"])
def test_names_outside_of_the_folder_are_refused(folder: Path, uri: str, name: str, cache: Path) -> None:
    one = {"size": 1, "sha256": "0" * 64}
    content = json.dumps({"files": {"good.bin": one, name: one}}).encode()  # one is enough
    (folder / SEAL).write_bytes(content)
    upload(f"{uri}/{SEAL}", content)
    for place in (folder, uri):
        with pytest.raises(EnvironmentFault, match="names files outside its folder"):
            fetch(place)
    assert not cache.exists()


def test_a_folder_is_read_once_on_a_machine(folder: Path, hashed_files: list[str], cache: Path) -> None:
    verify(folder)
    assert sorted(hashed_files) == ["config.json", "model.safetensors"]
    verify(folder)
    weights_digest(folder)
    assert len(hashed_files) == 2
    # Size and time of change are all that is looked at: other bytes with both unchanged go unnoticed.
    path, right = folder / "model.safetensors", (folder / "model.safetensors").read_bytes()
    time = path.stat().st_mtime_ns
    path.write_bytes(b"#" * len(right))
    os.utime(path, ns=(time, time))
    verify(folder)
    assert len(hashed_files) == 2
    path.write_bytes(right)
    os.utime(path, ns=(1, 1))  # touched: read again, and remembered again
    verify(folder)
    verify(folder)
    assert len(hashed_files) == 4
    for mark in (cache / "verified").iterdir():
        mark.write_text("{")
    verify(folder)
    assert len(hashed_files) == 6, "a damaged note is no note"


def test_a_file_that_changes_while_it_is_read_is_read_again(
    folder: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = store._sha256

    def meanwhile(path: Path) -> str:
        digest = own(path)
        if path.name == "model.safetensors":
            path.write_bytes(b"#" * path.stat().st_size)
            os.utime(path, ns=(1, 1))
        return digest

    monkeypatch.setattr(store, "_sha256", meanwhile)
    verify(folder)
    monkeypatch.setattr(store, "_sha256", own)
    with pytest.raises(EnvironmentFault, match="model.safetensors is not the file that files.json describes"):
        verify(folder)


def test_a_machine_without_a_place_for_notes_verifies_every_time(
    folder: Path, hashed_files: list[str], cache: Path
) -> None:
    cache.write_text("a file where the folder should be")
    verify(folder)
    verify(folder)
    assert len(hashed_files) == 4


def test_weights_at_a_uri_are_copied_once(
    folder: Path, uri: str, hashed_files: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert weights_digest(uri) == weights_digest(folder)
    first = fetch(uri)
    verify(first)
    assert (first / "deep" / "config.json").read_text() == '{"low": 0.5}'
    copied: list[str] = []
    copy = store._copy_uri
    monkeypatch.setattr(store, "_copy_uri", lambda uri, path: copied.append(path.name) or copy(uri, path))
    before = len(hashed_files)
    assert fetch(uri) == first and not copied and len(hashed_files) == before
    (first / "model.safetensors").write_bytes(
        b"rotten"
    )  # what rotted comes again, if it is still there; the rest stays
    right = (folder / "model.safetensors").read_bytes()
    fsspec.filesystem("memory").rm(f"{uri}/model.safetensors".removeprefix("memory://"))
    with pytest.raises(EnvironmentFault, match=r"weights/model\.safetensors cannot be fetched"):
        fetch(uri)
    upload(f"{uri}/model.safetensors", right)
    copied.clear()
    assert fetch(uri) == first and copied == ["model.safetensors"]
    verify(first)


@pytest.mark.parametrize("content", [b"numb", b"#" * 63, b""])
def test_uploads_that_are_not_what_the_seal_says_are_named(uri: str, content: bytes, cache: Path) -> None:
    """Also those of the right size."""
    upload(f"{uri}/model.safetensors", content)
    with pytest.raises(EnvironmentFault, match=rf"{uri}/model\.safetensors is not the file that files\.json describes"):
        fetch(uri)
    assert not list(cache.rglob(SEAL)), "without its seal a folder is not whole"


def test_uploads_that_are_gone_are_named(uri: str) -> None:
    fsspec.filesystem("memory").rm(f"{uri}/model.safetensors".removeprefix("memory://"))
    with pytest.raises(EnvironmentFault, match=rf"{uri}/model\.safetensors cannot be fetched"):
        fetch(uri)
    with pytest.raises(EnvironmentFault, match=r"memory://nowhere/files\.json cannot be read"):
        fetch("memory://nowhere")


@pytest.mark.parametrize(
    "name", ["hub:a/b", "hub:a/b@main", "hub:a/b@0123abc", "hub:a@" + COMMIT, f"hub:a/b@{COMMIT}0"]
)
def test_a_hub_id_needs_a_whole_commit(name: str) -> None:
    for ask in (fetch, weights_digest, lambda place: SmallFiles(place).json("x.json")):
        with pytest.raises(UserError, match="name a hub model as hub:owner/name@ followed by its full 40-digit commit"):
            ask(name)


def test_a_commit_of_the_hub_is_its_own_digest() -> None:
    assert weights_digest(f"hub:a/b.c@{COMMIT}") == COMMIT


@pytest.mark.parametrize("where", ["folder", "uri", "file"])
def test_small_files_wherever_they_lie(folder: Path, uri: str, where: str, cache: Path) -> None:
    places = {"folder": folder, "uri": uri, "file": store.locate(f"file://{folder}", "memory://elsewhere")}
    files = SmallFiles(places[where])
    assert "deep/config.json" in files and "config.json" not in files
    assert files.json("deep/config.json") == {"low": 0.5}
    with pytest.raises(EnvironmentFault, match="none.json cannot be read"):
        files.json("none.json")
    with pytest.raises(EnvironmentFault, match=r"model\.safetensors is no JSON object"):
        files.json("model.safetensors")
    with pytest.raises(EnvironmentFault, match="elsewhere does not exist"):
        SmallFiles(folder / "elsewhere").json("config.json")
    assert not cache.exists(), "a job is checked without fetching weights"


def test_contents_are_told_without_cards_and_seals(folder: Path) -> None:
    before = contents_digest(folder)
    (folder / "README.md").write_text("a card")
    (folder / SEAL).unlink()
    assert contents_digest(folder) == before
    (folder / "deep" / "config.json").rename(folder / "config.json")
    assert contents_digest(folder) != before
    assert contents_digest(folder / "model.safetensors") != before
    with pytest.raises(UserError, match="none does not exist"):
        contents_digest(folder / "none")


def test_a_file_uri_is_of_this_machine() -> None:
    assert [store.remote(name) for name in ("s3://b/x", "hub:a/b", "file:///x", "/x", "x")] == [
        True,
        False,
        False,
        False,
        False,
    ]
