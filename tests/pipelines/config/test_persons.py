"""Who a picture shows: by a folder, a pattern or a column, and what is no such text."""

import pytest

from pipelines.config.persons import parse_person, person_of


@pytest.mark.parametrize(
    ("text", "path", "person"),
    [
        ("folder:1", "ann/monday/1.png", "ann"),
        ("folder:2", "ann/monday/1.png", "monday"),
        ("folder:3", "ann/monday/1.png", None),
        ("folder:1", "1.png", None),
        (r"pattern:S(\d+)_", "more/S12_left.png", "12"),
        ("pattern:S[0-9]+", "more/S12_left.png", "S12"),
        ("pattern:T[0-9]+", "more/S12_left.png", None),
        ("column:who", "ann/1.png", None),
    ],
)
def test_a_path_says_who_is_shown(text: str, path: str, person: str | None) -> None:
    assert person_of(text, path) == person


@pytest.mark.parametrize("text", ["folder:0", "folder:x", "pattern:", "pattern:(", "nobody", "column:"])
def test_what_says_nobody_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="person"):
        parse_person(text)
