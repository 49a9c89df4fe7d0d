"""Domains: which people, pictures and rooms a data set shows, and how far it lies from the common reference."""

import hashlib
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any, TypeVar, cast

import yaml
from annotated_types import Ge, Le
from pydantic import BaseModel, ValidationError

from models.errors import UserError
from models.synthworld.sampling.person import sample_person
from models.synthworld.sampling.ranges import Domain
from models.synthworld.sampling.scene import Scene
from models.synthworld.sampling.views import draw_environment, draw_view

FOLDER = Path(__file__).with_name("domains")
NAMES = ("fake", "lab", "field", "outdoor", "portrait", "rooms", "turned")
CONDITIONS = ("warm", "cold")

M = TypeVar("M", bound=BaseModel)


@cache
def load_domain(name: str | Path, gap: float = 1.0) -> Domain:
    """Return a domain of `domains/` by name, or the one that the YAML file at path `name` describes.

    A file says where the domain differs from `domains/reference.yaml`; `gap` in [0, 1.5] scales every such difference:
    at 0 all domains draw the same scenes, at 1 they are what their files say. Names and words switch at any gap > 0.
    Raises UserError for an unknown name, a file that does not fit, or a gap out of range.
    """
    if not 0.0 <= gap <= 1.5:
        raise UserError(f"gap must lie in 0..1.5, not {gap}")
    # One of the world's own domains, or the path of a YAML file.
    path = FOLDER / f"{name}.yaml" if str(name) in NAMES else Path(name)
    if path.suffix not in (".yaml", ".yml") or not path.is_file():
        raise UserError(f"no domain {str(name)!r}: give one of {', '.join(NAMES)} or the path of a YAML file")
    # The file overrides the reference; `gap` says how far to go from the reference towards it.
    common = _load_yaml(FOLDER / "reference.yaml")
    try:
        reference = Domain.model_validate(common)
        own = Domain.model_validate(_override(common, _load_yaml(path)))
        return _mix(reference, own, gap).model_copy(update={"name": own.name, "stands_for": own.stands_for})
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise UserError(f"{path.name}: {where}: {first['msg']}") from None


def sample_scene(domain: Domain, identity: int, view: int, condition: str) -> Scene:
    """Return picture `view` of person `identity` in `domain` under `condition` ("warm" or "cold").

    Shape, skin and colours belong to the identity; hair style, light, clothes, expression and pose to the view; only
    the surroundings to the condition, so both conditions of a view share one colour picture.
    """
    if condition not in CONDITIONS:
        raise UserError(f"unknown condition {condition!r}; known: {', '.join(CONDITIONS)}")
    person = sample_person(identity)
    # The domain covers a part of all skin tones.
    low, high = domain.people.tone
    person = replace(person, tone=min(1.0, max(0.0, low + (high - low) * person.tone)))
    surround = getattr(domain.conditions, condition)
    return Scene(
        person=person,
        view=draw_view(domain, person, view),
        environment=draw_environment(surround, person, view, condition),
        domain=domain.name,
        condition=condition,
    )


def digest(domain: Domain) -> str:
    """Return the SHA-256 (hex) of everything `domain` says. `domains/digests.yaml` lists the frozen ones."""
    return hashlib.sha256(domain.model_dump_json().encode()).hexdigest()


def _load_yaml(path: Path) -> dict[str, Any]:
    """Return the keys and values of a YAML file. Raises UserError for anything else."""
    try:
        content = yaml.safe_load(path.read_text())
    except yaml.YAMLError as error:
        raise UserError(f"{path} is not YAML: {error}") from None
    if not isinstance(content, dict):
        raise UserError(f"{path} must hold keys and values")
    return content


_WHOLE = {"expressions", "clothes", "patterns", "colours", "lightings", "backgrounds"}
"""Tables of weights: a domain that names one replaces all of it."""


def _override(common: dict[str, Any], own: dict[str, Any]) -> dict[str, Any]:
    """Return `common` with the values of `own`, key by key down to the leaves and to tables of weights."""
    merged = dict(common)
    for key, value in own.items():
        nested = isinstance(value, dict) and isinstance(common.get(key), dict) and key not in _WHOLE
        merged[key] = _override(common[key], value) if nested else value
    return merged


def _mix(reference: M, own: M, gap: float) -> M:
    """Return reference + gap (own - reference), number by number, within each number's bounds."""
    values: dict[str, Any] = {}
    for name, info in type(reference).model_fields.items():
        a, b = getattr(reference, name), getattr(own, name)
        # Numbers blend, wherever they stand: in parts, in weights (as shares), in ranges. Names and words switch.
        if isinstance(a, BaseModel):
            values[name] = _mix(a, b, gap)
        elif isinstance(a, dict):
            shares = [{k: w / sum(table.values()) for k, w in table.items()} for table in (a, b)]
            pairs = {k: (shares[0].get(k, 0.0), shares[1].get(k, 0.0)) for k in sorted({*a, *b})}
            values[name] = {k: max(0.0, _blend(*pair, gap)) for k, pair in pairs.items()}
        elif isinstance(a, tuple):
            values[name] = tuple(sorted(_blend(x, y, gap) for x, y in zip(a, b, strict=True)))
        elif isinstance(a, int | float):
            # Beyond a gap of 1, numbers stay within their bounds.
            mixed = _blend(a, b, gap)
            for bound in info.metadata:
                mixed = max(mixed, cast(float, bound.ge)) if isinstance(bound, Ge) else mixed
                mixed = min(mixed, cast(float, bound.le)) if isinstance(bound, Le) else mixed
            values[name] = round(mixed) if isinstance(a, int) else mixed
        else:
            values[name] = b if gap > 0.0 else a
    return type(reference).model_validate(values)


def _blend(a: float, b: float, gap: float) -> float:
    """Return a at 0 and exactly b at 1."""
    return b if gap == 1.0 else a + gap * (b - a)
