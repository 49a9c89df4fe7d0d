"""What the rooms import is declared, what is declared is used, and the lock holds it."""

import re
import sys
import tomllib
from collections.abc import Iterable, Iterator
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.test_architecture import ROOMS, imports, sources

ROOT = Path(__file__).parent.parent
TEXT = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
PROJECT = tomllib.loads(TEXT)["project"]
EXPLAINED = set(re.findall(r'^    "([\w-]+)[^"]*",  # \w', TEXT, re.MULTILINE))
"""Declared with a reason beside it."""


def by_name(lines: Iterable[str]) -> dict[str, Requirement]:
    return {canonicalize_name(one.name): one for one in map(Requirement, lines)}


DECLARED, CPU = by_name(PROJECT["dependencies"]), by_name(PROJECT["optional-dependencies"]["cpu"])
BROUGHT = {"annotated-types": "pydantic", "httpx2": "huggingface-hub", "requests": "ray", "starlette": "fastapi"}
"""Imported without being declared: the API of what is declared speaks in its types and errors."""


def imported() -> Iterator[tuple[str, Path]]:
    """Yield (distribution, file) of every import of another project's module in the rooms."""
    owners = packages_distributions()
    for path in sources(*ROOMS):
        for module in imports(path):
            top = module.partition(".")[0]
            if top not in ROOMS and top not in sys.stdlib_module_names:
                names = owners.get(top)
                assert names, f"{path} imports {module}, which no installed distribution has"
                yield canonicalize_name(names[0]), path


def test_what_is_imported_is_declared() -> None:
    allowed = {*DECLARED, *CPU, *(name for name, owner in BROUGHT.items() if owner in DECLARED)}
    assert not {f"{path.relative_to(ROOT)}: {name}" for name, path in imported() if name not in allowed}


def test_what_is_declared_is_imported_or_says_what_for() -> None:
    used = {name for name, _ in imported()}
    assert set(DECLARED) - used == EXPLAINED & set(DECLARED)


@pytest.mark.parametrize("name", sorted({*DECLARED, *CPU}))
def test_the_lock_holds_what_is_declared(name: str) -> None:
    lines = (ROOT / "requirements" / "cpu.txt").read_text(encoding="utf-8").splitlines()
    locked = by_name(line for line in lines if not line.startswith("#"))
    (version,) = [one.version for one in locked[name].specifier]
    assert (DECLARED | CPU)[name].specifier.contains(version)
