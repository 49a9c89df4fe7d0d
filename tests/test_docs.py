"""The documentation names what is there: paths of the repository, modules, pages behind links, commands and their options."""

import re
import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path

import click
import pytest

from cluster.cli import cli

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
FOLDERS = "cluster|serve|pipelines|models|tests|docs|requirements"
PATH = re.compile(rf"(?<![\w./-])(?:{FOLDERS})/[\w.*/-]*[\w*/]")
"""`models/stages.py`, `docs/tfake`, `pipelines/profiles/*.yaml`."""
FILE = re.compile(r"(?<![\w./*-])\w+\.py\b")
"""`item.py`: a file somewhere in the repository."""
MODULE = re.compile(rf"(?<![\w./-])(?:{FOLDERS})(?:\.[a-z_]+)+(?![\w/])")
"""`pipelines.rows.document`, `serve.client`."""
LINK = re.compile(r"\]\((?!https?:)([^)#\s]+)")
NOT_MODULES = {".md", ".json", ".yaml", ".yml"}
"""Ends of files that have a folder's name: `serve.yaml`."""


def names_in(page: str) -> Iterator[str]:
    """Yield the paths, bare file names and modules that the text of a page names; paths and modules as glob patterns.

    A word in capitals stands for any name (`cluster/commands/NAME.py`), `...` for any folders.
    """
    for path in PATH.findall(page):
        yield re.sub(r"\b[A-Z]{2,}\b", "*", path.replace("...", "**")).rstrip("/")
    yield from FILE.findall(page)
    for module in MODULE.findall(page):
        if not any(module.endswith(end) for end in NOT_MODULES):
            yield module.replace(".", "/") + "*"  # a module is a file, a package is a folder


def missing_in(page: str) -> list[str]:
    """Return the patterns of `names_in` that no file or folder of the repository fits."""
    return sorted(name for name in set(names_in(page)) if not _is_there(name))


def _is_there(name: str) -> bool:
    if name.endswith(".py") and "/" not in name:
        return any(True for folder in FOLDERS.split("|") for _ in (ROOT / folder).rglob(name))
    return any(ROOT.glob(name))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_what_a_page_names_exists(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    broken = [link for link in LINK.findall(text) if not (page.parent / link).exists()]
    assert (missing_in(text), broken) == ([], [])


def test_a_name_that_moved_away_is_noticed() -> None:
    """The patterns find what they are for: else the test above would pass everything."""
    there = (
        "`models/stages.py`, `cluster/commands/NAME.py`, `tests/models/.../test_task.py`, `pipelines/profiles/*.yaml`"
    )
    assert (
        missing_in(there + " `python -m pipelines.rows.document`, `serve.client`, serve.yaml, `item.py`, `models/`")
        == []
    )
    gone = "`models/gone.py`, (`gone.py`), `docs/gone/`, `python -m pipelines.gone`, `pipelines/gone/*.yaml`"
    assert missing_in(gone) == ["docs/gone", "gone.py", "models/gone.py", "pipelines/gone*", "pipelines/gone/*.yaml"]


def command_lines(page: str) -> Iterator[str]:
    """Yield the `thermapair` lines of a page's code blocks, continued ones whole, without comments."""
    for block in re.findall(r"^```\w*\n(.*?)^```", page, re.MULTILINE | re.DOTALL):
        for line in block.replace("\\\n", " ").splitlines():
            for words in re.split(r" && | > | \| ", line.partition("  #")[0].partition("   #")[0]):
                if re.match(r"(\.venv/bin/)?thermapair ", words.strip()):
                    yield words.strip()


def parse(words: Sequence[str], shortened: bool, command: click.Command = cli) -> None:
    """Parse the words of a command as it would itself. shortened: `...` stands for options of a line before."""
    try:
        context = command.make_context(command.name, list(words))
    except click.MissingParameter:
        assert shortened
        return
    except click.BadParameter as error:
        if not str(error).endswith("does not exist."):  # the reader's own files
            raise
        return
    # A command of a group, and one that is to run on a cluster.
    rest = [*context._protected_args, *context.args]
    if isinstance(command, click.Group) and rest:
        assert rest[0] in command.commands, f"no command {rest[0]!r}; there are: {', '.join(command.commands)}"
        parse(rest[1:], shortened, command.commands[rest[0]])
    elif "--" in words:
        parse(words[words.index("--") + 1 :], shortened)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_commands_of_a_page_are_understood(page: Path) -> None:
    for line in command_lines(page.read_text(encoding="utf-8")):
        words = shlex.split(line)[1:]
        try:
            parse([word for word in words if word != "..."], "..." in words)
        except (click.UsageError, AssertionError) as error:
            pytest.fail(f"{line}: {error}")


def test_a_command_that_is_not_understood_is_noticed() -> None:
    page = "```\nthermapair generate --out x \\\n    --jbo demo   # a comment\n```\nthermapair nothing in the text"
    (line,) = command_lines(page)
    with pytest.raises(click.NoSuchOption, match="--jbo"):
        parse(shlex.split(line)[1:], False)
    with pytest.raises(AssertionError):
        parse(["thermalize"], False)
    with pytest.raises(AssertionError, match="no command 'gone'"):
        parse(["gone"], False)
    with pytest.raises(click.NoSuchOption):
        parse(["submit", "--", "generate", "--out", "x", "--gone", "y"], False)
