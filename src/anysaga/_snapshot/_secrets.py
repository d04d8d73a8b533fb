"""Fields that nobody may read in a log: how they are marked, found and blotted out."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Mapping
from datetime import date, time, timedelta
from functools import cache
from types import MappingProxyType
from typing import Annotated, Any, Literal, TypeVar, get_args, get_origin, overload

import attrs

from ._fields import Field, bare, fields_of, has_fields, is_named_tuple, unwrapped
from ._text import fit_error

V = TypeVar("V")

_MARK = "anysaga.secret"

SECRET: Mapping[str, bool] = MappingProxyType({_MARK: True})
"""The metadata of a secret field, for dataclasses: ``card: str = field(repr=False, metadata=SECRET)``."""


@overload
def secret(
    *,
    default: V,
    kw_only: bool | None = ...,
    init: bool = ...,
    alias: str | None = ...,
    validator: Any = ...,
    converter: Any = ...,
    on_setattr: Any = ...,
    eq: bool | None = ...,
    order: bool | None = ...,
    hash: bool | None = ...,
    metadata: Mapping[Any, Any] | None = ...,
) -> V: ...


@overload
def secret(
    *,
    factory: Callable[[], V],
    kw_only: bool | None = ...,
    init: bool = ...,
    alias: str | None = ...,
    validator: Any = ...,
    converter: Any = ...,
    on_setattr: Any = ...,
    eq: bool | None = ...,
    order: bool | None = ...,
    hash: bool | None = ...,
    metadata: Mapping[Any, Any] | None = ...,
) -> V: ...


@overload
def secret(
    *,
    kw_only: bool | None = ...,
    init: bool = ...,
    alias: str | None = ...,
    validator: Any = ...,
    converter: Any = ...,
    on_setattr: Any = ...,
    eq: bool | None = ...,
    order: bool | None = ...,
    hash: bool | None = ...,
    metadata: Mapping[Any, Any] | None = ...,
) -> Any: ...


def secret(**options: Any) -> Any:
    """Declare a field of an attrs class whose value appears in no log, error or trace. It is stored like any other.

    Takes what `attrs.field` takes, besides `repr`, which is off. Type checkers see a field with a default here, so
    put it behind the required fields. Where that is in the way, and in dataclasses, mark the type instead; the
    class's own `repr` then still shows the value, unless the field is also declared with ``repr=False``.

        @define
        class Payment:
            amount: Decimal
            card: str = secret()

        @dataclass
        class Login:
            name: str
            password: Annotated[str, secret] = field(repr=False)
    """
    return attrs.field(repr=False, metadata={**(options.pop("metadata", None) or {}), **SECRET}, **options)


def is_marked(annotation: Any) -> bool:
    """Whether `secret` stands anywhere in a type, as in ``list[Annotated[str, secret]]``: then all of it is secret.

    Type aliases are looked into, each once, since one may name itself.
    """
    todo, aliases = [annotation], list[Any]()
    while todo:
        kind = todo.pop()
        if get_origin(kind) is Annotated and secret in kind.__metadata__:
            return True
        inner = unwrapped(kind)
        if inner is kind:
            todo.extend(get_args(kind))
        elif not any(kind is alias for alias in aliases):
            aliases.append(kind)
            todo.append(inner)
    return False


def is_secret(field: Field) -> bool:
    """Whether a field is marked, by its metadata or in its type."""
    return bool(field.metadata.get(_MARK)) or is_marked(field.annotation)


def has_secrets(kind: Any) -> bool:
    """Whether a value of this type can have a secret anywhere."""
    return is_marked(kind) or _has_secret_fields(kind, set())


def _has_secret_fields(kind: Any, seen: set[Any]) -> bool:
    kind = bare(kind)
    if kind in seen:
        return False
    seen.add(kind)
    if _names_parts(kind) and any(is_secret(each) or _has_secret_fields(each.kind, seen) for each in fields_of(kind)):
        return True
    return get_origin(kind) is not Literal and any(_has_secret_fields(each, seen) for each in get_args(kind))


def find_secrets(value: Any, *, all_of_it: bool) -> tuple[str, ...]:
    """The texts of all secrets in a value, each once; of every part of it if `all_of_it`.

    None, bools and empty texts say nothing and are left out. A str comes as `repr` shows it too, where that differs;
    so do dates and times, and in the form of ISO 8601.
    """
    found: dict[str, None] = {}
    seen: set[tuple[int, bool]] = set()
    todo = [(value, all_of_it)]
    while todo:
        part, hidden = todo.pop()
        inner = _parts(part, hidden=hidden)
        if inner is None:
            found.update(dict.fromkeys(_texts(part) if hidden else ()))
        elif (id(part), hidden) not in seen:
            seen.add((id(part), hidden))
            todo.extend(inner)
    return tuple(found)


def _parts(value: Any, *, hidden: bool) -> list[tuple[Any, bool]] | None:
    """What a value is made of, each part with whether it is secret; None if it has no parts."""
    if _names_parts(type(value)):
        return [(getattr(value, name, None), hidden or marked) for name, marked in _marks(value.__class__)]
    if isinstance(value, dict):
        return [(part, hidden) for pair in value.items() for part in pair]
    if isinstance(value, list | tuple | set | frozenset):
        return [(part, hidden) for part in value]
    return None


@cache
def _marks(cls: Any) -> tuple[tuple[str, bool], ...]:
    return tuple((field.name, is_secret(field)) for field in fields_of(cls))


def _names_parts(kind: Any) -> bool:
    return has_fields(kind) or is_named_tuple(kind)


def _texts(value: Any) -> Iterator[str]:
    if value is None or isinstance(value, bool):
        return
    if isinstance(value, bytes):
        yield repr(bytes(value))[2:-1]  # without the b, so that decoded bytes are found as well
        return
    text = str.__str__(value) if isinstance(value, str) else str(value)
    forms = [text, repr(text)[1:-1]]
    if isinstance(value, date | time | timedelta):
        forms.append(repr(value))
    if isinstance(value, date | time):
        forms.append(value.isoformat())
    yield from (each for each in dict.fromkeys(forms) if each)


def error_in_words(error: BaseException, secrets: Collection[str] = ()) -> str:
    """An error as one text that can be stored and shown: none of these secrets, bounded, always writable."""
    try:
        said = str(error)
    except Exception:  # noqa: BLE001 - a user's __str__ may raise anything
        said = "(its text could not be made)"
    text = f"{type(error).__name__}: {said}" if said else type(error).__name__
    return fit_error(redact(text, secrets))


def redact(text: str, secrets: Collection[str]) -> str:
    """Put ``***`` for every occurrence of every non-empty secret. Those that overlap become one ``***``."""
    if not secrets:
        return text
    spans = sorted(
        (match.start(), match.start() + len(each))
        for each in set(secrets)
        if each
        for match in re.finditer(f"(?={re.escape(each)})", text)
    )
    kept: list[str] = []
    done = 0
    for start, end in spans:
        if start >= done:
            kept += (text[done:start], "***")
        done = max(done, end)
    return "".join((*kept, text[done:]))
