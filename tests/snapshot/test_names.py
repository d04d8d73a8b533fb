"""What the names in an annotation mean."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from datetime import date, time
from typing import Any, Final, NamedTuple

import pytest
from attrs import define

from anysaga._snapshot import codec_for


@define
class Booking:
    date: date
    time: time | None = None


@dataclass
class Trip:
    date: date = date(2024, 3, 1)
    time: Final[time | None] = None


@define
class Later(Booking):
    until: date | None = None


class Stay(NamedTuple):
    date: date
    time: time | None = None


@define
class Shelf:
    class Book(NamedTuple):
        name: str

    books: list[Book]


@pytest.mark.parametrize(
    "value",
    [
        Booking(date(2024, 3, 1), time(1)),
        Trip(date(2024, 3, 2)),
        Later(date(2024, 3, 1), None, date(2024, 3, 2)),
        Stay(date(2024, 3, 1)),
        Shelf([Shelf.Book("a")]),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_field_may_be_called_as_its_type_is(value: Any) -> None:
    """The class knows that name as well, as a slot or a default; classes inside of it are found all the same."""
    codec = codec_for(type(value), where="it")
    assert codec.decode(codec.encode(value, where="it"), where="it") == value


@pytest.mark.skipif(sys.version_info < (3, 12), reason="`type` statements came with Python 3.12")
def test_an_alias_may_name_itself() -> None:
    names: dict[str, Any] = {}
    exec("type Tree = dict[str, Tree] | list[Tree] | int | None", names)  # noqa: S102
    codec, value = codec_for(names["Tree"], where="it"), {"a": [1, None, {"b": 2}]}
    assert codec.decode(codec.encode(value, where="it"), where="it") == value
    assert not codec.has_secrets
