"""Type variables stand for what the class at hand says."""

from __future__ import annotations

from typing import Annotated, Any, Generic, TypeVar

import pytest
from attrs import define
from shapes import Page

from anysaga._errors import NotStorable
from anysaga._snapshot import codec_for

T = TypeVar("T")


@define
class Base(Generic[T]):
    one: T
    many: list[T]


@define
class Whole(Base[int]):
    more: str


@define
class Shared(Base[int], Generic[T]):
    """Its T is another one than that of its base."""

    own: T


@define
class Tree(Generic[T]):
    value: T
    branches: list[Tree[T]]


@pytest.mark.parametrize(
    ("kind", "good", "bad"),
    [
        (Page[int], Page([1], 2), Page(["a"])),
        (Page[Page[int]], Page([Page([1])]), Page([Page(["a"])])),
        (Page[Annotated[int, "cm"]], Page([1]), Page(["a"])),
        (Whole, Whole(1, [2], "a"), Whole("a", [2], "a")),  # type: ignore[arg-type]
        (Shared[str], Shared(1, [2], "a"), Shared("a", [], "a")),  # type: ignore[arg-type]
        (Tree[int], Tree(1, [Tree(2, [])]), Tree[Any](1, [Tree("a", [])])),
    ],
)
def test_arguments_reach_every_field(kind: Any, good: Any, bad: Any) -> None:
    codec = codec_for(kind, where="it")
    assert codec.decode(codec.encode(good, where="it"), where="it") == good
    with pytest.raises(NotStorable):
        codec.encode(bad, where="it")
