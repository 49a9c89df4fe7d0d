"""What to export: rows of any output, in a format that others read."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, field_validator

from models.columns import SPLITS

FormatName = Literal["webdataset", "images", "hf"]


class ExportJob(BaseModel):
    """Everything that may change a file."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["export"] = "export"
    data: str
    format: FormatName
    splits: tuple[str, ...] = SPLITS

    @field_validator("splits")
    @classmethod
    def _known(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if not value or (unknown := set(value) - set(SPLITS)):
            raise ValueError(f"{', '.join(sorted(unknown)) if value else 'no split'}: choose of {', '.join(SPLITS)}")
        return value
