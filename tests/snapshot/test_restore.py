"""`restore` makes the same object what the text says."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import attrs
import pytest
from attrs import define, frozen
from shapes import Card

from anysaga._errors import NotReadable
from anysaga._snapshot import codec_for


@define
class Slotted:
    a: int
    b: list[int] = attrs.field(factory=list)
    c: int = attrs.field(init=False, default=0)

    @cached_property
    def twice(self) -> int:
        return self.a * 2


@define(slots=False)
class Open:
    a: int
    b: list[int] = attrs.field(factory=list)


@frozen
class Frozen:
    a: int
    b: list[int] = attrs.field(factory=list)


@dataclass
class Data:
    a: int
    b: list[int]


@dataclass(frozen=True, slots=True)
class FrozenData:
    a: int
    b: list[int]


@pytest.mark.parametrize("cls", [Slotted, Open, Frozen, Data, FrozenData])
def test_fields_are_replaced_in_the_same_object(cls: Any) -> None:
    codec = codec_for(cls, where="it")
    target = cls(1, [1])
    codec.restore(target, codec.encode(cls(2, [3]), where="it"), where="it")
    assert target == cls(2, [3])


def test_attributes_that_are_no_fields_are_removed() -> None:
    target: Any = Open(1)
    target.extra = 1
    codec_for(Open, where="it").restore(target, '{"a":2,"b":[]}', where="it")
    assert vars(target) == {"a": 2, "b": []}


def test_fields_outside_of_init_are_restored() -> None:
    target = Slotted(1)
    codec_for(Slotted, where="it").restore(target, '{"a":2,"b":[],"c":5}', where="it")
    assert target.c == 5


def test_a_cached_property_is_forgotten() -> None:
    target = Slotted(1)
    assert target.twice == 2
    codec_for(Slotted, where="it").restore(target, '{"a":2,"b":[],"c":5}', where="it")
    assert target.twice == 4


def test_a_bad_text_changes_nothing() -> None:
    target = Slotted(1, [1])
    with pytest.raises(NotReadable, match=r"it\.b\[\]"):
        codec_for(Slotted, where="it").restore(target, '{"a":2,"b":["x"],"c":5}', where="it")
    assert target == Slotted(1, [1])


@pytest.mark.parametrize(("kind", "target"), [(Card, Open(1)), (list[int], [1])])
def test_only_objects_of_the_class_can_be_restored(kind: Any, target: Any) -> None:
    with pytest.raises(NotReadable, match="in place"):
        codec_for(kind, where="it").restore(target, "{}", where="it")
