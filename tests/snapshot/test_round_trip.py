"""What was encoded comes back equal, and shares nothing."""

from __future__ import annotations

import json
from dataclasses import InitVar, dataclass, field
from datetime import datetime
from pathlib import Path
from threading import Barrier, Thread
from typing import Any
from zoneinfo import ZoneInfo

import attrs
import pytest
from attrs import define
from hypothesis import given, settings
from hypothesis import strategies as st
from shapes import Address, Card, Cash, Colour, Mood, Node, Page, Point, Rich, Rights, Size

from anysaga._limits import MAX_CONTEXT_BYTES
from anysaga._snapshot import codec_for

TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=5)
REAL = st.floats(allow_nan=False, allow_infinity=False)
PRICE = st.decimals(allow_nan=False, allow_infinity=False)
NODES = st.recursive(
    st.builds(Node, TEXT), lambda inner: st.builds(Node, TEXT, st.lists(inner, max_size=2)), max_leaves=4
)
PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | REAL | TEXT,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(TEXT, inner, max_size=2),
    max_leaves=4,
)
BERLIN = ZoneInfo("Europe/Berlin")
GAP = datetime(2024, 3, 31, 2, 30, tzinfo=BERLIN)
REPEATED = datetime(2024, 10, 27, 2, 30, tzinfo=BERLIN)
MOMENTS = st.datetimes(timezones=st.none() | st.timezones())
RICH = st.builds(
    Rich,
    text=TEXT,
    whole=st.integers(),
    real=REAL,
    yes=st.booleans(),
    price=PRICE,
    key=st.uuids(),
    moment=MOMENTS.filter(lambda each: each.utcoffset() == each.replace(fold=1 - each.fold).utcoffset()),
    day=st.dates(),
    hour=st.times(),
    span=st.timedeltas(),
    colour=st.sampled_from(Colour),
    size=st.sampled_from(Size),
    mood=st.sampled_from(Mood),
    rights=st.sampled_from([Rights(0), Rights.READ, Rights.READ | Rights.WRITE]),
    letter=st.sampled_from(["a", True, Size.SMALL, None]),
    data=st.binary(max_size=5),
    names=st.lists(TEXT, max_size=3),
    tags=st.sets(TEXT, max_size=3),
    frozen=st.frozensets(st.sampled_from(Colour) | st.integers(), max_size=3),
    fixed=st.tuples(st.integers(), TEXT),
    many=st.lists(PRICE, max_size=3).map(tuple),
    by_name=st.dictionaries(TEXT, st.integers(), max_size=3),
    by_key=st.dictionaries(st.uuids(), st.lists(st.integers(), max_size=2), max_size=3),
    maybe=st.none() | st.integers(),
    native=st.none() | st.integers() | TEXT,
    pay=st.none() | st.builds(Card, TEXT) | st.builds(Cash, PRICE) | st.integers(),
    lists=st.lists(st.integers(), max_size=2) | st.lists(TEXT, max_size=2),
    tree=NODES,
    sku=TEXT,
    page=st.builds(Page, st.lists(TEXT, max_size=2), st.none() | TEXT),
    marked=st.integers(),
    anything=PLAIN,
    point=st.builds(Point, st.integers(), REAL),
    address=st.just(Address(street="Mill Lane")) | st.just(Address(street="Mill Lane", zip="1")),
    other=st.integers(),
)


@settings(max_examples=150, deadline=None)
@given(RICH, st.integers())
def test_whatever_is_encoded_comes_back_equal(value: Rich, made: int) -> None:
    value.made = made
    codec = codec_for(Rich, where="Rich")
    text = codec.encode(value, where="Rich")
    again = codec.decode(text, where="Rich")
    assert again == value
    assert type(again.native) is type(value.native)
    assert type(again.letter) is type(value.letter)
    assert codec.encode(again, where="Rich") == text


@given(MOMENTS | st.sampled_from([GAP, GAP.replace(fold=1), REPEATED, REPEATED.replace(fold=1)]))
def test_a_moment_keeps_its_clock_time_and_offset(value: datetime) -> None:
    """Also in hours that a change of the clock skips or repeats, where Python calls no two zones equal."""
    codec = codec_for(datetime, where="it")
    again = codec.decode(codec.encode(value, where="it"), where="it")
    assert again.replace(tzinfo=None) == value.replace(tzinfo=None)
    assert again.utcoffset() == value.utcoffset()


@given(st.lists(TEXT), st.lists(st.integers() | TEXT))
def test_equal_sets_give_equal_text(texts: list[str], mixed: list[int | str]) -> None:
    """Whatever order their parts were added in."""
    for kind, parts in ((set[str], texts), (set[int | str], mixed)):
        codec = codec_for(kind, where="set")
        backwards = parts[::-1]
        assert codec.encode(set(parts), where="set") == codec.encode(set(backwards), where="set")


