"""Do the fast tests notice small faults? `python -m tests.benchmarks.mutants [--count 100] [--seed 0] [--only gates bundle]`.

A mutant is a core module with one fault: a comparison, operator, number or truth value changed, a condition turned round, a
guard or a call left out. `--seed` draws `--count` of all that there are, and each is run against the fast tests nearest to
its module that run its line, until one fails. Those that none notices are printed with what was changed; some of them are
equivalent to the module, which only a reader can tell. Exit code 1 for a share of noticed mutants below `--least`.

No file is changed: each run is a fork of this process whose imports take the mutant for the module. What the tests import
from other projects is imported before, once. Which test runs which line is found out without a fault.
"""

import argparse
import ast
import contextlib
import difflib
import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import itertools
import os
import pickle
import random
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import CodeType, FrameType
from typing import Any, NoReturn

import pytest
from hypothesis import settings

import tests.conftest  # noqa: F401 (sets what libraries must find when they are imported)

ROOT = Path(__file__).resolve().parent.parent.parent
ROOMS = ("models", "pipelines", "serve", "cluster", "tests")
CORE = (
    "pipelines/plan/*.py", "pipelines/plan/people/*.py", "pipelines/storage/commits.py", "pipelines/storage/lease.py",
    "pipelines/run/chain.py", "pipelines/run/writer.py", "pipelines/config/*.py", "pipelines/captions/*.py",
    "models/captions/*.py", "models/config.py", "models/gates/*.py", "models/weights/bundle.py", "models/weights/store.py",
    "models/thermal/losses.py", "models/landmarks/detect.py", "models/diffusion/sample.py", "serve/http/codecs.py",
    "serve/pairs_request.py", "serve/request_body.py",
)  # fmt: skip
"""The modules that mutants are made of."""
NEAREST = {
    "pipelines/plan/thermalize.py": ("tests/pipelines/plan", "tests/pipelines/test_thermalize.py"),
    "pipelines/plan/photos.py": ("tests/pipelines/plan", "tests/pipelines/test_thermalize.py"),
    "pipelines/plan/translate.py": ("tests/pipelines/test_translate.py",),
    "pipelines/plan/chains.py": ("tests/pipelines/plan/test_chains.py", "tests/pipelines/test_thermalize.py"),
    "pipelines/plan/embed.py": ("tests/pipelines/test_embed.py", "tests/pipelines/test_embed_thermal.py"),
    "pipelines/run/chain.py": tuple(f"tests/pipelines/run/test_{name}.py" for name in ("chain", "portraits", "cut")),
    "pipelines/plan/world.py": ("tests/pipelines/test_world.py",),
    "pipelines/plan/claim.py": ("tests/pipelines/plan", "tests/pipelines/run/test_extend.py"),
    "pipelines/plan/extend.py": ("tests/pipelines/plan", "tests/pipelines/run/test_extend.py"),
    "pipelines/plan/people": ("tests/pipelines/plan", "tests/pipelines/run/test_extend.py"),
    "pipelines/run/writer.py": ("tests/pipelines/run", "tests/pipelines/test_thermalize.py"),
    "pipelines/config/thermalize.py": ("tests/pipelines/config", "tests/pipelines/test_thermalize.py"),
    "pipelines/config/translate.py": ("tests/pipelines/config", "tests/pipelines/test_translate.py"),
    "pipelines/config/captions.py": ("tests/pipelines/config", "tests/pipelines/captions/test_look.py"),
    "pipelines/config/chat.py": ("tests/pipelines/captions/test_chat.py",),
    "pipelines/config/request.py": (
        "tests/pipelines/test_thermalize.py",
        "tests/pipelines/test_translate.py",
        "tests/pipelines/plan/test_samples.py",
        "tests/cluster/test_requests.py",
    ),
    "pipelines/config": (
        "tests/pipelines/config",
        "tests/pipelines/plan/test_samples.py",
        "tests/cluster/test_requests.py",
    ),
    "models/captions/prompt.py": ("tests/models/captions",),
    "models/captions/tokenizer.py": ("tests/models/captions",),
    "models/captions/lexicon.py": ("tests/pipelines/captions/test_read.py",),
    "models/captions/free_prompts.py": (
        "tests/pipelines/captions/test_read.py",
        "tests/pipelines/captions/test_invent.py",
    ),
    "models/captions/answers.py": (
        "tests/models/captions/test_captioner.py",
        "tests/pipelines/captions/test_read.py",
        "tests/pipelines/captions/test_invent.py",
    ),
    "models/captions": ("tests/models/captions/test_grammar.py", "tests/pipelines/captions/test_captions.py"),
    "models/thermal/losses.py": ("tests/models/thermal/test_losses.py", "tests/models/thermal/test_released.py"),
    "models/gates": ("tests/models/gates", "tests/models/test_stages.py"),
    "models/weights/bundle.py": ("tests/models/weights", "tests/pipelines/config"),
}
"""Where the tests of a module lie, or of a folder, if not in the file or folder that mirrors it."""
COMPARISONS: dict[type, type] = {
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq,
    ast.In: ast.NotIn, ast.NotIn: ast.In, ast.Is: ast.IsNot, ast.IsNot: ast.Is,
}  # fmt: skip
OPERATORS: dict[type, type] = {
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult, ast.FloorDiv: ast.Mult, ast.Mod: ast.Add,
    ast.Pow: ast.Mult, ast.BitAnd: ast.BitOr, ast.BitOr: ast.BitAnd, ast.LShift: ast.RShift, ast.RShift: ast.LShift,
}  # fmt: skip
NAMES = {"min": "max", "max": "min", "any": "all", "all": "any"}
QUIET = ("log.", "logging.", "warnings.", "print")
"""Calls whose words alone are lost with them."""
FORM = ("returns", "annotation", "decorator_list")
"""Fields of a node that say nothing of what is computed."""
GRACE = 60.0
"""Seconds that a mutant has beyond four times those of the module without a fault."""


