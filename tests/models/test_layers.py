"""Conditions have one text each, and layers one name each."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from models.layers import DEGREES, Conditions, Draws, Layer, check_words, degrees_of, layers_of, parse_condition

ROOMS = st.floats(*DEGREES)
WORDS = st.from_regex(r"[a-z][a-z0-9_-]{0,39}", fullmatch=True)
CONDITIONS = st.one_of(ROOMS, st.integers(-60, 80), WORDS)
LAYERS = st.builds(Layer, CONDITIONS.map(parse_condition), st.integers(0, 63))


@given(CONDITIONS)
@example(-0.0)
@example("nan")
def test_the_text_of_a_condition_is_its_own_text(value: object) -> None:
    text = parse_condition(value)
    assert parse_condition(text) == parse_condition(f" {text} ") == text
    assert (degrees_of(text) is None) == isinstance(value, str)


@given(ROOMS)
@example(-60.0)
@example(80.0)
def test_a_room_keeps_its_degrees(room: float) -> None:
    text = parse_condition(room)
    assert parse_condition(str(room)) == text
    degrees = degrees_of(text)
    assert degrees is not None and degrees == pytest.approx(room, rel=1e-5, abs=1e-9)
    assert DEGREES[0] <= degrees <= DEGREES[1]


@given(st.integers(*map(int, DEGREES)))
def test_numbers_of_any_type_are_one_condition(room: int) -> None:
    assert {parse_condition(value) for value in (room, float(room), f"{room}.0", str(room))} == {str(room)}


@given(WORDS)
def test_words_stay_words(word: str) -> None:
    assert parse_condition(word) == word and degrees_of(word) is None


@pytest.mark.parametrize("value", ["Warm", "", "wärm", "two words", "a" * 41, "warm\n1", None, True, [1], "1,5"])
def test_what_is_neither_word_nor_room_is_refused(value: object) -> None:
    with pytest.raises(ValueError, match="neither a word in lower case nor degrees Celsius"):
        parse_condition(value)


@pytest.mark.parametrize("value", [80.01, -60.5, 1e9, "300", float("nan"), float("inf"), "-inf", "+nan"])
def test_rooms_nobody_sits_in_are_refused(value: object) -> None:
    with pytest.raises(ValueError, match="a room of -60 to 80 degrees Celsius is asked for"):
        parse_condition(value)


@given(st.lists(LAYERS, unique=True, max_size=30))
@example([Layer("22", 5), Layer("22.5")])
@example([Layer("0", 5), Layer("0.5")])
@example([Layer("22.5", 1), Layer("22.51")])
def test_no_two_layers_share_a_name(layers: list[Layer]) -> None:
    assert len({layer.name for layer in layers}) == len(layers)


def test_minus_zero_is_zero() -> None:
    assert parse_condition(-0.0) == parse_condition("-0") == "0"


def test_names_of_layers() -> None:
    found = [layer.name for layer in (Layer("warm"), Layer("warm", 1), Layer("22.5"), Layer("22.5", 2), Layer("22", 3))]
    assert found == ["warm", "warm.1", "22.5", "22.5.2", "22.0.3"]


def test_layers_lie_condition_by_condition() -> None:
    assert layers_of(["warm", "22"], 2) == (("warm", 0), ("warm", 1), ("22", 0), ("22", 1))
    assert layers_of(["warm"]) == (Layer("warm", 0),)


def test_conditions_of_a_configuration() -> None:
    parse = TypeAdapter(Conditions).validate_python
    assert parse(["warm", 22.0, "-5"]) == ("warm", "22", "-5")
    for wrong in ([], ["warm", "warm"], [22, "22.0"], "warm", 22, None, {}):
        with pytest.raises(
            ValidationError, match=r"name one or more different conditions, as in \[warm, cold, 22\.5\]"
        ):
            parse(wrong)
    with pytest.raises(ValidationError, match="condition 'True' is neither"):  # YAML's `on`
        parse([True])


@pytest.mark.parametrize("draws", [0, 65])
def test_draws_have_limits(draws: int) -> None:
    with pytest.raises(ValidationError):
        TypeAdapter(Draws).validate_python(draws)


def test_a_part_of_words_says_what_it_cannot_make() -> None:
    known = ["warm", "cold"]
    check_words(layers_of(known), known, "this part")
    check_words(layers_of(known, 3), known, "this part", random=True)
    with pytest.raises(ValueError, match="^this part knows no condition 'hot'; it has: warm, cold$"):
        check_words(layers_of(["warm", "hot"]), known, "this part")
    with pytest.raises(ValueError, match="^this part knows no room in degrees, so not '22.5'; it has: warm, cold$"):
        check_words(layers_of(["22.5"]), known, "this part")
    with pytest.raises(
        ValueError, match="^this part makes one picture of a condition, always the same: samples has to be 1"
    ):
        check_words(layers_of(["warm"], 2), known, "this part")
