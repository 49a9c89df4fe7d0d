"""The `thermapair` command: its subcommands, and the one place where an error becomes a message and an exit code.

Exit codes: 0 done; 1 a defect of ours, or a row that `inspect` made differently; 2 wrong input or configuration; 3 a ceiling
of the job (`stop`) is reached, with finished work kept; 75 (EX_TEMPFAIL) stopped with finished work kept, the same command
resumes it; 130 stopped by Ctrl-C before there was anything to keep.
"""

import errno
import importlib
import logging
import os
import pkgutil
import sys
import traceback
from collections.abc import Sequence
from contextlib import suppress
from typing import NoReturn

import click

from cluster import commands
from models.errors import EnvironmentFault, UserError


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(package_name="thermapair")
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
@click.option("--needs", metavar="NAME", multiple=True, help="Environment variable without which not to start.")
def cli(debug: bool, needs: tuple[str, ...]) -> None:
    """Paired visible and thermal faces on Ray: make them, train on them, serve them."""
    if lacking := [name for name in needs if not os.environ.get(name)]:
        raise UserError(
            f"the environment lacks {', '.join(lacking)}. On a cluster its nodes must provide it: a secret named in "
            "envFrom or secretKeyRef (`thermapair manifest --secret`), or the environment of `ray start`."
        )


# Every file of `cluster/commands` but the shared options is a command.
for found in pkgutil.iter_modules(commands.__path__, f"{commands.__name__}."):
    if not found.name.endswith(".options"):
        cli.add_command(importlib.import_module(found.name).command)


def entry() -> NoReturn:
    """The console script."""
    code = main()
    # What a run leaves behind in threads is not waited for; where nothing was run there is nothing of it.
    if "pipelines.run.interrupts" in sys.modules:
        from pipelines.run.interrupts import leave

        leave(code)
    sys.exit(code)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command line (without the program's name) and return its exit code."""
    # What is logged: a run says where it is, and Ray Data's operators are quiet, but for --debug.
    args = list(sys.argv[1:] if argv is None else argv)
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    logging.getLogger("pipelines").setLevel(logging.INFO)
    if "--debug" not in args:
        os.environ.setdefault("RAY_DATA_LOG_LEVEL", "WARNING")  # else every ten seconds a screen of its operators
    # The command; click's own errors are of usage, every other one is reported below.
    try:
        return cli.main(args=args, prog_name="thermapair", standalone_mode=False) or 0
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        click.secho("Stopped.", fg="yellow", err=True)
        return 130
    except Exception as error:
        if "--debug" in args:
            traceback.print_exc()
        with suppress(OSError):  # of a terminal that is gone: the exit code says it still
            return report(error)
        return getattr(error, "exit_code", 1)


def report(error: BaseException) -> int:
    """Print one message and return the exit code it calls for."""
    # An error that came through Ray is its cause; Ray's wrapper is of its cause's class, too.
    if not isinstance(error, UserError) or hasattr(error, "cause"):
        from pipelines.run.faults import cause_of  # imports torch, which most errors need not wait for

        error = cause_of(error)
    # A full disk and a failing storage are the environment's: with what is finished kept, the same command resumes.
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        where = error.filename or "the output's disk"
        error = EnvironmentFault(
            f"{where}: {error.strerror}. Free some space, then repeat the same command: it resumes."
        )
    elif not isinstance(error, UserError):
        from pipelines.storage.errors import fault, remote

        if remote(error):
            error = fault(error, "the storage", "used")
    # What a user can act on is one message; anything else is a defect of ours.
    if isinstance(error, UserError):
        click.secho("Error: ", fg="red", bold=True, nl=False, err=True)
        click.echo(str(error), err=True)
        return error.exit_code
    click.secho("Defect: ", fg="red", bold=True, nl=False, err=True)
    click.echo(f"{type(error).__name__}: {error}", err=True)
    click.echo(
        "This should have been a clear message. --debug (before the subcommand) shows where it comes from.", err=True
    )
    return 1
