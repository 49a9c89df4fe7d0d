"""Weights: whole or refused by name, read once on a machine, several sets to a part, each with what is known of it."""

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import fsspec
import pytest
import yaml

from models import stages
from models.errors import EnvironmentFault, UserError
from models.null.kinds import Parser
from models.weights import store
from models.weights.bundle import Bundle, Part, digests, fetch, licence_of, load_bundle, places, strictest
from models.weights.store import seal, weights_digest


class Many(Parser):
    """A kind with three sets of weights, one of which it can do without."""

    WEIGHTS: Mapping[str, bool] = {"unet": True, "vae": True, "teacher": False}


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home of this test alone for what the machine remembers."""
    monkeypatch.setattr(store, "CACHE", tmp_path / "cache")
    return tmp_path / "cache"


@pytest.fixture
def hashed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the files whose bytes are read to be hashed, in order."""
    read, names = store._sha256, list[str]()

    def counted(path: Path) -> str:
        names.append(path.name)
        return read(path)

    monkeypatch.setattr(store, "_sha256", counted)
    return names


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return sealed(tmp_path / "weights")


def sealed(path: Path, content: bytes = b"visible" * 100) -> Path:
    path.mkdir(parents=True)
    (path / "weights.bin").write_bytes(content)
    (path / "config.json").write_text("{}")
    seal(path)
    return path


def part(**weights: Any) -> Part:
    return Part(kind="many", weights=weights, licence="mit")


def overwrite(path: Path, content: bytes, *, later: bool) -> None:
    """Write as many bytes as were there; later: the time of change shows it."""
    before = path.stat()
    assert len(content) == before.st_size
    path.write_bytes(content)
    time = before.st_mtime_ns + (10**9 if later else 0)
    os.utime(path, ns=(time, time))


def test_bytes_are_read_once_on_a_machine(folder: Path, hashed: list[str]) -> None:
    wanted = part(model=str(folder))
    fetch(wanted, "")
    assert sorted(hashed) == ["config.json", "weights.bin"]
    for _ in range(3):
        fetch(wanted, "")
        digests(wanted, "")
    assert len(hashed) == 2
    # Size and time of change are what is looked at: nothing else tells a file without reading it.
    overwrite(folder / "weights.bin", b"VISIBLE" * 100, later=False)
    fetch(wanted, "")
    assert len(hashed) == 2
    overwrite(folder / "weights.bin", b"VISIBLE" * 100, later=True)
    with pytest.raises(EnvironmentFault, match="weights.bin is not the file that files.json describes"):
        fetch(wanted, "")
    overwrite(folder / "weights.bin", b"visible" * 100, later=True)
    fetch(wanted, "")
    read = len(hashed)
    fetch(wanted, "")
    assert len(hashed) == read


def test_a_home_that_cannot_be_written_costs_time_alone(folder: Path, cache: Path, hashed: list[str]) -> None:
    cache.write_text("a file where the folder would be")
    for _ in range(2):
        fetch(part(model=str(folder)), "")
    assert len(hashed) == 4


def test_weights_that_are_not_whole_are_named(folder: Path) -> None:
    wanted = part(model=str(folder))
    fetch(wanted, "")
    digest = digests(wanted, "")

    (folder / "weights.bin").write_bytes(b"half")
    with pytest.raises(EnvironmentFault, match=r"weights.bin is half-written: 4 of 700 bytes"):
        fetch(wanted, "")
    (folder / "weights.bin").write_bytes(b"VISIBLE" * 100)
    with pytest.raises(EnvironmentFault, match="not the file that files.json describes"):
        fetch(wanted, "")
    seal(folder)
    fetch(wanted, "")
    assert digests(wanted, "") != digest
    (folder / "weights.bin").unlink()
    with pytest.raises(EnvironmentFault, match=r"weights.bin is missing"):
        fetch(wanted, "")
    (folder / "files.json").unlink()
    with pytest.raises(EnvironmentFault, match="half-written or was never sealed"):
        fetch(wanted, "")
    with pytest.raises(EnvironmentFault, match="nowhere does not exist"):
        fetch(part(model=str(folder / "nowhere")), "")


def test_weights_at_a_uri_are_copied_once(folder: Path, hashed: list[str]) -> None:
    files = fsspec.filesystem("memory")
    for path in folder.iterdir():
        files.pipe_file(f"/weights/visible/{path.name}", path.read_bytes())
    wanted = part(model="memory://weights/visible")
    local = fetch(wanted, "")["model"]
    assert (local / "weights.bin").read_bytes() == b"visible" * 100
    assert digests(wanted, "") == digests(part(model=str(folder)), "")  # the same bytes wherever they lie
    files.rm("/weights/visible/weights.bin")
    read = len(hashed)
    assert fetch(wanted, "")["model"] == local and len(hashed) == read
    # A copy that was harmed is fetched again, if it is still there to be fetched.
    overwrite(local / "weights.bin", b"VISIBLE" * 100, later=True)
    with pytest.raises(EnvironmentFault, match="weights/visible/weights.bin cannot be fetched"):
        fetch(wanted, "")
    files.pipe_file("/weights/visible/weights.bin", b"visible" * 100)
    assert (fetch(wanted, "")["model"] / "weights.bin").read_bytes() == b"visible" * 100


