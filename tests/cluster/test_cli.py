"""The command line: quick to start, one message for an error, exit codes that a script can act on."""

import errno
import inspect
import subprocess
import sys
from pathlib import Path

import click
import pytest
from PIL import Image
from ray.exceptions import RayTaskError

from cluster import cli
from cluster.manifests.render import documents
from cluster.submission.working_dir import RayCommand
from models.errors import EnvironmentFault, Interrupted, UserError
from models.weights.store import ROOT
from pipelines import landmarks, train, world
from pipelines.config.gather import GatherJob
from pipelines.config.request import load_thermalize
from pipelines.config.thermalize import ThermalizeJob
from pipelines.config.world import WorldJob


def run(*args: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "cluster", *args], capture_output=True, text=True, timeout=120)


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> dict[str, BaseException]:
    """A subcommand `fail` that raises what the test puts under "error"."""
    raised: dict[str, BaseException] = {}

    @click.command("fail")
    def fail() -> None:
        raise raised["error"]

    monkeypatch.setitem(cli.cli.commands, "fail", fail)
    return raised


def test_help_imports_nothing_heavy() -> None:
    script = (
        "import sys; from cluster.cli import main; main(['--help']); "
        "print(sorted({'torch', 'ray', 'vllm', 'numpy', 'pyarrow'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0
    assert done.stdout.splitlines()[-1] == "[]"
    assert "generate" in done.stdout


def test_console_script_is_the_module() -> None:
    from importlib.metadata import entry_points

    (script,) = entry_points(group="console_scripts", name="thermapair")
    assert script.load() is cli.entry


@pytest.mark.parametrize("name", sorted(cli.cli.commands))
def test_every_subcommand_explains_itself(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([name, "--help"]) == 0
    text = capsys.readouterr().out
    assert text.startswith(f"Usage: thermapair {name}")
    command = cli.cli.commands[name]
    for option in (param for param in command.params if isinstance(param, click.Option)):
        assert option.help, f"{name} {option.opts} says nothing"


PASSED_ON = {
    "gather": (GatherJob.model_fields, "bundle local out overrides profile registration"),
    "landmarks find": (inspect.signature(landmarks.find).parameters, "search multi uncertainty_factor upsample_factor"),
    "manifest": (inspect.signature(documents).parameters, "count cpus gpus time options setup region"),
    "thermalize": ({*inspect.signature(load_thermalize).parameters, *ThermalizeJob.model_fields}, "out"),
    "train": (inspect.signature(train.run).parameters, "reader protocol parser condition rows_per_person"),
    "world": ({*inspect.signature(world.run).parameters, *WorldJob.model_fields}, ""),
}
"""Commands that hand their options on by name -> where those names have to be known, and options that they keep."""


@pytest.mark.parametrize("name", PASSED_ON)
def test_options_that_are_handed_on_by_name_arrive(name: str) -> None:
    command: click.Command = cli.cli
    for word in name.split():
        assert isinstance(command, click.Group)
        command = command.commands[word]
    known, own = PASSED_ON[name]
    assert {str(param.name) for param in command.params} - set(own.split()) <= set(known)


def test_every_file_of_a_command_is_one() -> None:
    files = {path.stem for path in (ROOT / "cluster" / "commands").glob("*.py")} - {"__init__", "options"}
    renamed = {"imports": "import"}  # a word of Python's
    assert {renamed.get(name, name).replace("_", "-") for name in files} == set(cli.cli.commands)
    run_on_ray = {name for name, command in cli.cli.commands.items() if isinstance(command, RayCommand)}
    assert run_on_ray == {"embed", "export", "gather", "generate", "thermalize", "train", "translate", "world"}


@pytest.mark.parametrize(
    "args",
    [["no-such-command"], ["generate"], ["generate", "--out", "x", "--limit", "0"], ["world", "--count", "many"]],
)
def test_wrong_usage_exits_with_2_and_says_what(args: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(args) == 2
    assert "Error" in capsys.readouterr().err


@pytest.mark.parametrize(
    "words",
    [
        "measure parser --test x",
        "measure thermal --training x --test x",
        "measure landmarks --test x",
        "measure adapters --training x --test x",
        "landmarks find --images x --out x",
        "gather --layout plain --images photos --out x --bundle starter --local --set columns.visible=NAME",
        "train parser --data x --out x --bundle starter",
    ],
)
def test_a_bundle_may_be_edited_wherever_one_is_named(
    words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each edit points the part that the command reads to a folder that is not there."""
    monkeypatch.chdir(tmp_path)
    Path("photos").mkdir()
    Image.new("RGB", (64, 64)).save("photos/a.png")
    part = "landmarks" if "landmarks" in words or "adapters" in words else "thermal" if "thermal" in words else "parser"
    edit = f"{'bundle.' if words.startswith('train') else ''}{part}.weights=/no/such/weights"
    assert cli.main([*words.split(), "--set", edit]) != 0
    assert "/no/such/weights" in capsys.readouterr().err
    assert cli.main([*words.split(), "--set", "bundle.nobody=1"]) == 2
    assert "nobody" in capsys.readouterr().err


@pytest.mark.parametrize("words", ["gather --layout plain --images x --out x", "train parser --data x --out x"])
def test_edits_of_a_bundle_that_is_not_named_are_refused(words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([*words.split(), "--set", "bundle.parser.batch=2"]) == 2
    assert "--bundle" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (UserError("views.per_identity: 0 is under 1"), 2),
        (EnvironmentFault("s3://faces: access denied"), 75),
        (Interrupted("stopped after 40 of 96 rows; the same command resumes"), 75),
    ],
)
def test_an_expected_error_is_its_message(
    failing: dict[str, BaseException], error: UserError, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    failing["error"] = error
    assert cli.main(["fail"]) == code
    assert capsys.readouterr().err == f"Error: {error}\n"


def test_the_cause_inside_a_ray_task_counts(
    failing: dict[str, BaseException], capsys: pytest.CaptureFixture[str]
) -> None:
    cause = UserError("weights of 'visible' are missing")
    failing["error"] = RayTaskError("stage", "Traceback ...", cause).as_instanceof_cause()
    assert cli.main(["fail"]) == 2
    assert capsys.readouterr().err == "Error: weights of 'visible' are missing\n"


def test_a_full_disk_is_resumable_and_named(
    failing: dict[str, BaseException], capsys: pytest.CaptureFixture[str]
) -> None:
    failing["error"] = OSError(errno.ENOSPC, "No space left on device", "/data/part-3.parquet")
    assert cli.main(["fail"]) == 75
    text = capsys.readouterr().err
    assert "/data/part-3.parquet" in text
    assert "resumes" in text


def test_a_defect_is_one_line_and_its_traceback_on_request(
    failing: dict[str, BaseException], capsys: pytest.CaptureFixture[str]
) -> None:
    failing["error"] = ZeroDivisionError("division by zero")
    assert cli.main(["fail"]) == 1
    assert "Traceback" not in (text := capsys.readouterr().err)
    assert "ZeroDivisionError: division by zero" in text
    assert cli.main(["--debug", "fail"]) == 1
    assert "Traceback" in capsys.readouterr().err


def test_ctrl_c_outside_a_run(failing: dict[str, BaseException]) -> None:
    failing["error"] = KeyboardInterrupt()
    assert cli.main(["fail"]) == 130


def test_module_returns_the_exit_code() -> None:
    assert run("no-such-command").returncode == 2
    assert run("--version").returncode == 0
