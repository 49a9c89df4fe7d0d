"""Compare two outputs of `thermapair generate` by what people use of them, whatever their columns are called.

    python -m tests.compare_runs out/before out/after

Sample ids, captions, embeddings and landmarks, and the pixels of visible, thermal and class pictures have to be equal;
splits too. Names of columns, digests and provenance may differ. Exits with 1 and the differences where there are any.
"""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from pipelines.pictures.codecs import decode

TEXTS = ("sample_id", "identity_id", "caption", "caption_source", "split", "seed", "attempt", "view", "draw")
NUMBERS = ("embedding", "bbox", "keypoints", "landmarks_70", "landmarks_478", "pose")
PICTURES = ("visible", "thermal", "classes")


def rows_of(out: Path) -> dict[tuple[str, str], dict[str, Any]]:
    """Return the accepted rows of an output by (sample, condition)."""
    rows = [row for path in sorted((out / "data").glob("*.parquet")) for row in pq.read_table(path).to_pylist()]
    return {(row["sample_id"], row["condition"]): row for row in rows}


def differences(before: Path, after: Path) -> Iterator[str]:
    """Yield a line for everything in which two outputs differ."""
    old, new = rows_of(before), rows_of(after)
    for key in sorted(old.keys() ^ new.keys()):
        yield f"{key}: only in {before if key in old else after}"
    for key in sorted(old.keys() & new.keys()):
        a, b = old[key], new[key]
        yield from (f"{key} {name}: {a[name]!r} -> {b[name]!r}" for name in TEXTS if a[name] != b[name])
        for name in NUMBERS:
            if not np.array_equal(*(np.array(row[name], np.float32) for row in (a, b)), equal_nan=True):
                yield f"{key} {name}: other numbers"
        for name in PICTURES:
            one, other = decode(a[name]["bytes"]), decode(b[name]["bytes"])
            if one.shape != other.shape or (one != other).any():
                yield f"{key} {name}: other pixels"


def main(before: str, after: str) -> int:
    """Print the differences of two outputs and return the exit code."""
    count = len(rows_of(Path(before)))
    found = list(differences(Path(before), Path(after)))
    print("\n".join(found[:40]) or f"{count} pairs, all equal")
    return 1 if found or not count else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
