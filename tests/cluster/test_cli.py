"""The command line: quick to start, one message for an error, exit codes that a script can act on."""

import errno
import subprocess
import sys

import click
import pytest
from ray.exceptions import RayTaskError

from cluster import cli
from models.errors import EnvironmentFault, Interrupted, UserError


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


@pytest.mark.parametrize(
    "args",
    [["no-such-command"], ["generate"], ["generate", "--out", "x", "--limit", "0"], ["world", "--count", "many"]],
)
def test_wrong_usage_exits_with_2_and_says_what(args: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(args) == 2
    assert "Error" in capsys.readouterr().err


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
