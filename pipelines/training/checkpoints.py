"""Checkpoints of a training run at a URI: the last and the best are kept.

checkpoints/step-0000600/{model,average,moments}.safetensors, state.json
checkpoints.json          {"last": ..., "best": ..., "score": ..., "data": ...}, written after the files it names
"""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from models.config import parse_json
from models.errors import EnvironmentFault, UserError
from pipelines.storage.uri import Storage

POINTER = "checkpoints.json"


class Checkpoints:
    """The checkpoints of the run at `out`. `data`: digest of the rows that it trains on; `unread`: what of them is damaged."""

    def __init__(self, out: Storage, data: str = "", unread: Sequence[str] = ()):
        self.out, self.data, self.unread = out, data, unread

    def pointer(self) -> dict[str, Any]:
        """Return what `checkpoints.json` says; empty before the first checkpoint."""
        try:
            return parse_json(self.out.read(POINTER))
        except FileNotFoundError:
            return {}
        except ValueError:
            raise EnvironmentFault(
                f"{self.out.shown(POINTER)} is damaged: repair it, or start over with --fresh"
            ) from None

    def save(self, folder: Path, step: int, score: float | None) -> None:
        """Keep a checkpoint folder; it becomes the last, and the best if `score` is the highest so far."""
        # Its files first: the pointer names only what is whole.
        before = self.pointer()
        name = f"checkpoints/{folder.name}"
        for file in sorted(folder.iterdir()):
            self.out.write(f"{name}/{file.name}", file.read_bytes())
        after = {**before, "last": name, "step": step, "data": self.data}
        if score is not None and score > before.get("score", float("-inf")):
            after |= {"best": name, "score": score}
        self.out.write(POINTER, json.dumps(after, indent=1).encode())
        # What neither is the last nor the best is not needed any more.
        shutil.rmtree(folder)
        kept = {after["last"], after.get("best")}
        for old in {str(Path(file).parent) for file in self.out.list("checkpoints")} - kept:
            self.out.fsspec.rm(self.out.path(old), recursive=True)

    def restore(self, scratch: Path, which: str = "last") -> Path | None:
        """Bring the last or best checkpoint into `scratch`; None before the first. Raises UserError for other data."""
        pointer = self.pointer()
        if which not in pointer:
            return None
        # Other rows would make another model of it: because some cannot be read now, or because the data set changed.
        if self.data and pointer["data"] != self.data:
            if self.unread:
                raise EnvironmentFault(
                    f"{self.out.uri} was trained on more rows than can be read now: {'; '.join(self.unread)}. With them "
                    "whole again the same command continues; without them, take another --out, or --fresh to start over"
                )
            raise UserError(
                f"{self.out.uri} was trained on other rows (digest {pointer['data']}, now {self.data}): the data set "
                "changed since; take another --out, or --fresh to start over"
            )
        folder = scratch / "restored" / Path(pointer[which]).name
        folder.mkdir(parents=True, exist_ok=True)
        for name in self.out.list(pointer[which]):
            (folder / Path(name).name).write_bytes(self.out.read(name))
        return folder

    def forget(self) -> None:
        """Delete everything of the run but its lease, which the caller holds."""
        for name in self.out.list():
            if not name.startswith("_lease/"):
                self.out.remove(name)
