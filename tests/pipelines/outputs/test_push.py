"""`push`: what lies in an output lies on the hub, by a real client and over HTTP; sent once, gone on with, refused in words."""

from collections.abc import Iterator
from pathlib import Path

import huggingface_hub
import pytest

from models.errors import EnvironmentFault, UserError
from models.weights.bundle import load_bundle
from pipelines import export
from pipelines.outputs import push
from tests.pipelines import small
from tests.pipelines.outputs.hub_server import Hub, running

JOB = ("identities.count=6", "views.per_identity=1", "gates={attempts: 1}", "partition_samples=2")
REPO = "someone/faces"
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An export of a run of the null bundle as a data set of a hub."""
    folder = tmp_path_factory.mktemp("push")
    small.finish(small.make_here(small.job(*JOB), load_bundle("null"), folder / "run"))
    export.run(str(folder / "run"), str(folder / "out"), "hf", local=True)
    return folder / "out"


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    monkeypatch.setattr(
        huggingface_hub.constants, "HF_HUB_DISABLE_XET", True
    )  # a protocol that this hub does not speak
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setenv("MY_TOKEN", "hf_secret")
    with running("hf_secret") as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.endpoint)
        yield hub


def contents(out: Path) -> dict[str, bytes]:
    files = (path for path in out.rglob("*") if path.is_file())
    return {
        str(path.relative_to(out)): path.read_bytes()
        for path in files
        if not path.relative_to(out).parts[0].startswith("_")
    }


def test_all_is_sent_once_and_the_card_last(made: Path, hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(push, "FILES", 2)
    pushed = push.run(str(made), REPO, "MY_TOKEN")
    assert hub.files[REPO] == contents(made) and hub.private[REPO]
    assert (pushed.sent, pushed.there) == (len(contents(made)), 0)
    assert all(len(names) <= 2 for names in hub.commits) and [name for names in hub.commits for name in names][-2:] == [
        *push.LAST
    ]
    before = len(hub.commits)
    again = push.run(str(made), REPO, "MY_TOKEN")
    assert (again.sent, again.there) == (0, len(contents(made))) and len(hub.commits) == before
    # What has changed is sent, also where its size has not.
    name = next(name for name in hub.files[REPO] if name.endswith(".parquet"))
    hub.files[REPO][name] = hub.files[REPO][name][::-1]
    hub.files[REPO]["README.md"] = hub.files[REPO]["README.md"][::-1]
    assert push.run(str(made), REPO, "MY_TOKEN").sent == 2 and hub.files[REPO] == contents(made)


def test_a_hub_that_fails_is_gone_on_with(made: Path, hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(push, "FILES", 1)
    hub.fails_after = 2
    with pytest.raises(EnvironmentFault, match=r"HTTP 503.*the same command goes on"):
        push.run(str(made), REPO, "MY_TOKEN")
    hub.fails_after = None
    pushed = push.run(str(made), REPO, "MY_TOKEN")
    assert pushed.there == 2 and hub.files[REPO] == contents(made)


def test_what_cannot_be_pushed_is_said(made: Path, hub: Hub, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="has no such variable"):
        push.run(str(made), REPO, "NO_TOKEN")
    monkeypatch.setenv("MY_TOKEN", "wrong")
    with pytest.raises(UserError, match=r"refuses the token in MY_TOKEN for someone/faces \(HTTP 401\)") as refused:
        push.run(str(made), REPO, "MY_TOKEN")
    assert "wrong" not in str(refused.value) and not isinstance(refused.value, EnvironmentFault)
    with pytest.raises(UserError, match="--repo a/b/c"):
        push.run(str(made), "a/b/c", "MY_TOKEN")
    small.make_here(small.job(*JOB), load_bundle("null"), tmp_path / "run")
    with pytest.raises(UserError, match="is not finished"):
        push.run(str(tmp_path / "run"), REPO, "MY_TOKEN")
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(EnvironmentFault, match="goes on"):
        push.run(str(made), REPO, "MY_TOKEN")
