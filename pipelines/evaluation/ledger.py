"""A ledger of finished measurements: one JSON line each, appended and never changed."""

import json
import os
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

Line = dict[str, Any]
C = TypeVar("C", bound=NamedTuple)


class Ledger:
    """The lines of `path`. A line that a killed run left unfinished is not counted, and ended before the next one."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def lines(self, digest: str) -> list[Line]:
        """Return the finished lines of the recipe `digest`; those of another recipe are left alone."""
        if not self.path.is_file():
            return []
        found = [_parse(text) for text in self.path.read_text(encoding="utf-8").splitlines()]
        return [line for line in found if line and line["digest"] == digest]

    def append(self, line: Line) -> None:
        """Write one line, on the disk when this returns."""
        text = json.dumps(line, allow_nan=True, separators=(",", ":")) + "\n"
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with open(self.path, "ab+") as file:
            if file.tell():
                file.seek(-1, os.SEEK_END)
                text = text if file.read(1) == b"\n" else "\n" + text
            file.write(text.encode())
            file.flush()
            os.fsync(file.fileno())


def cell_of(line: Line, kind: type[C]) -> C:
    """Return the cell that a line is of; kind: the type of cells, whose fields stand in the line."""
    return kind(*(line[name] for name in kind._fields))


def _parse(text: str) -> Line:
    try:
        line = json.loads(text)
    except ValueError:
        return {}
    return line if isinstance(line, dict) and {"digest", "table", "measures"} <= set(line) else {}
