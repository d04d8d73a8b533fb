"""Values that are one of a few.

* an enum member is its name, since values may be of any type; a flag is its number
* a Literal is what its value is
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum, Flag
from typing import Any, get_args

from ._leaves import read_int, write_int
from ._misfit import Misfit, Read, Write, type_name, unexpected


def is_enum(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, Enum)


def enum_hooks(kind: type[Enum]) -> tuple[Write, Read]:
    """Names are looked up among the members only; aliases are read, and written under the member's own name."""
    members = dict(kind.__members__)
    if not members:
        raise Misfit(f"its type {kind.__name__} has no members: name the enum that has them")
    if issubclass(kind, Flag):
        return _flag_hooks(kind)

    def write(value: Any) -> str:
        if value.__class__ is kind:
            return str(value._name_)
        raise unexpected(kind.__name__, value)

    def read(name: Any, _: Any = None) -> Enum:
        member = members.get(name) if name.__class__ is str else None
        if member is None:
            raise Misfit(f"expected the name of a member of {kind.__name__}, found another {type(name).__name__}")
        return member

    return write, read


def _flag_hooks(kind: type[Flag]) -> tuple[Write, Read]:
    def write(value: Any) -> int:
        if value.__class__ is kind:
            return write_int(value.value)
        raise unexpected(kind.__name__, value)

    def read(number: Any, _: Any = None) -> Flag:
        try:
            flag = kind(read_int(number))
        except ValueError:
            flag = None
        if isinstance(flag, kind) and flag.value == number:
            return flag
        raise Misfit(f"expected the number of a {kind.__name__}, found another int")

    return write, read


def literal_hooks(kind: Any, writer: Callable[[Any], Write]) -> tuple[Write, Read]:
    """Looked up with the class beside the value, since ``1 == True``."""
    values = get_args(kind)
    written = {(value.__class__, value): writer(value.__class__)(value) for value in values}
    read_back = {(plain.__class__, plain): key[1] for key, plain in written.items()}
    if len(read_back) < len(written):
        raise Misfit(f"two values of {type_name(kind)} would be stored alike")
    classes = tuple({value.__class__ for value in values})

    def write(value: Any) -> Any:
        if not isinstance(value, classes):
            raise Misfit(f"expected one of the values of its Literal, found {type(value).__name__}")
        key = (value.__class__, value)
        if key in written:
            return written[key]
        for (cls, known), plain in written.items():
            if isinstance(value, cls) and value == known:
                return plain
        raise Misfit(f"expected one of the values of its Literal, found another {type(value).__name__}")

    def read(plain: Any, _: Any = None) -> Any:
        key = (plain.__class__, plain)
        if plain.__class__ in (dict, list) or key not in read_back:
            raise Misfit(f"expected one of the values of its Literal, found another {type(plain).__name__}")
        return read_back[key]

    return write, read
