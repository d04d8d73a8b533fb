"""Types that the tests of the snapshot store."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum, Flag, IntEnum, StrEnum, auto
from typing import Annotated, Any, Generic, Literal, NamedTuple, NewType, NotRequired, TypedDict, TypeVar
from uuid import UUID

import attrs
from attrs import define, frozen

from anysaga._snapshot import SECRET, secret

T = TypeVar("T")
Sku = NewType("Sku", str)


class Colour(Enum):
    RED = (255, 0, 0)
    BLUE = (0, 0, 255)


class Size(IntEnum):
    SMALL = 1
    LARGE = 2


class Mood(StrEnum):
    GOOD = "good"


class Rights(Flag):
    READ = auto()
    WRITE = auto()


class Point(NamedTuple):
    x: int
    y: float


class Address(TypedDict):
    street: str
    zip: NotRequired[str]


@frozen
class Card:
    number: str


@dataclass
class Cash:
    amount: Decimal


@define
class Node:
    name: str
    children: list[Node] = attrs.field(factory=list)
    parent: Node | None = None


@frozen
class Page(Generic[T]):
    items: list[T]
    first: T | None = None


@define
class Rich:
    text: str
    whole: int
    real: float
    yes: bool
    price: Decimal
    key: UUID
    moment: datetime
    day: date
    hour: time
    span: timedelta
    colour: Colour
    size: Size
    mood: Mood
    rights: Rights
    letter: Literal["a", 1, True, Size.SMALL] | None
    data: bytes
    names: list[str]
    tags: set[str]
    frozen: frozenset[Colour | int]
    fixed: tuple[int, str]
    many: tuple[Decimal, ...]
    by_name: dict[str, int]
    by_key: dict[UUID, list[int]]
    maybe: int | None
    native: int | str | None
    pay: Card | Cash | int | None
    lists: list[int] | list[str]
    tree: Node
    sku: Sku
    page: Page[Sku]
    marked: Annotated[int, "metres"]
    anything: Any
    point: Point
    address: Address
    _private: int = attrs.field(alias="other", kw_only=True)
    made: int = attrs.field(init=False, default=0)


@frozen
class Payment:
    amount: int
    card: str = secret()


@dataclass
class Login:
    name: str
    password: Annotated[str, secret] = field(repr=False)
    pin: str = field(default="", repr=False, metadata=SECRET)


class Vault(TypedDict):
    token: Annotated[str, secret]
