"""What cannot be stored or read is refused, with the field and the types and never a value."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, time, tzinfo
from decimal import Decimal
from enum import Enum, Flag
from pathlib import PosixPath, PurePath
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self
from zoneinfo import ZoneInfo

import attrs
import pytest
from attrs import define
from shapes import Address, Card, Cash, Colour, Node, Page, Payment, Rights, Size, Vault

from anysaga._errors import NotReadable, NotStorable
from anysaga._limits import MAX_CONTEXT_BYTES, MAX_NESTING
from anysaga._snapshot import Codec, codec_for, secret

if TYPE_CHECKING:
    from fractions import Fraction


@define
class Locked:
    lock: threading.Lock


@define
class Item:
    price: complex


@define
class Order:
    name: str
    items: list[Item] = attrs.field(factory=list)


@define
class Unseen:
    share: Fraction


@define
class Line:
    count: int
    note: Any = None


@define
class Basket:
    lines: list[Line]
    by_name: dict[str, tuple[int, Line]]


class Plain:
    pass


class Undecorated:
    shelf: str


class Own:
    def __str__(self) -> str:
        return "hunter2"


class TrickyNew:
    def __new__(cls, *_: Any) -> Self:
        return super().__new__(cls)


@dataclass
class WithNew(TrickyNew):
    a: int


class Code(str):
    __slots__ = ()


class Secretive(Address):
    token: str


@define
class AttrsBase:
    name: str = ""


@dataclass
class DataclassBase:
    name: str = ""


class MoreOfAttrs(AttrsBase):
    size: int = 0


class MoreOfDataclass(DataclassBase):
    size: int = 0


class SameOfAttrs(AttrsBase): ...


@pytest.mark.parametrize(
    ("kind", "where", "decorator"),
    [
        (MoreOfAttrs, "it.size", "@define"),
        (MoreOfDataclass, "it.size", "@dataclass"),
        (SameOfAttrs, "it", "@define"),
        (list[MoreOfDataclass], "it[].size", "@dataclass"),
    ],
)
def test_a_subclass_that_is_not_decorated_itself_is_refused(kind: Any, where: str, decorator: str) -> None:
    """Its own fields are no fields, and would be missing in what is stored."""
    with pytest.raises(NotStorable) as caught:
        codec_for(kind, where="it")
    assert (caught.value.where, decorator in caught.value.reason) == (where, True)


@dataclass
class SecretInDataclass:
    name: str
    password: str = secret()


@dataclass
class DefaultInDataclass:
    password: str = secret(default="")


@pytest.mark.parametrize("kind", [SecretInDataclass, DefaultInDataclass, list[SecretInDataclass]])
def test_a_field_of_attrs_in_a_dataclass_is_refused(kind: Any) -> None:
    """There it is no field but a default, and each repr and error would show the secret."""
    with pytest.raises(NotStorable, match=r"Annotated\[..., secret\]") as caught:
        codec_for(kind, where="it")
    assert caught.value.where.endswith(".password")


@define
class AttrsOnDataclass(DataclassBase):
    size: int = 0


@dataclass
class DataclassOnAttrs(AttrsBase):
    size: int = 0


@pytest.mark.parametrize("kind", [AttrsOnDataclass, DataclassOnAttrs, list[AttrsOnDataclass]])
def test_bases_of_the_other_sort_are_refused(kind: Any) -> None:
    """Neither sort knows the fields of the other: they would be missing in what is stored."""
    with pytest.raises(NotStorable, match="partly attrs classes and partly dataclasses"):
        codec_for(kind, where="it")


@define
class FieldOfDataclasses:
    names: list[str] = dataclasses.field(default_factory=list)  # noqa: RUF009 - what is refused


def test_a_field_of_dataclasses_in_an_attrs_class_is_refused() -> None:
    with pytest.raises(NotStorable, match=r"it\.names cannot be stored: .*use attrs\.field"):
        codec_for(FieldOfDataclasses, where="it")


@define
class SecretUncalled:
    password: str = secret  # type: ignore[assignment]  # the mistake


@dataclass
class SecretUncalledInDataclass:
    password: str = secret  # type: ignore[assignment]  # the mistake


@define
class Dated:
    password: datetime = datetime.now  # type: ignore[assignment]  # the mistake


@define
class SecretCalledInType:
    password: Annotated[str, secret()]


@dataclass
class SecretCalledDeepInType:
    password: list[Annotated[str, secret()]]


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        (SecretUncalled, "its default is the function secret itself: call it"),
        (SecretUncalledInDataclass, "its default is the function secret itself: call it"),
        (Dated, "its default is the function now itself: call it"),
        (SecretCalledInType, r"a secret is `Annotated\[..., secret\]`, not called"),
        (SecretCalledDeepInType, r"a secret is `Annotated\[..., secret\]`, not called"),
    ],
)
def test_a_secret_that_is_marked_by_half_is_refused(kind: Any, words: str) -> None:
    """It looks like a secret, and nothing would hide it."""
    with pytest.raises(NotStorable, match=words) as caught:
        codec_for(kind, where="it")
    assert caught.value.where == "it.password"


def test_a_default_of_a_converter_may_be_a_function() -> None:
    function: Any = secret

    @define
    class Converted:
        number: str = attrs.field(default=function, converter=str)

    assert codec_for(Converted, where="it").encode(Converted("5"), where="it") == '{"number":"5"}'


def test_a_subclass_that_adds_no_field_needs_no_decorator() -> None:
    class Same(DataclassBase):
        known: ClassVar[int] = 3

    codec = codec_for(Same, where="it")
    assert codec.decode(codec.encode(Same("tea"), where="it"), where="it") == Same("tea")


@pytest.mark.parametrize(
    ("kind", "where", "words"),
    [
        (Order, "Order.items[].price", "complex"),
        (Unseen, "Unseen.share", "TYPE_CHECKING"),
        (Plain, "Plain", "Plain"),
        (Undecorated, "Undecorated", "make it a dataclass or an attrs class"),
        (PurePath, "PurePath", "PurePath"),
        (PosixPath, "PosixPath", "PosixPath"),
        (Code, "Code", "Code"),
        (Page, "Page.items[]", "T"),
        (WithNew, "WithNew", "__new__"),
        (Sequence[int], "it", "list or tuple"),
        (dict[str, Mapping[str, int]], "it[]", "dict"),
        (dict[complex, int], "it[key]", "complex"),
        (tuple[int, complex], "it[1]", "complex"),
        (Card | complex, "it[complex]", "complex"),
        (Literal["a\0"], "it", "NUL"),
        (Literal["RED", Colour.RED], "it", "alike"),
        (tuple[int, *tuple[str, ...]], "it[1]", "*tuple[str, ...]"),
        (Enum, "it", "no members"),
        (Flag, "it", "no members"),
        ([], "it", "no stored form"),
        (7, "it", "7"),
        (type, "it", "its type type has no stored form"),
        (list["Order"], "it[]", "name in quotes"),
    ],
)
def test_a_type_without_a_form_is_refused_at_once(kind: Any, where: str, words: str) -> None:
    with pytest.raises(NotStorable) as caught:
        codec_for(kind, where=where.partition(".")[0].partition("[")[0])
    assert caught.value.where == where
    assert words in caught.value.reason
    assert caught.value.__cause__ is caught.value.__context__ is None


def test_a_lock_is_refused_with_its_field() -> None:
    with pytest.raises(NotStorable, match=r"Locked\.lock cannot be stored: .*lock"):
        codec_for(Locked, where="Locked")


def test_a_type_that_failed_fails_again() -> None:
    """Nothing half-made stays behind, also not of the types around it."""
    for kind in (Order, Order, list[Order], Item):
        with pytest.raises(NotStorable):
            codec_for(kind, where="it")


def test_a_field_without_annotation_is_refused() -> None:
    cls = attrs.make_class("Bare", ["a"])
    with pytest.raises(NotStorable, match=r"Bare\.a cannot be stored: it has no type annotation"):
        codec_for(cls, where="Bare")


@pytest.mark.parametrize(
    ("kind", "value", "where"),
    [
        (Line, Line("abc"), "it.count"),  # type: ignore[arg-type]
        (Basket, Basket([Line(1), Line(1.0)], {}), "it.lines[].count"),  # type: ignore[arg-type]
        (Basket, Basket([], {"hunter2": (1, Line("x"))}), "it.by_name[][1].count"),  # type: ignore[arg-type]
        (Line, Line(1, Own()), "it.note"),
        (Line, Line(1, (1,)), "it.note"),
        (Line, Line(1, {1: 2}), "it.note"),
        (Line, Line(1, [Decimal(1)]), "it.note"),
        (Line, Node("a"), "it"),
        (str, b"a", "it"),
        (bool, 1, "it"),
        (float, "1", "it"),
        (float, 10**400, "it"),
        (float, 2**53 + 1, "it"),
        (bytes, "a", "it"),
        (None, 0, "it"),
        (list[int], (1,), "it"),
        (set[int], [1], "it"),
        (tuple[int, ...], [1], "it"),
        (tuple[int, str], (1,), "it"),
        (dict[str, int], [("a", 1)], "it"),
        (int | str, 1.5, "it"),
        (Card | Cash, Node("a"), "it"),
        (Card | Cash, Card(1), "it.number"),  # type: ignore[arg-type]
        (Literal["a"], "b", "it"),
        (Literal[1], [], "it"),
        (Colour, "RED", "it"),
        (Address, {}, "it.street"),
        (Address, {"street": "a", "more": 1}, "it"),
        (time, time(1, tzinfo=ZoneInfo("Europe/Berlin")), "it"),
    ],
)
def test_a_value_of_another_type_is_refused_with_its_path(kind: Any, value: Any, where: str) -> None:
    codec = codec_for(kind, where="it")
    with pytest.raises(NotStorable) as caught:
        codec.encode(value, where="it")
    assert caught.value.where == where
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        (bool, '"no"'),
        (bool, "0"),
        (int, '"1"'),
        (int, "1.0"),
        (int, "true"),
        (float, "true"),
        (float, "1e999"),
        (str, "1"),
        (None, "0"),
        (Decimal, "1"),
        (Decimal, '" 1_0"'),
        (Decimal, '"NaN"'),
        (datetime, '"2024-01-01"'),
        (datetime, '"yesterday"'),
        (bytes, '"é"'),
        (bytes, '"YQ"'),
        (list[int], "{}"),
        (list[int], '"12"'),
        (set[int], "[1,1]"),
        (tuple[int, str], "[1]"),
        (dict[int, str], '[[1,"a"],[1,"b"]]'),
        (dict[int, str], '{"1":"a"}'),
        (dict[str, int], "[]"),
        (int | str, "1.5"),
        (Card | Cash, '{"number":"1"}'),
        (Card | Cash, '{"Node":{"name":"a"}}'),
        (Card | Cash, "{}"),
        (Literal["a"], '"b"'),
        (Literal[1], "true"),
        (Literal[1], "[]"),
        (Size, "1"),
        (Size, '"HUGE"'),
        (Rights, "8"),
        (Card, "{}"),
        (Card, '{"number":"1","more":1}'),
        (Card, "[]"),
        (Address, '{"street":"a","more":1}'),
        (int, "1" * 5000),
        (int, "{"),
        (int, ""),
        (Any, "[NaN]"),
        (Any, "-Infinity"),
    ],
)
def test_reading_never_coerces(kind: Any, text: str) -> None:
    codec = codec_for(kind, where="it")
    with pytest.raises(NotReadable) as caught:
        codec.decode(text, where="it")
    assert caught.value.__cause__ is caught.value.__context__ is None


@pytest.mark.parametrize(
    ("kind", "value", "text", "reason"),
    [
        (str, "a\0", r'"a\u0000"', "NUL"),
        (Any, ["a\0"], r'["a\u0000"]', "NUL"),
        (dict[str, int], {"\0": 1}, r'{"\u0000":1}', "NUL"),
        (Any, {"\0": 1}, r'{"\u0000":1}', "NUL"),
        (str, "\ud800", r'"\ud800"', "surrogate"),
        (Any, {"\udfff": 1}, r'{"\uDFFF":1}', "surrogate"),
        (float, float("nan"), "NaN", "NaN"),
        (Any, [float("inf")], "[Infinity]", "NaN or infinite"),
    ],
)
def test_both_ways_refuse_in_the_same_words(kind: Any, value: Any, text: str, reason: str) -> None:
    codec = codec_for(kind, where="it")
    with pytest.raises(NotStorable, match=reason) as there:
        codec.encode(value, where="it")
    with pytest.raises(NotReadable, match=reason) as back:
        codec.decode(text, where="it")
    assert there.value.reason == back.value.reason


def test_an_escaped_backslash_is_no_nul() -> None:
    codec = codec_for(str, where="it")
    assert codec.decode(codec.encode(r"\u0000", where="it"), where="it") == r"\u0000"


def _nested(levels: int) -> Any:
    value: Any = []
    for _ in range(levels - 1):
        value = [value]
    return value


def _chain(length: int) -> Node:
    node = Node("end")
    for _ in range(length):
        node = Node("n", parent=node)
    return node


def _cycle() -> Node:
    node = Node("a")
    node.children.append(node)
    return node


def _cyclic_list() -> list[Any]:
    value: list[Any] = []
    value.append(value)
    return value


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (Any, _nested(MAX_NESTING + 1)),
        (Any, _nested(900)),
        (Any, _cyclic_list()),
        (Node, _cycle()),
        (Node, _chain(100)),
        (Node, _chain(5000)),
    ],
)
def test_deep_and_cyclic_values_are_refused(kind: Any, value: Any) -> None:
    with pytest.raises(NotStorable, match="deeper than 64 levels"):
        codec_for(kind, where="it").encode(value, where="it")


@pytest.mark.parametrize("levels", [MAX_NESTING + 1, 100_000])
def test_deep_texts_are_refused(levels: int) -> None:
    with pytest.raises(NotReadable, match="deeper than 64 levels"):
        codec_for(Any, where="it").decode("[" * levels + "]" * levels, where="it")


def test_big_values_and_texts_are_refused() -> None:
    """Bytes are counted, not characters."""
    codec = codec_for(str, where="it")
    big = "ä" * (MAX_CONTEXT_BYTES // 2)
    with pytest.raises(NotStorable, match="bytes"):
        codec.encode(big, where="it")
    with pytest.raises(NotReadable, match="bytes"):
        codec.decode(f'"{big}"', where="it")


def test_a_number_of_too_many_digits_is_refused() -> None:
    with pytest.raises(NotStorable, match="digits"):
        codec_for(int, where="it").encode(10**5000, where="it")


def test_a_field_without_a_value_is_refused() -> None:
    @define
    class Late:
        a: int = attrs.field(init=False)

    with pytest.raises(NotStorable, match=r"Late\.a cannot be stored: it has no value yet"):
        codec_for(Late, where="Late").encode(Late(), where="Late")


def test_a_time_zone_that_knows_no_offset_is_refused() -> None:
    class Nowhere(tzinfo):
        def utcoffset(self, _: datetime | None) -> None:
            return None

        dst = tzname = utcoffset

    with pytest.raises(NotStorable, match="offset"):
        codec_for(datetime, where="it").encode(datetime(2024, 1, 1, tzinfo=Nowhere()), where="it")


def test_errors_of_user_code_are_named_and_not_quoted() -> None:
    @define
    class Angry:
        a: int = attrs.Factory(lambda: int("hunter2"))

    with pytest.raises(NotReadable, match="ValueError") as caught:
        codec_for(Angry, where="it").decode("{}", where="it")
    assert "hunter2" not in str(caught.value)
    assert caught.value.__cause__ is caught.value.__context__ is None


def test_no_error_quotes_a_secret_when_writing() -> None:
    codec: Codec[Payment] = codec_for(Payment, where="Payment")
    with pytest.raises(NotStorable) as caught:
        codec.encode(Payment(1, "hunter2\0"), where="Payment")
    assert "hunter2" not in repr(caught.value) + str(caught.value)
    assert caught.value.__context__ is None


@pytest.mark.parametrize("text", ['{"amount":"hunter2","card":"x"}', '{"amount":1,"card":["hunter2"]}', "hunter2"])
def test_no_error_quotes_a_secret_when_reading(text: str) -> None:
    codec: Codec[Payment] = codec_for(Payment, where="Payment")
    with pytest.raises(NotReadable) as caught:
        codec.decode(text, where="Payment")
    assert "hunter2" not in repr(caught.value) + str(caught.value)
    assert caught.value.__context__ is None


def test_a_typed_dict_keeps_no_secret() -> None:
    with pytest.raises(NotStorable, match="attrs class or a dataclass"):
        codec_for(Vault, where="Vault")


@dataclass
class SizedOfDataclass(DataclassBase):
    size: int = 0


@pytest.mark.parametrize(
    ("kind", "value", "where"),
    [(DataclassBase, SizedOfDataclass(), "it"), (list[DataclassBase], [SizedOfDataclass()], "it[]")],
)
def test_an_object_of_a_subclass_is_refused_with_the_class_to_declare(kind: Any, value: Any, where: str) -> None:
    """What it has more than its base would not be stored, and come back as the base."""
    reason = "expected DataclassBase, found its subclass SizedOfDataclass, whose own fields would be lost"
    with pytest.raises(NotStorable) as caught:
        codec_for(kind, where="it").encode(value, where="it")
    assert (caught.value.where, caught.value.reason) == (where, f"{reason}: declare SizedOfDataclass")


def test_a_union_takes_an_object_of_a_class_and_of_its_subclass() -> None:
    codec = codec_for(DataclassBase | SizedOfDataclass, where="it")
    for value in (DataclassBase("tea"), SizedOfDataclass("tea", 3)):
        assert codec.decode(codec.encode(value, where="it"), where="it") == value