def test_decoded_values_share_nothing() -> None:
    codec = codec_for(Node, where="Node")
    text = codec.encode(Node("a", [Node("b")]), where="Node")
    codec.decode(text, where="Node").children.clear()
    assert len(codec.decode(text, where="Node").children) == 1


@pytest.mark.parametrize(
    ("kind", "value", "plain"),
    [
        (int, True, 1),
        (int, Size.LARGE, 2),
        (str, Mood.GOOD, "good"),
        (float, 3, 3.0),
        (float, True, 1.0),
        (int | str, True, 1),
        (float | None, 2, 2.0),
        (int | str, Mood.GOOD, "good"),
        (list, [1, "a", None], [1, "a", None]),
        (dict, {"a": 1}, {"a": 1}),
        (tuple, (1,), [1]),
        (tuple, (1, 2), [1, 2]),
        (tuple[()], (), []),
        (dict[int, str], {2: "b", 1: "a"}, [[2, "b"], [1, "a"]]),
        (Card | Cash, Card("1"), {"Card": {"number": "1"}}),
        (object, {"a": [1.5]}, {"a": [1.5]}),
        (Path, Path("a/b"), "a/b"),
        (None, None, None),
    ],
)
def test_the_stored_form(kind: Any, value: Any, plain: Any) -> None:
    """Subclasses are written as the declared type; each kind has one form."""
    text = codec_for(kind, where="it").encode(value, where="it")
    assert json.loads(text) == plain
    assert type(json.loads(text)) is type(plain)
    assert codec_for(kind, where="it").decode(text, where="it") == value


def test_a_text_may_fill_the_limit_to_the_byte() -> None:
    codec = codec_for(str, where="it")
    text = "ä" * (MAX_CONTEXT_BYTES // 2 - 1)
    assert codec.decode(codec.encode(text, where="it"), where="it") == text


def test_nesting_may_reach_the_limit() -> None:
    value: Any = []
    for _ in range(63):
        value = [value]
    codec = codec_for(Any, where="it")
    assert codec.decode(codec.encode(value, where="it"), where="it") == value


def test_many_brackets_are_not_deep() -> None:
    codec = codec_for(list[list[int]], where="it")
    value = [[1]] * 500
    assert codec.decode(codec.encode(value, where="it"), where="it") == value


def test_a_missing_field_gets_its_default() -> None:
    @define
    class Grown:
        old: int
        new: list[int] = attrs.field(factory=list)
        twice: int = attrs.field(default=attrs.Factory(lambda self: self.old * 2, takes_self=True))
        text: int = attrs.field(default="7", converter=int)  # type: ignore[assignment] # what attrs converts

    assert codec_for(Grown, where="Grown").decode('{"old":4}', where="Grown") == Grown(4)


def test_reading_does_not_run_init() -> None:
    """What init, converters and post-init did is in the text; doing it twice would change the value."""

    @dataclass
    class Counted:
        start: InitVar[int]
        value: int = 0
        seen: list[int] = field(default_factory=list, init=False)

        def __post_init__(self, start: int) -> None:
            self.value += start
            self.seen.append(start)

    codec = codec_for(Counted, where="Counted")
    value = Counted(3, 4)
    again = codec.decode(codec.encode(value, where="Counted"), where="Counted")
    assert (again.value, again.seen) == (7, [3])


def test_two_union_members_of_one_name_are_told_apart() -> None:
    first = attrs.make_class("Same", {"a": attrs.field(type=int)}, class_body={"__module__": "one"})
    second = attrs.make_class("Same", {"a": attrs.field(type=int)}, class_body={"__module__": "two"})
    first.__module__, second.__module__ = "json", "attrs"
    codec = codec_for(first | second, where="it")
    for cls in (first, second):
        assert codec.decode(codec.encode(cls(1), where="it"), where="it") == cls(1)


def test_a_cached_hash_is_counted_anew() -> None:
    @attrs.frozen(cache_hash=True)
    class Hashed:
        a: int

    codec = codec_for(frozenset[Hashed], where="it")
    value = frozenset({Hashed(1), Hashed(2)})
    assert codec.decode(codec.encode(value, where="it"), where="it") == value


def test_a_type_is_compiled_once() -> None:
    """The same type gives the same codec, also to threads that ask at one moment."""

    @define
    class Shared:
        a: int

    start, found = Barrier(8), []

    def ask() -> None:
        start.wait()
        found.append(codec_for(Shared, where="Shared"))

    threads = [Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({id(codec) for codec in found}) == 1
