"""What to train on what: a job from a file and flags, its digest, and the claim of its output."""

import json
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict

from models.config import apply_edit, check, digest_of, read_config
from models.errors import UserError
from models.tasks import TASKS, Side, Task, TrainConfig, load
from models.weights.bundle import load_bundle
from models.weights.store import contents_digest
from pipelines.readers.frames import list_frames
from pipelines.rows.halves import Halves, open_pairs
from pipelines.rows.selection import require_commits
from pipelines.rows.shards import Shards
from pipelines.run.provenance import commit_of
from pipelines.storage.uri import Storage


class TrainJob(BaseModel):
    """What to train on what, in a YAML file or as flags. `config` holds the values of the task's `Config`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    task: str
    data: str = ""
    """Shards, several with commas; empty for a task that draws its rows itself."""
    validation: str | None = None
    config: dict[str, Any] = {}
    split: str = "train"
    """Split of the data that is trained on: train, validation, test, or all of them."""
    validation_split: str = "validation"
    """Split of the validation data that scores the weights."""
    limit: int | None = None
    """Use only so many rows of the data."""
    checkpoint_seconds: float = 180.0

    def load_task(self) -> tuple[Task, TrainConfig]:
        """Return the task's module and its full config; raises UserError for an unknown key or a wrong value."""
        task = load(self.task)
        if task.COLUMNS and not self.data:
            raise UserError(
                f"task {self.task} reads {', '.join(task.COLUMNS)}: name the shards that have them with --data"
            )
        return task, check(task.Config, self.config, f"task {self.task}")

    def digest(self) -> str:
        """Return the digest of everything that may change a weight: task, full config, the committed rows, what begins it.

        Raises UserError for data or weights that are not there.
        """
        task, config = self.load_task()
        rows = self._committed()
        # The weights that it begins with or looks at, by their bytes.
        paths = [Path(config.init)] if config.init else []
        paths += getattr(task, "weights", lambda config: [])(config)
        known = [contents_digest(path) for path in paths]
        return digest_of(self.task, config.model_dump(mode="json"), *rows, self.split, self.limit, *known)

    def data_digest(self) -> str:
        """Return the digest of the commit records of all rows that are trained on, empty where there are none.

        Raises UserError for data that are not there.
        """
        rows = self._committed()
        return digest_of(*rows) if any(rows) else ""

    def _committed(self) -> list[list[Any]]:
        """Return the committed rows of the main data and of every further source."""
        sides = sides_of(*self.load_task()).values()
        rows = [_committed_rows(self.data)] if self.data else [[]]
        return rows + [_committed_rows(side.uri) for side in sides if side.columns]

    def data_rows(self, **how: Any) -> Shards | Halves:
        """Return the rows that are trained on; `how` they are kept is for `Shards`. Raises UserError where there are none."""
        task, config = self.load_task()
        options = self._row_options(task, config, self.split, "--split")
        options["translated"] = getattr(task, "TAKES_TRANSLATED", False)
        return _open_rows(task, self.data, columns_of(task, config), **options, **how)

    def validation_rows(self, **how: Any) -> Shards | Halves:
        """Return the rows that score the weights; see `data_rows`."""
        task, config = self.load_task()
        columns = getattr(task, "VALIDATION_COLUMNS", columns_of(task, config))
        optional = getattr(task, "VALIDATION_OPTIONAL", ())
        options = self._row_options(task, config, self.validation_split, "--validation-split")
        return _open_rows(task, self.validation or "", columns, optional=optional, **options, **how)

    def _row_options(self, task: Task, config: TrainConfig, split: str, option: str) -> dict[str, Any]:
        """Return which rows the task takes, and who asks for them, as options of `Shards`."""
        takes_grey = getattr(task, "takes_grey", lambda config: False)
        colour = "visible" in task.COLUMNS and not takes_grey(config)
        return {
            "split": None if split == "all" else split,
            "colour": colour,
            "reader": f"task {self.task}",
            "option": option,
        }

    def check_rows(self) -> None:
        """Raise a UserError for rows or frames that are not there or not as the task reads them, and for weights that it cannot
        train, before anything is claimed.

        Of data sets it looks until it finds one row.
        """
        task, config = self.load_task()
        getattr(task, "check", lambda config: None)(config)
        if self.data and task.COLUMNS:
            _check_first(self.data_rows(limit=1, memory=0), getattr(task, "check_row", None), config)
        if self.validation:
            _check_first(self.validation_rows(limit=1, memory=0), getattr(task, "check_validation_row", None), config)
        for side in sides_of(task, config).values():
            if not side.columns:
                list_frames(Storage(side.uri))


def _check_first(rows: Shards | Halves, check_row: Callable[..., None] | None, config: TrainConfig) -> None:
    """Show a task one row, where it looks at any."""
    if check_row:
        check_row(rows.rows(np.zeros(1, np.int64)), config)


def _open_rows(task: Task, uri: str, columns: tuple[str, ...], **how: Any) -> Shards | Halves:
    """Return the rows at `uri`, halves joined where the task takes them."""
    if getattr(task, "TAKES_HALVES", False):
        return open_pairs(uri, columns, **how)
    return Shards(uri, columns, found=getattr(task, "FOUND", ()), **how)


def _committed_rows(uris: str) -> list[list[Any]]:
    return [[part, record.digest] for uri in uris.split(",") for part, record in require_commits(Storage(uri)).items()]


