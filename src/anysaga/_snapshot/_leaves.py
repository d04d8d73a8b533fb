"""Values without parts: how each is written, how it is read.

* str is a JSON string; NUL and lone surrogates are refused
* int and bool are what they are in JSON; float too, NaN and infinity are refused
* Decimal, UUID and Path are strings
* datetime, date and time are strings of ISO 8601; a time zone becomes its offset, and `fold` is not kept
* timedelta is a whole number of microseconds
* bytes are a base64 string
* Any and object are plain JSON values: None, bool, int, float, str, list, and dict with str keys

Writing takes subclasses and writes them as the declared type. Reading takes exactly what writing writes.
"""

from __future__ import annotations

from base64 import b64decode, b64encode
from collections.abc import Callable
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from math import isfinite
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar
from uuid import UUID

from ._misfit import NOT_FINITE, NUL, SURROGATE, Misfit, Read, Write, unexpected

V = TypeVar("V")

_MICROSECOND = timedelta(microseconds=1)


def write_str(value: Any) -> str:
    if value.__class__ is not str:
        if not isinstance(value, str):
            raise unexpected("str", value)
        value = str.__str__(value)
    return _checked(value)


def read_str(value: Any, _: Any = None) -> str:
    if value.__class__ is not str:
        raise unexpected("str", value)
    return _checked(value)


def _checked(text: str) -> str:
    if "\0" in text:
        raise Misfit(NUL)
    if text.isascii():
        return text
    try:
        text.encode()
    except UnicodeEncodeError:
        raise Misfit(SURROGATE) from None
    return text


def write_int(value: Any) -> int:
    if value.__class__ is int:
        return value
    if isinstance(value, int):
        return int.__int__(value)
    raise unexpected("int", value)


def read_int(value: Any, _: Any = None) -> int:
    if value.__class__ is int:
        return value
    raise unexpected("int", value)


def write_float(value: Any) -> float:
    if isinstance(value, float):
        return _finite(float.__float__(value))
    if isinstance(value, int):
        return _as_float(value)
    raise unexpected("float", value)


def read_float(value: Any, _: Any = None) -> float:
    if value.__class__ is float:
        return _finite(value)
    if value.__class__ is int:
        return _as_float(value)
    raise unexpected("float", value)


def _as_float(value: int) -> float:
    try:
        number = float(value)
    except OverflowError:
        raise Misfit("it is too large for a float") from None
    if number != value:
        raise Misfit("it is an int that no float equals")
    return number


def _finite(value: float) -> float:
    if isfinite(value):
        return value
    raise Misfit(NOT_FINITE)


def write_bool(value: Any) -> bool:
    if value.__class__ is bool:
        return value
    raise unexpected("bool", value)


def read_bool(value: Any, _: Any = None) -> bool:
    return write_bool(value)


def write_none(value: Any) -> None:
    if value is not None:
        raise unexpected("None", value)


def read_none(value: Any, _: Any = None) -> None:
    write_none(value)


def write_decimal(value: Decimal) -> str:
    if not value.is_finite():
        raise Misfit(NOT_FINITE)
    return Decimal.__str__(value)


def write_date(value: date) -> str:
    if isinstance(value, datetime):
        raise unexpected("date", value)
    return date.isoformat(value)


def write_time(value: time) -> str:
    _check_offset(value)
    return time.isoformat(value)


def write_datetime(value: datetime) -> str:
    _check_offset(value)
    return datetime.isoformat(value)


def _check_offset(value: datetime | time) -> None:
    """A zone that has no offset for this time would be lost, and a naive one come back."""
    if value.tzinfo is not None and value.utcoffset() is None:
        raise Misfit("its time zone has no offset")


def _text_hooks(kind: type[V], write: Callable[[V], str], read: Callable[[str], V]) -> tuple[Write, Read]:
    """Hooks of a type that is stored as a string. A string is read only if writing would give the very same one."""
    name = kind.__name__

    def write_hook(value: Any) -> str:
        if isinstance(value, kind):
            return write(value)
        raise unexpected(name, value)

    def read_hook(text: Any, _: Any = None) -> V:
        if text.__class__ is not str:
            raise unexpected(f"{name} as str", text)
        try:
            value = read(text)
            same = write(value) == text
        except (ValueError, ArithmeticError):
            raise Misfit(f"expected {name} as str, found another text") from None
        if same:
            return value
        raise Misfit(f"expected {name} as str, found another text")

    return write_hook, read_hook


def write_timedelta(value: Any) -> int:
    if isinstance(value, timedelta):
        return value // _MICROSECOND
    raise unexpected("timedelta", value)


def read_timedelta(value: Any, _: Any = None) -> timedelta:
    try:
        return timedelta(microseconds=read_int(value))
    except OverflowError:
        raise Misfit("it is too large for a timedelta") from None


LEAVES: MappingProxyType[type, tuple[Write, Read]] = MappingProxyType(
    {
        str: (write_str, read_str),
        int: (write_int, read_int),
        float: (write_float, read_float),
        bool: (write_bool, read_bool),
        type(None): (write_none, read_none),
        Decimal: _text_hooks(Decimal, write_decimal, Decimal),
        UUID: _text_hooks(UUID, UUID.__str__, UUID),
        datetime: _text_hooks(datetime, write_datetime, datetime.fromisoformat),
        date: _text_hooks(date, write_date, date.fromisoformat),
        time: _text_hooks(time, write_time, time.fromisoformat),
        timedelta: (write_timedelta, read_timedelta),
        Path: _text_hooks(Path, lambda path: _checked(str(path)), Path),
        bytes: _text_hooks(
            bytes, lambda data: b64encode(data).decode("ascii"), lambda text: b64decode(text, validate=True)
        ),
    }
)


_NATIVE = (str, int, bool, type(None))

AS_THEY_ARE: MappingProxyType[Any, frozenset[type]] = MappingProxyType(
    {cls: frozenset({cls}) for cls in _NATIVE} | {any_: frozenset(_NATIVE) for any_ in (Any, object)}
)
"""By type, the classes of values that are written and read as they are. Others check the characters of a str."""


def write_plain(value: Any) -> Any:
    """A copy of a value that already is plain JSON; for `Any` and `object`."""
    cls = value.__class__
    if cls is str:
        return _checked(value)
    if cls is float:
        return _finite(value)
    if value is None or cls is int or cls is bool:
        return value
    if cls is list:
        return [write_plain(item) for item in value]
    if cls is dict:
        return {read_str(key): write_plain(item) for key, item in value.items()}
    raise unexpected("a plain JSON value", value)


def read_plain(value: Any, _: Any = None) -> Any:
    return write_plain(value)
