"""Who is shown in a picture of a folder or a Parquet file: by a folder's level, a pattern on the path, or a column."""

import re
from pathlib import PurePosixPath

COLUMN = "identity_id"
"""Column of a Parquet file that says who, unless another is named."""


def parse_person(text: str) -> tuple[str, str]:
    """Return (kind, value) of `folder:1`, `pattern:REGEX`, `column:NAME`; ("", "") for nothing. ValueError for anything else."""
    if not text:
        return "", ""
    # The kind, and a value that this kind can have.
    kind, _, value = text.partition(":")
    if kind == "folder" and value.isdigit() and int(value) > 0:
        return kind, value
    if kind == "column" and value:
        return kind, value
    if kind == "pattern" and value:
        try:
            re.compile(value)
        except re.error as error:
            raise ValueError(f"person: pattern {value!r} is no regular expression ({error})") from None
        return kind, value
    raise ValueError(
        f"person {text!r}: say folder:LEVEL (1 is the first below the images), pattern:REGEX or column:NAME"
    )


def person_of(text: str, path: str) -> str | None:
    """Return who the picture at `path` (below the images) shows by `text`, None where it does not say.

    A pattern's first group names the person, without a group the whole match.
    """
    kind, value = parse_person(text)
    if kind == "folder":
        folders = PurePosixPath(path).parts[:-1]
        return folders[int(value) - 1] if int(value) <= len(folders) else None
    if kind == "pattern" and (match := re.search(value, path)):
        return match.group(1) if match.re.groups else match.group(0)
    return None