def columns_of(task: Task, config: TrainConfig) -> tuple[str, ...]:
    """Return the columns of the rows that a task is trained on."""
    return tuple(task.columns(config)) if hasattr(task, "columns") else task.COLUMNS


def sides_of(task: Task, config: TrainConfig) -> dict[str, Side]:
    """Return the sources of rows beside the main data that a task asks for."""
    sides = getattr(task, "sides", None)
    return sides(config) if sides else {}


def split_edits(edits: Sequence[str]) -> dict[str, list[str]]:
    """Return `key=value` edits by what they are of: `profile.KEY` and `bundle.KEY` without their prefix, the others `config`."""
    found: dict[str, list[str]] = {"config": [], "profile": [], "bundle": []}
    for edit in edits:
        prefix, _, rest = edit.partition(".")
        if prefix in ("profile", "bundle"):
            found[prefix].append(rest)
        else:
            found["config"].append(edit)
    return found


def resolve_job(
    given: dict[str, Any],
    job_file: Path | None = None,
    edits: Sequence[str] = (),
    bundle: str = "",
    bundle_edits: Sequence[str] = (),
) -> TrainJob:
    """Return the job of a file and of the flags `given` (None: not given), which take the place of what the file says.

    edits: `key=value` of the task's config. bundle: begin with the weights of this bundle's part, edited by `bundle_edits`.
    Raises UserError for what is wrong or not there.
    """
    # What is asked for: the file, and over it what was given.
    content = read_config(_JobFile, job_file).model_dump(exclude_none=True) if job_file else {}
    content |= {key: value for key, value in given.items() if value is not None}
    if "task" not in content:
        raise UserError("name a task, or a --job that names one")
    # The task's values: its defaults, over them the file's, the edits, and the weights of the bundle's part.
    values = defaults(load(content["task"]).Config)
    merge(values, content.get("config", {}))
    for edit in edits:
        apply_edit(values, edit)
    if bundle:
        values["init"] = str(part_of(content["task"], bundle, bundle_edits))
    elif bundle_edits:
        raise UserError(f"--set bundle.{bundle_edits[0]} is of a bundle: name the one to begin with by --bundle")
    # Checked and written out here, where a path means what its author means: workers run elsewhere.
    values = check(load(content["task"]).Config, values, f"task {content['task']}").model_dump(mode="json")
    uris = {
        key: ",".join(Storage(uri).uri for uri in content[key].split(","))
        for key in ("data", "validation")
        if content.get(key)
    }
    return TrainJob(**(content | uris | {"config": values}))


class _JobFile(BaseModel):
    """A `TrainJob` of which flags may give the rest."""

    model_config = ConfigDict(extra="forbid")

    task: str | None = None
    data: str | None = None
    validation: str | None = None
    config: dict[str, Any] | None = None
    split: str | None = None
    validation_split: str | None = None
    limit: int | None = None
    checkpoint_seconds: float | None = None


def merge(values: dict[str, Any], own: dict[str, Any]) -> None:
    """Put the nested values `own` over `values` in place, key by key."""
    for key, value in own.items():
        if isinstance(value, dict) and isinstance(values.get(key), dict):
            merge(values[key], value)
        else:
            values[key] = value


def part_of(task: str, bundle: str, edits: Sequence[str] = ()) -> Path:
    """Return the folder of the weights that `task` begins with, fetched and verified."""
    stage = getattr(load(task), "STAGE", None)
    if stage is None:
        known = [name for name in TASKS if hasattr(load(name), "STAGE")]
        raise UserError(f"--bundle: {task} begins with random weights; a bundle's are for {', '.join(known)}")
    return load_bundle(bundle, edits).main(stage).resolve()


def defaults(model: type[TrainConfig]) -> dict[str, Any]:
    """Return the default values of a config, nested, for edits to start from: an edit of one key keeps its neighbours."""
    given = {name: field.get_default(call_default_factory=True) for name, field in model.model_fields.items()}
    required = [name for name, field in model.model_fields.items() if field.is_required()]
    whole = model.model_construct(**given).model_dump(mode="json", warnings=False)
    return {name: value for name, value in whole.items() if name not in required}


def claim(job: TrainJob, digest: str, storage: Storage) -> None:
    """Write `run.json`, or check that the job of this digest is the one it names."""
    # What the run is, and beside it who started it when.
    config = job.load_task()[1]
    facts: dict[str, Any] = {"digest": digest, "task": job.task, "config": config.model_dump(mode="json")}
    facts |= job.model_dump(include={"data", "split", "validation", "validation_split", "limit"})
    facts |= {
        "commit": commit_of(),
        "command": " ".join(["thermapair", *sys.argv[1:]]),
        "started": time.strftime("%Y-%m-%d %H:%M:%S"),
    }
    # The first to claim the output wins; the same job goes on, and of another one what differs is named.
    if not storage.create("run.json", json.dumps(facts, indent=1).encode()):
        before = json.loads(storage.read("run.json"))
        if before["digest"] != facts["digest"]:
            changed = [key for key, value in facts["config"].items() if before["config"].get(key) != value]
            changed += [key for key in ("task", "data", "split", "limit") if before.get(key) != facts[key]]
            raise UserError(
                f"{storage.uri} holds another run (different: {', '.join(changed) or 'its rows, or weights it reads'}): "
                "give another --out, the values it was made with, or --fresh to start over"
            )
