"""Who is shown in a picture of a folder or a Parquet file, and what jobs share that see pictures of faces in another light."""

import re
from pathlib import PurePosixPath
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from pipelines.config.job import Encoding

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


class FacesJob(BaseModel):
    """Pictures of faces in, the same faces in another light out: what such jobs have in common."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    images: str
    person: str = ""
    """Who is shown: `folder:LEVEL`, `pattern:REGEX` on the path, or `column:NAME` of a Parquet (its identity_id by default)."""
    faces: int = Field(default=0, ge=0, le=64)
    """At most so many faces of a picture, each cut out as a row of its own; 0 takes every picture as one face."""
    margin: float = Field(default=0.5, ge=0, le=4)
    """What is left around a face that is cut out on every side, as a share of the longer side of its box."""
    size: int = Field(ge=32, le=4096, multiple_of=32)
    """Side of what is made, in pixels."""
    encoding: Encoding = Encoding()
    parts: dict[str, str] = {}
    settings: dict[str, dict[str, Any]] = {}
    partition_samples: int = Field(default=64, ge=1)
    limit: int | None = Field(default=None, ge=1)

    @field_validator("person")
    @classmethod
    def _check_person(cls, value: str) -> str:
        parse_person(value)
        return value

    @model_validator(mode="after")
    def _check_people(self) -> Self:
        if self.faces > 1 and self.person:
            raise ValueError("several faces of a picture are several people: --person goes with --faces 1 alone")
        return self
