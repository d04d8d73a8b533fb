"""What the hooks raise: a reason in words, and the path that grows while the error travels up.

Neither ever holds a value: it could be a secret. Types, field names and limits are all that is said.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import UnionType
from typing import Annotated, Any, TypeAlias, Union, get_args, get_origin

from anysaga._limits import MAX_CONTEXT_BYTES, MAX_NESTING

Write: TypeAlias = Callable[[Any], Any]
"""Turns a value into plain JSON values that share nothing with it, or raises `Misfit`."""

Read: TypeAlias = Callable[..., Any]
"""Turns plain JSON values into a fresh value, or raises `Misfit`. cattrs hands it a second argument, unused here."""

NUL = "it contains a NUL character"
SURROGATE = "it contains a lone surrogate"
NOT_FINITE = "it is NaN or infinite"
TOO_DEEP = f"it is nested deeper than {MAX_NESTING} levels, or contains itself"
TOO_BIG = f"it has more than {MAX_CONTEXT_BYTES} bytes"
TOO_LONG_NUMBER = "a number has too many digits"


class Misfit(Exception):
    """A value or a type does not fit. `path` leads from the root to it: ``.items[].price``."""

    def __init__(self, reason: str, path: str = "") -> None:
        super().__init__(reason, path)
        self.reason = reason
        self.path = path

    def under(self, segment: str) -> Misfit:
        """The same misfit, seen from one level higher up."""
        self.path = segment + self.path
        return self


def unexpected(expected: str, value: object) -> Misfit:
    """A misfit that names the two types. A class in the place of one of its objects is called that."""
    found = f"the class {value.__name__} itself" if isinstance(value, type) else type(value).__name__
    return Misfit(f"expected {expected}, found {found}")


def of_other_class(expected: type, value: object) -> Misfit:
    """The same for values with fields, which may be of a subclass, as answers often are."""
    if not isinstance(value, expected):
        return unexpected(expected.__name__, value)
    own = type(value).__name__
    words = f"expected {expected.__name__}, found its subclass {own}, whose own fields would be lost: declare {own}"
    return Misfit(words)


@contextmanager
def under(segment: str) -> Iterator[None]:
    """Prefix the path of a misfit inside. For compiling; hooks have their own `try`, which costs nothing."""
    try:
        yield
    except Misfit as misfit:
        raise misfit.under(segment) from None


def type_name(kind: Any, *, full: bool = False) -> str:
    """A type as a person writes it: ``Order``, ``list[int]``; with `full`, classes are named with their module."""
    if kind is type(None):
        return "None"
    if kind is ...:
        return "..."
    origin = get_origin(kind)
    if origin is Annotated:
        return type_name(kind.__origin__, full=full)
    names = [type_name(argument, full=full) for argument in get_args(kind)]
    if origin in (Union, UnionType):
        return " | ".join(names)
    if not names:
        return _class_name(kind, full=full)
    return f"{_class_name(origin, full=full)}[{', '.join(names)}]"


def _class_name(kind: Any, *, full: bool) -> str:
    name = str(getattr(kind, "__name__", None) or repr(kind))
    module = getattr(kind, "__module__", "")
    if not full or module == "builtins":
        return name
    return f"{module}.{getattr(kind, '__qualname__', name)}"
