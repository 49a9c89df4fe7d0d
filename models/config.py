"""Configuration files: YAML read into a pydantic model, edited by `a.b=c`, refused by name when something is wrong."""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar, get_args, get_origin

import yaml
from pydantic import BaseModel, ValidationError

from models.errors import UserError

Model = TypeVar("Model", bound=BaseModel)


Prepare = Callable[[dict[str, Any]], None]
"""What is done to the content of a file, in place, before it is edited."""


def read_config(model: type[Model], path: Path, edits: Sequence[str] = (), prepare: Prepare | None = None) -> Model:
    """Return the YAML file at `path` with `edits` (`key.key=value`, values in YAML) applied, checked as `model`.

    Raises:
        UserError: the file is missing or not YAML, or a key or value is wrong; every problem is listed by its key.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise UserError(f"{path} does not exist.") from None
    except UnicodeDecodeError:
        raise UserError(f"{path} is no text: a YAML file in UTF-8 is asked for.") from None
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}.") from None
    return parse_config(model, text, str(path), edits, prepare)


def parse_config(
    model: type[Model], text: str | bytes, where: str, edits: Sequence[str] = (), prepare: Prepare | None = None
) -> Model:
    """Return YAML `text` with `edits` applied, checked as `model`; errors name `where` it comes from."""
    try:
        content = parse_yaml(text)
    except yaml.YAMLError as error:
        raise UserError(f"{where} is not YAML: {error}") from None
    if not isinstance(content, dict):
        raise UserError(f"{where} must hold keys and values, not {type(content).__name__}.")
    if prepare:
        prepare(content)
    for edit in edits:
        apply_edit(content, edit)
    return check(model, content, where)


def check(model: type[Model], content: dict[str, Any], where: str) -> Model:
    """Return `content` as `model`; a UserError lists every wrong key of `where` with what was expected."""
    try:
        return model.model_validate(content)
    except ValidationError as error:
        lines = [f"  {_key(item['loc'])}: {_problem(item, model)}" for item in error.errors()]
        raise UserError(f"{where}:\n" + "\n".join(lines)) from None


def apply_edit(content: dict[str, Any], edit: str) -> None:
    """Apply one `a.b=c` to nested `content` in place; missing levels are made, so that `check` can name the key."""
    key, separator, text = edit.partition("=")
    if not separator or not key.strip():
        raise UserError(f"--set {edit!r}: write it as key=value, for example identities.count=100.")
    # Walk down to the mapping that holds the last key.
    *levels, last = key.strip().split(".")
    for depth, level in enumerate(levels, 1):
        inner = content.get(level)
        if inner is None:
            inner = content[level] = {}
        if isinstance(inner, list):
            path = ".".join(levels[:depth])
            raise UserError(f"--set {edit}: {path} is a list: give it whole, as in --set '{path}=[...]' in YAML.")
        if not isinstance(inner, dict):
            path = ".".join(levels[:depth])
            raise UserError(
                f"--set {edit}: {level} is a single value and has no key {last!r}; a mapping is given whole, as in "
                f"--set '{path}={{{last}: ...}}'."
            )
        content = inner
    try:
        content[last] = parse_yaml(text) if text else ""
    except yaml.YAMLError:
        raise UserError(f"--set {edit}: {text!r} is not YAML; put it in quotes: {key}='\"...\"'") from None


def parse_json(text: str | bytes) -> Any:
    """Return what JSON `text` holds. Raises a ValueError for what is none, or is nested deeper than Python counts."""
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("it is nested too deep") from None


def parse_yaml(text: str | bytes) -> Any:
    """Return what YAML `text` holds. Raises a YAMLError for what is none, or is nested deeper than Python counts."""
    try:
        return yaml.safe_load(text)
    except RecursionError:
        raise yaml.YAMLError("it is nested too deep") from None


def digest_of(*parts: object) -> str:
    """Return the first 16 hex digits of the SHA-256 of `parts` as canonical JSON."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()[:16]


def _key(location: tuple[int | str, ...]) -> str:
    """Return a key as a user writes it: a.b.c."""
    return ".".join(str(part) for part in location) or "(top level)"


def _problem(item: Any, model: type[BaseModel]) -> str:
    """Return what is wrong with one key, of an error as pydantic lists it."""
    if item["type"] == "extra_forbidden":
        known = ", ".join(_field_names(model, item["loc"][:-1]))
        return "unknown key" + (f"; known here: {known}" if known else "")
    if item["type"] == "missing":
        return "is missing"
    problem = item["msg"].removeprefix("Value error, ")
    return problem if isinstance(item["input"], dict) else f"{problem} (got {item['input']!r})"


def _field_names(model: Any, location: tuple[int | str, ...]) -> list[str]:
    """Return the field names at `location`, or nothing where that is not a plain nested model."""
    for part in location:
        field = getattr(model, "model_fields", {}).get(part)
        model = field.annotation if field else None
    return sorted(getattr(model, "model_fields", {}))


def sort_edits(edits: Sequence[str], models: Mapping[str, type[BaseModel]]) -> dict[str, list[str]]:
    """Return the edits by the file that they mean: `profile.writer.tasks=1`, or without a prefix the first that has the key.

    models: name of the file -> its model, in the order in which a bare key is looked for: first the whole path, then its
    first level, so that the file's own check names what is wrong below it.
    """
    result: dict[str, list[str]] = {name: [] for name in models}
    for edit in edits:
        path = edit.partition("=")[0].strip().split(".")
        # The file's own name before the key decides.
        if len(path) > 1 and path[0] in models and _known_levels(models[path[0]], path[1:]):
            result[path[0]].append(edit.strip()[len(path[0]) + 1 :])
            continue
        # Else the file that has most levels of the key.
        depths = {name: _known_levels(model, path) for name, model in models.items()}
        home = max(depths, key=lambda name: depths[name])  # of equals the first
        if not depths[home]:
            known = "; ".join(f"{name}: {', '.join(sorted(model.model_fields))}" for name, model in models.items())
            raise UserError(f"--set {edit}: no file has a key {path[0]!r}. Known: {known}.")
        result[home].append(edit.strip())
    return result


def _known_levels(model: Any, path: Sequence[str]) -> int:
    """Return how many levels of `path` a model, or a mapping, has: 0 for none."""
    if not path:
        return 0
    if model is Any:
        return len(path)
    if get_origin(model) is dict:
        return 1 + _known_levels(get_args(model)[1], path[1:])
    fields, named = getattr(model, "model_fields", {}), getattr(model, "NAMED", None)
    if path[0] in fields:
        return 1 + _known_levels(fields[path[0]].annotation, path[1:])
    # An entry by its name: thermal.weights.
    return 1 + _known_levels(named, path[1:]) if named and len(path) > 1 and path[1] in named.model_fields else 0