Line = tuple[str, int]
"""A module's path and the number of a line of it."""


@dataclass(frozen=True)
class Site:
    """A place for a fault: the lines of its statement (of its head, where it has a body), and what puts the fault there."""

    lines: range
    apply: Callable[[], None]


@dataclass(frozen=True)
class Mutant:
    """A module, by its path below the root, and the number of the site whose fault it has."""

    path: str
    number: int

    def tree(self) -> ast.Module:
        """Return the module's syntax tree with the fault in it."""
        tree = ast.parse((ROOT / self.path).read_text())
        sites(tree)[self.number].apply()
        return ast.fix_missing_locations(tree)

    def lines(self) -> set[Line]:
        """Return the lines of the statement that has the fault."""
        return {(self.path, line) for line in sites(ast.parse((ROOT / self.path).read_text()))[self.number].lines}

    def diff(self) -> str:
        """Return where the fault is and what is changed, in the words of the tree."""
        tree = ast.parse((ROOT / self.path).read_text())
        before, after = (ast.unparse(one).splitlines() for one in (tree, self.tree()))
        lines = [
            line for line in difflib.unified_diff(before, after, n=0, lineterm="") if line[:3] not in ("---", "+++")
        ]
        changes = [f"    {line}" for line in lines if not line.startswith("@@")]
        return "\n".join([f"  {self.path}:{sites(tree)[self.number].lines.start}", *changes])


def sites(tree: ast.Module) -> list[Site]:
    """Return the places of `tree` for a fault, in order. Messages of errors, annotations and decorators have none."""
    left_out, lines = set[int](), dict[int, range]()
    for node in ast.walk(tree):
        parts = [node] if isinstance(node, ast.Raise | ast.JoinedStr) else []
        parts += [one for name in FORM for one in _as_list(getattr(node, name, None))]
        left_out |= {id(inner) for part in parts for inner in ast.walk(part)}
        if isinstance(node, ast.stmt):  # inner statements come after those around them
            body = getattr(node, "body", None)
            own = range(node.lineno, max(node.lineno, body[0].lineno - 1 if body else node.end_lineno or 0) + 1)
            lines |= dict.fromkeys((id(inner) for inner in ast.walk(node)), own)
    found = [(node, fault) for node in ast.walk(tree) if id(node) not in left_out for fault in _faults(node)]
    return [Site(lines[id(node)], fault) for node, fault in found]


def _as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [] if value is None else [value]


def _faults(node: Any) -> Iterator[Callable[[], None]]:
    """Yield what puts the faults that a node may have into its tree, each."""

    def change(name: str, value: object, of: Any = node) -> Callable[[], None]:
        return lambda: setattr(of, name, value)

    match node:
        case ast.Compare():
            for place, one in enumerate(node.ops):
                other = COMPARISONS[type(one)]()
                yield change("ops", [*node.ops[:place], other, *node.ops[place + 1 :]])
        case ast.BinOp() | ast.AugAssign() if type(node.op) in OPERATORS:
            yield change("op", OPERATORS[type(node.op)]())
        case ast.BoolOp():
            yield change("op", ast.Or() if isinstance(node.op, ast.And) else ast.And())
        case ast.UnaryOp(op=ast.USub()):
            yield change("op", ast.UAdd())
        case ast.UnaryOp(op=ast.Not()):
            yield change("operand", ast.UnaryOp(ast.Not(), node.operand))
        case ast.Constant(value=bool()):
            yield change("value", not node.value)
        case ast.Constant(value=int() | float() as number):
            yield change("value", number + 1 if isinstance(number, int) or not number else number * 2)
        case ast.Call(func=ast.Name() as called) if called.id in NAMES:
            yield change("id", NAMES[called.id], called)
        case ast.IfExp():
            yield lambda: node.__dict__.update(body=node.orelse, orelse=node.body)
        case ast.If(orelse=[], body=[*_, ast.Return() | ast.Raise() | ast.Continue() | ast.Break()]):
            yield change("test", ast.Constant(False))
        case ast.If() | ast.While():
            yield change("test", ast.UnaryOp(ast.Not(), node.test))
        case ast.Expr(value=ast.Call()) if not ast.unparse(node).startswith(QUIET):
            yield change("value", ast.Constant(None))


