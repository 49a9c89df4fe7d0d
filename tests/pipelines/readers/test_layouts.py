"""Folders that are of no layout, or not of the one that was named."""

from pathlib import Path

import pytest

from models.errors import UserError
from tests.pipelines.readers.layouts import job, plain, read_rows


def test_folders_that_are_no_data_set_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="does not exist"):
        read_rows(job("sejong", tmp_path / "nowhere"))
    with pytest.raises(UserError, match="is empty"):
        read_rows(job("sejong", tmp_path))
    (tmp_path / "notes.txt").write_text("hello")
    for layout, words in (
        ("facesynthetics", "no FaceSynthetics"), ("tfake", "no T-FAKE"), ("sejong", "no SEJONG"),
        ("charlotte", "no CHARLOTTE"), ("plain", "say where pictures are"),
    ):  # fmt: skip
        with pytest.raises(UserError, match=words):
            read_rows(job(layout, tmp_path))
    with pytest.raises(UserError, match="holds no file like NAME.png"):
        read_rows(plain(tmp_path, visible="NAME.png"))
    with pytest.raises(UserError, match="lacks the word NAME"):
        read_rows(plain(tmp_path, visible="*.png"))
    for wrong in ({"unit": "grey"}, {"thermal": "x"}, {"columns": {"visible": "NAME.jpg"}}):
        with pytest.raises(ValueError, match="layout"):
            job("sejong", tmp_path, **wrong)
