"""Secret fields are stored, found and blotted out."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import date, datetime, time, timedelta, timezone
from typing import Annotated, Any, Final, Generic, NewType, TypeVar

import attrs
import pytest
from attrs import define
from hypothesis import given
from hypothesis import strategies as st
from shapes import Login, Node, Payment
from typing_extensions import TypeAliasType

from anysaga._snapshot import SECRET, codec_for, redact, secret

T = TypeVar("T")


@define
class Wallet:
    owner: str
    logins: list[Login]
    spare: dict[str, Payment] | None = None
    keys: Any = secret(factory=dict, kw_only=True)  # noqa: RUF009 - a field, as attrs.field makes it


@define
class Ring:
    name: str
    next: Ring | None = None
    pin: Annotated[int, secret] = 0


@define
class Cards:
    cards: list[Annotated[str, secret]]


Pin = TypeAliasType("Pin", Annotated[str, secret])
Key = NewType("Key", Annotated[str, secret])  # pyright: ignore[reportGeneralTypeIssues]


@define
class Box(Generic[T]):
    inner: T


@dataclass
class Account:
    pin: Final[Annotated[str, secret]] = field(repr=False)
    spare: Pin | None = field(default=None, repr=False)


def test_repr_does_not_show_a_secret() -> None:
    assert "4111" not in repr(Payment(1, "4111"))
    assert "hunter2" not in repr(Login("me", "hunter2"))


def test_a_secret_is_stored_like_any_other_field() -> None:
    codec = codec_for(Payment, where="it")
    assert codec.decode(codec.encode(Payment(1, "4111"), where="it"), where="it") == Payment(1, "4111")


def test_secret_takes_what_field_takes() -> None:
    @define
    class Full:
        a: str = secret(default="x", alias="other", metadata={"mine": 1}, kw_only=True)

    declared = attrs.fields(Full).a
    assert (declared.default, declared.alias, declared.kw_only, declared.repr) == ("x", "other", True, False)
    assert dict(declared.metadata) == {**SECRET, "mine": 1}


def test_all_parts_of_all_secret_fields_are_found() -> None:
    wallet = Wallet("me", [Login("n", "p1", pin="p2")], {"k": Payment(1, "p3")}, keys={"p4": [5, None, True, b"p6"]})
    assert set(codec_for(Wallet, where="it").secrets(wallet)) == {"p1", "p2", "p3", "p4", "5", "p6"}


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (Cards, Cards(["p1"])),
        (list[Annotated[str, secret]], ["p1"]),
        (Annotated[str, secret], "p1"),
        (list[Payment], [Payment(1, "p1")]),
        (tuple[int, Payment | None], (1, Payment(1, "p1"))),
        (Pin, "p1"),
        (Key, "p1"),
        (dict[str, Pin], {"p1": "p1"}),
        (Box[Pin], Box("p1")),
        (list[Box[Key | None]], [Box("p1")]),
        (Account, Account("p1")),
        (Account, Account("", "p1")),
    ],
)
def test_a_mark_counts_wherever_it_stands(kind: Any, value: Any) -> None:
    assert codec_for(kind, where="it").secrets(value) == ("p1",)


def test_a_cycle_ends_the_search() -> None:
    ring = Ring("a", None, 7)
    ring.next = ring
    assert codec_for(Ring, where="it").secrets(ring) == ("7",)


def test_the_form_that_repr_shows_is_secret_too() -> None:
    assert codec_for(Payment, where="it").secrets(Payment(1, "a\nb")) == ("a\nb", r"a\nb")


@pytest.mark.parametrize(
    "value",
    [
        datetime(1980, 5, 1, 12, tzinfo=timezone(timedelta(hours=2))),
        date(1980, 5, 1),
        time(12, 30),
        timedelta(days=3, hours=2),
    ],
)
def test_a_moment_is_secret_in_each_form_that_python_gives_it(value: Any) -> None:
    forms = {str(value), repr(value)} | ({value.isoformat()} if not isinstance(value, timedelta) else set())
    found = codec_for(Annotated[type(value), secret], where="it").secrets(value)
    assert redact(" ".join(sorted(forms)), found) == " ".join("***" for _ in forms)


def test_a_type_without_secrets_has_none() -> None:
    assert codec_for(Node, where="it").secrets(Node("a")) == ()


@given(st.text("ab*", max_size=12), st.lists(st.text("ab", max_size=3), max_size=3))
def test_no_secret_survives(text: str, secrets: list[str]) -> None:
    left = redact(text, secrets)
    assert not any(each in left for each in secrets if each)


@pytest.mark.parametrize(
    ("text", "secrets", "left"),
    [
        ("card 4111 of 4111", ["4111"], "card *** of ***"),
        ("abcd", ["ab", "abcd"], "***"),
        ("abcdef", ["abcd", "cdef"], "***"),
        ("abc", [""], "abc"),
        ("abc", [], "abc"),
        ("a.c abc", ["a.c"], "*** abc"),
        ("a*b", ["*"], "a***b"),
    ],
)
def test_redaction(text: str, secrets: list[str], left: str) -> None:
    assert redact(text, secrets) == left


def test_a_dataclass_may_mark_by_metadata() -> None:
    assert codec_for(Login, where="it").secrets(Login("n", "", "p1")) == ("p1",)
