"""The documentation names what is there: paths of the repository, modules, and pages behind links."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

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
