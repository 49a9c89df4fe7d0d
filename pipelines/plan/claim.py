"""Whose output a folder is.

    _plan/run.json   version, recipe and its digest, bundle, the job as first asked

A folder that is free is claimed for a recipe; later runs are checked against it, and readers learn from it what was made.
"""

import json
from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from models.config import parse_json
from models.errors import EnvironmentFault, UserError
from models.weights.bundle import Bundle
from pipelines.config.recipe import VERSION, Recipe, check_same
from pipelines.plan.pieces import FOLDER
from pipelines.storage.commits import list_finished
from pipelines.storage.uri import Storage

RUN = "_plan/run.json"


def claim(out: Storage, recipe: Recipe, bundle: Bundle | None, job: Mapping[str, Any]) -> None:
    """Make `out` the output of `recipe`, or check that it is. Only the holder of the lease may.

    A run that failed before it planned anything holds nothing of value: `out` is free for another one.

    Raises:
        UserError: `out` holds something else: another recipe (what differs is named), another version, or files of others.
        EnvironmentFault: what says whose output it is is damaged.
    """
    # A folder with files of others is left alone.
    there = out.exists(RUN)
    if not there and (foreign := [name for name in out.list() if not name.startswith(("_plan/", "_lease/"))]):
        raise UserError(f"{out.uri} is not empty ({foreign[0]}, ...) and no output of ours; choose another --out.")
    # A free one is claimed.
    if not there or _is_blank(out):
        run = {
            "version": VERSION,
            "digest": recipe.digest,
            "recipe": recipe.model_dump(mode="json"),
            "job": dict(job),
            "bundle": bundle.model_dump(mode="json") if bundle else None,
            "bundle_folder": bundle.folder if bundle else "",
        }
        out.write(RUN, (json.dumps(run, indent=1) + "\n").encode())
    # What is there now must be this run.
    before = read_run(out)
    if before["job"]["kind"] != recipe.kind:
        raise UserError(f"{out.uri} is the output of `thermapair {before['job']['kind']}`, not of {recipe.kind}.")
    check_same(before.get("recipe") or {}, recipe, out.uri)


def _is_blank(out: Storage) -> bool:
    """Whether a run of this version was begun in `out` and stopped before it planned anything."""
    planned = any(name.endswith(".json") for name in out.list(FOLDER))
    return not planned and not list_finished(out) and read_run(out).get("version") == VERSION


def read_run(out: Storage) -> dict[str, Any]:
    """Return what `_plan/run.json` says, among it `digest` and `job` with its `kind`, and of this version its `recipe`.

    Raises:
        UserError: there is none. EnvironmentFault: it is damaged.
    """
    try:
        run = dict(parse_json(out.read(RUN)))
        # What all readers rely on must be there.
        _ = run["digest"], run["job"]["kind"]
        if run.get("version") == VERSION:
            _ = run["recipe"]["version"], [one["stage"] for one in run["recipe"]["stages"]]
        return run
    except FileNotFoundError:
        raise UserError(f"{out.uri} holds no run ({RUN} is missing).") from None
    except (ValueError, TypeError, KeyError):
        raise _damaged_run(out) from None


def _damaged_run(out: Storage) -> EnvironmentFault:
    return EnvironmentFault(
        f"{out.shown(RUN)} is damaged: without it nothing tells what this output is. Restore it from a copy, or make "
        "the output anew in another --out."
    )


def read_recipe(out: Storage) -> tuple[Recipe, Bundle]:
    """Return the recipe of the run in `out`, and its bundle with weights where they were then (without parts for none).

    Raises:
        UserError: there is no run, or another version's. EnvironmentFault: it is damaged.
    """
    run = read_run(out)
    if run.get("version") != VERSION:
        raise UserError(f"{out.uri} was made by another version: read it with the version that made it.")
    try:
        recipe = Recipe.model_validate(run["recipe"])
        bundle = Bundle.model_validate(run["bundle"] or {"name": "none", "size": recipe.size, "parts": {}})
        bundle._folder = run["bundle_folder"]
    except (ValidationError, KeyError):
        raise _damaged_run(out) from None
    return recipe, bundle