class MutantLoader(importlib.machinery.SourceFileLoader):
    """Has the code of a mutant for its module."""

    def __init__(self, mutant: Mutant) -> None:
        super().__init__(mutant.path.removesuffix(".py").replace("/", "."), str(ROOT / mutant.path))
        self.code = compile(mutant.tree(), mutant.path, "exec")

    def get_code(self, fullname: str) -> CodeType:
        """Return the mutant instead of what the file holds."""
        return self.code


class MutantFinder(importlib.abc.MetaPathFinder):
    """Finds the module of a mutant before anybody else does."""

    def __init__(self, mutant: Mutant) -> None:
        self.loader = MutantLoader(mutant)

    def find_spec(self, name: str, path: object, target: object = None) -> importlib.machinery.ModuleSpec | None:
        """Return what loads the mutant, for its name alone."""
        if name != self.loader.name:
            return None
        return importlib.util.spec_from_file_location(name, self.loader.path, loader=self.loader)


class Tracer:
    """A plugin of pytest that notes which lines of the core modules each test runs; those that many may depend on are shared:
    what is run on import and by fixtures of more than one test.
    """

    def __init__(self) -> None:
        self.paths = {str(ROOT / path): path for path in core_modules()}
        self.shared, self.of_test = set[Line](), dict[str, set[Line]]()
        self.now = self.shared

    def start(self) -> None:
        """Note lines from now on, in every thread."""
        threading.settrace(self._enter)
        sys.settrace(self._enter)

    def _enter(self, frame: FrameType, event: str, argument: object) -> Any:
        return self._note if frame.f_code.co_filename in self.paths else None

    def _note(self, frame: FrameType, event: str, argument: object) -> Any:
        if event == "line":
            self.now.add((self.paths[frame.f_code.co_filename], frame.f_lineno))
        return self._note

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[None]:
        """Note what one test runs."""
        self.now = self.of_test[item.nodeid] = set()
        result = yield
        self.now = self.shared
        return result

    @pytest.hookimpl(wrapper=True)
    def pytest_fixture_setup(self, fixturedef: Any) -> Iterator[None]:
        """Note what a fixture runs as shared, but for one of a single test."""
        before = self.now
        self.now = before if fixturedef.scope == "function" else self.shared
        result = yield
        self.now = before
        return result


@dataclass
class Plain:
    """What tests do without a fault: the seconds of all, the modules that they import, and the lines that they run."""

    seconds: float
    modules: list[str]
    shared: set[Line]
    of_test: dict[str, set[Line]]

    def choose(self, lines: set[Line], every: Sequence[str]) -> Sequence[str]:
        """Return the tests that may depend on `lines`: all where these are shared, maybe none."""
        if lines & self.shared:
            return every
        return [test for test, own in self.of_test.items() if lines & own]


def fork(work: Callable[[], int], limit: float) -> tuple[int | None, float]:
    """Return the exit status of `work`, run in a fork of this process, and its seconds; None where they are over `limit`."""
    began, status = time.monotonic(), None
    child = os.fork()
    if not child:
        _run_child(work)
    while not (ended := os.waitpid(child, os.WNOHANG))[0]:
        if time.monotonic() - began > limit:
            os.killpg(child, signal.SIGKILL)
            os.waitpid(child, 0)
            break
        time.sleep(0.01)
    else:
        status = ended[1]
    return status, time.monotonic() - began


def _run_child(work: Callable[[], int]) -> NoReturn:
    """Do `work` and end this process with what it returns, 1 for an error."""
    status = 1
    try:
        # A group of its own, so that what it starts ends with it; nobody listens.
        os.setsid()
        nowhere = os.open(os.devnull, os.O_RDWR)
        for stream in range(3):
            os.dup2(nowhere, stream)
        status = work()
    finally:
        os._exit(status)