def test_a_hub_model_is_pinned() -> None:
    with pytest.raises(UserError, match="full 40-digit commit"):
        fetch(part(model="hub:owner/name@main"), "")
    commit = "0123456789" * 4
    pinned = part(model={"uri": "hub:owner/name", "revision": commit})
    assert places(pinned, "") == {"model": f"hub:owner/name@{commit}"}
    assert digests(pinned, "") == {"model": commit}  # a commit stands for its bytes: nothing is fetched to know them


@pytest.fixture
def bundle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Bundle]:
    """Writes and loads a bundle with one part of the kind `many`; its weights lie beside the file."""
    monkeypatch.setitem(stages.STAGES["parser"], "many", f"{__name__}:Many")
    for name in ("unet", "vae", "teacher"):
        sealed(tmp_path / "bundle" / name, name.encode() * 100)

    def load(*edits: str, **values: Any) -> Bundle:
        content = {"kind": "many", "licence": "mit", "weights": {"unet": "unet", "vae": "vae"}} | values
        path = tmp_path / "bundle" / "bundle.yaml"
        path.write_text(yaml.safe_dump({"name": "mine", "size": 32, "parts": {"parser": content}}))
        return load_bundle(str(path), edits)

    return load


def test_a_part_has_several_weights_by_name(bundle: Callable[..., Bundle], tmp_path: Path) -> None:
    found = bundle()
    folders = found.fetch("parser")
    assert folders == {name: tmp_path / "bundle" / name for name in ("unet", "vae")}
    assert digests(found.part("parser"), found.folder) == {name: weights_digest(path) for name, path in folders.items()}
    with_teacher = bundle("parser.weights.teacher=" + str(tmp_path / "bundle" / "teacher"))
    assert set(with_teacher.fetch("parser")) == {"unet", "vae", "teacher"}
    assert found.part("parser").weights["unet"].licence == "" and licence_of(found.parts.values()) == "mit"


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ({"unet": "unet", "vae": "vae", "lora": "x"}, r"mine: parser.weights.lora: kind many has no such weights; known here: "
                                                       r"unet, vae, teacher"),
        ({"unet": "unet"}, r"mine: parser.weights: kind many needs vae; known here: unet, vae, teacher"),
        ("unet", r"parser.weights.model: kind many has no such weights"),
        ({"unet": {"uri": "unet", "sha": "0"}, "vae": "vae"}, r"parts.parser.weights.unet.sha: unknown key"),
        ({"unet": {"digest": "0"}, "vae": "vae"}, r"parts.parser.weights.unet.uri: is missing"),
    ],
)  # fmt: skip
def test_weights_that_a_kind_does_not_take_are_refused_by_name(
    weights: Any, message: str, bundle: Callable[..., Bundle]
) -> None:
    with pytest.raises(UserError, match=message):
        bundle(weights=weights)


def test_weights_are_those_that_the_bundle_names_by_digest(bundle: Callable[..., Bundle], tmp_path: Path) -> None:
    digest = weights_digest(tmp_path / "bundle" / "vae")
    named = {"unet": "unet", "vae": {"uri": "vae", "digest": digest}}
    assert set(bundle(weights=named).fetch("parser")) == {"unet", "vae"}
    (tmp_path / "bundle" / "vae" / "weights.bin").write_bytes(b"another")
    seal(tmp_path / "bundle" / "vae")
    with pytest.raises(EnvironmentFault, match=rf"bundle/vae: its digest is \w+, and the bundle wants {digest}"):
        bundle(weights=named).fetch("parser")


def test_the_strictest_licence_counts(bundle: Callable[..., Bundle]) -> None:
    weights = {"unet": {"uri": "unet", "licence": "openrail++"}, "vae": "vae"}
    assert licence_of(bundle(weights=weights).parts.values()) == "openrail++"
    assert licence_of(bundle(weights=weights, licence="cc-by-nc-4.0").parts.values()) == "cc-by-nc-4.0"
    alone = {name: {"uri": name, "licence": "cc0-1.0"} for name in ("unet", "vae")}
    assert licence_of(bundle(weights=alone, licence="").parts.values()) == "cc0-1.0"
    with pytest.raises(UserError, match="weights vae: no licence is named"):
        bundle(weights=weights, licence="")
    assert (
        strictest(["mit", "a licence of ours", "research-only"]) == "a licence of ours"
    )  # nobody knows what it allows
    assert strictest([]) == "unlicensed-synthetic"
