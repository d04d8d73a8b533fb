"""Where orjson is installed it writes the texts, and changes nothing but the time."""

from __future__ import annotations

import math
from collections.abc import Callable
from enum import Enum
from typing import Any

import pytest
from attrs import define
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from anysaga._errors import NotStorable
from anysaga._snapshot import codec_for
from anysaga._snapshot._text import dumps, dumps_bytes, quick_dumps

ANY_CHARACTER = st.text(st.characters(), max_size=8)
INTS = st.integers() | st.sampled_from([2**63 - 1, 2**63, 2**64 - 1, 2**64, -(2**63), -(2**63) - 1])


class Colour(Enum):
    RED = 1


@define
class Part:
    name: str
    count: int
    note: str | None
    either: int | str | bool
    colour: Colour


@define
class Whole:
    parts: list[Part]
    by_name: dict[str, Part]
    names: set[str]
    numbers: dict[int, bool]
    pair: tuple[str, int | None]


PARTS = st.builds(
    Part,
    ANY_CHARACTER,
    INTS,
    st.none() | ANY_CHARACTER,
    INTS | ANY_CHARACTER | st.booleans(),
    st.just(Colour.RED),
)
WHOLES = st.builds(
    Whole,
    st.lists(PARTS, max_size=3),
    st.dictionaries(ANY_CHARACTER, PARTS, max_size=3),
    st.sets(ANY_CHARACTER, max_size=3),
    st.dictionaries(INTS, st.booleans(), max_size=3),
    st.tuples(ANY_CHARACTER, st.none() | INTS),
)


def test_orjson_writes_where_it_is_installed() -> None:
    """Or the tests here compare the standard library with itself."""
    assert quick_dumps() is not dumps_bytes


@given(WHOLES)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_the_text_is_that_of_the_standard_library_and_so_is_a_refusal(value: Whole) -> None:
    """Letter by letter, or digests of a fleet would differ; and each single value is looked at either way."""
    codec = codec_for(Whole, where="it")
    refusal, expected = refusal_or_text(codec._encode_with_care, value, "it")

    assert refusal_or_text(codec.encode, value, where="it") == (refusal, expected)
    if not refusal:
        assert codec.decode(expected, where="it") == value


def refusal_or_text(encode: Callable[..., str], *given: object, **more: object) -> tuple[str, str]:
    """What an encoder says, and what it writes; one of them is empty."""
    try:
        return "", encode(*given, **more)
    except NotStorable as error:
        return str(error), ""


@pytest.mark.parametrize("number", [1e16, 1e-7, 5e-324, 1.0, -0.0])
@pytest.mark.parametrize("kind", [float, float | None, list[float], Any, dict[str, Any]])
def test_floats_are_written_alike(number: float, kind: Any) -> None:
    """With orjson alone it would be ``1e16`` instead of ``1e+16``."""
    value = {list[float]: [number], dict[str, Any]: {"a": number}}.get(kind, number)
    assert codec_for(kind, where="it").encode(value, where="it") == dumps(value)


@pytest.mark.parametrize("kind", [float, float | None, list[float], Any])
@pytest.mark.parametrize("number", [math.nan, math.inf])
def test_nan_is_refused_and_never_null(number: float, kind: Any) -> None:
    """With orjson alone it would be ``null``."""
    with pytest.raises(NotStorable, match="NaN or infinite"):
        codec_for(kind, where="it").encode([number] if kind == list[float] else number, where="it")


def test_a_number_of_any_size_is_written() -> None:
    """With orjson alone it would stop at 64 bits."""
    assert codec_for(list[int], where="it").encode([2**70], where="it") == f"[{2**70}]"


def test_what_only_looks_like_a_nul_is_stored() -> None:
    """A backslash and ``u0000`` are six harmless characters."""
    codec = codec_for(list[str], where="it")
    text = codec.encode(["\\u0000"], where="it")
    assert codec.decode(text, where="it") == ["\\u0000"]


@define
class Letter:
    lines: list[str]
    to: str | None = None
    marks: dict[str, str] | None = None


@pytest.mark.parametrize(
    ("letter", "path"),
    [
        (Letter(["a", "\0"]), ".lines[]"),
        (Letter([], "\ud800"), ".to"),
        (Letter([], None, {"a": "ä\0"}), ".marks[]"),
        (Letter([], None, {"\udfff": "a"}), ".marks[]"),
    ],
)
def test_a_refused_character_is_found_though_texts_are_checked_as_a_whole(letter: Letter, path: str) -> None:
    with pytest.raises(NotStorable) as refusal:
        codec_for(Letter, where="it").encode(letter, where="it")
    assert refusal.value.args[0].startswith("it" + path)