def run_tests(tests: Sequence[str], *plugins: object) -> int:
    """Run the fast ones of `tests` in this process until one fails; returns 0 if none does."""
    return int(pytest.main(["-x", "-q", "-m", "not slow and not soak", "-p", "no:cacheprovider", *tests], plugins))


def run_plain(tests: Sequence[str]) -> Plain:
    """Return what tests do without a fault, and import here what they need of other projects.

    Raises SystemExit where they fail already.
    """
    with tempfile.TemporaryDirectory(prefix="mutants-") as folder:
        notes = Path(folder, "notes.pickle")

        def work() -> int:
            tracer = Tracer()
            tracer.start()
            status = run_tests(tests, tracer)
            notes.write_bytes(pickle.dumps(Plain(0, list(sys.modules), tracer.shared, tracer.of_test)))
            return status

        status, seconds = fork(work, 3600)
        if status:
            raise SystemExit(f"{' '.join(tests)}: a test fails without any fault")
        plain: Plain = pickle.loads(notes.read_bytes())  # noqa: S301 (written just now)
    for name in plain.modules:
        if name.partition(".")[0] not in ROOMS and name not in sys.modules:
            with contextlib.suppress(Exception):  # some have made themselves, and others are of tests alone
                importlib.import_module(name)
    return replace(plain, seconds=seconds)


def is_noticed(mutant: Mutant, tests: Sequence[str], limit: float) -> bool:
    """Return whether one of `tests` fails with the mutant in place of its module, or goes on for more than `limit` seconds."""

    def work() -> int:
        sys.meta_path.insert(0, MutantFinder(mutant))
        return run_tests(tests)

    return bool(tests) and fork(work, limit)[0] != 0


def nearest(path: str) -> tuple[str, ...]:
    """Return the tests nearest to a module: as `NEAREST` says, else the file that mirrors it, or the first folder
    above it that is there."""
    for place in (path, *map(str, Path(path).parents)):
        if place in NEAREST:
            return NEAREST[place]
    mirror = Path("tests", path).with_name(f"test_{Path(path).name}")
    there = [place for place in (mirror, *mirror.parents) if (ROOT / place).exists()]
    return (str(there[0]),)


def core_modules() -> list[str]:
    """Return the paths of the core modules."""
    return sorted({str(path.relative_to(ROOT)) for pattern in CORE for path in ROOT.glob(pattern)})


def draw(count: int, seed: int, only: Sequence[str]) -> list[Mutant]:
    """Return `count` of all mutants of the core modules, of those whose path holds one of `only`; neighbours together."""
    chosen = [path for path in core_modules() if not only or any(word in path for word in only)]
    every = [
        Mutant(path, number) for path in chosen for number in range(len(sites(ast.parse((ROOT / path).read_text()))))
    ]
    print(f"{len(chosen)} modules, {len(every)} mutants; {min(count, len(every))} drawn with seed {seed}", flush=True)
    drawn = random.Random(seed).sample(every, min(count, len(every)))
    return sorted(drawn, key=lambda one: (nearest(one.path), one.path, one.number))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="+", default=[], help="words of which a module's path must hold one")
    parser.add_argument("--least", type=float, default=0.85, help="share that must be noticed")
    args = parser.parse_args()
    os.chdir(ROOT)
    settings.register_profile("mutants", deadline=None, database=None, derandomize=True)
    settings.load_profile("mutants")
    # Module after module, those with the same tests behind each other.
    plain, count, noticed = dict[tuple[str, ...], Plain](), 0, 0
    for path, group in itertools.groupby(draw(args.count, args.seed, args.only), key=lambda mutant: mutant.path):
        mutants, tests = list(group), nearest(path)
        if tests not in plain:
            plain[tests] = run_plain(tests)
        missed = [mutant for mutant in mutants if not try_mutant(mutant, tests, plain[tests])]
        count, noticed = count + len(mutants), noticed + len(mutants) - len(missed)
        print(f"{len(mutants) - len(missed):4d} of {len(mutants):4d}  {path}", flush=True)
    share = noticed / max(1, count)
    print(f"noticed {noticed} of {count}, {share:.0%}")
    raise SystemExit(share < args.least)


def try_mutant(mutant: Mutant, tests: tuple[str, ...], plain: Plain) -> bool:
    """Return whether a mutant is noticed; one that is missed is printed."""
    chosen = plain.choose(mutant.lines(), tests)
    noticed = is_noticed(mutant, chosen, GRACE + 4 * plain.seconds)
    if not noticed:
        print(f"missed by {' '.join(tests)}{'' if chosen else ', which never run it'}\n{mutant.diff()}", flush=True)
    return noticed


if __name__ == "__main__":
    main()
