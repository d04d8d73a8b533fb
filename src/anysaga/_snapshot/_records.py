"""Values with named parts.

* attrs classes and dataclasses are JSON objects, one key a field, under the field's own name (not its alias)
* `init=False` fields are stored like all others
* TypedDict is a JSON object, NamedTuple a JSON list

A value must be of exactly the declared class: a subclass would lose its own fields, so name it in a union instead.
Reading makes a value as `copy` does, without `__init__`: converters, validators and post-init methods ran when the
value was first made, and what they did is stored. A field that the text does not have gets its default; one that
the class does not have is refused.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any, NotRequired, Required, get_origin

import attrs

from ._collections import Hooks, fixed_reader, fixed_writer
from ._fields import Field, fields_of
from ._flat import flat_reader, flat_writer
from ._misfit import Misfit, Read, Write, of_other_class, under, unexpected
from ._secrets import is_secret

_UNKNOWN = "it has a field that is not declared"
_MISSING = "it is missing"
_HASH_CACHE = "_attrs_cached_hash"
_set: Callable[[Any, str, Any], None] = object.__setattr__  # past frozen classes, and past hooks on setting


def write_class(kind: Any, hooks: Hooks) -> Write:
    cls: Any = get_origin(kind) or kind
    if cls.__new__ is not object.__new__:
        raise Misfit(f"{cls.__name__} has a __new__ of its own, so it could not be read back")
    if hooks.in_a_hurry:
        return flat_writer(cls, [(name, write, hooks.spared(kind)) for name, kind, write in _writers(kind, hooks)])
    writers = [(name, write) for name, _, write in _writers(kind, hooks)]

    def write_hook(value: Any) -> dict[str, Any]:
        if value.__class__ is not cls:
            raise of_other_class(cls, value)
        plain: dict[str, Any] = {}
        name = ""
        try:
            for name, write in writers:
                plain[name] = write(getattr(value, name))
        except Misfit as misfit:
            raise misfit.under(f".{name}") from None
        except AttributeError:
            raise Misfit("it has no value yet", f".{name}") from None
        return plain

    return write_hook


def read_class(kind: Any, hooks: Hooks) -> Read:
    cls: Any = get_origin(kind) or kind
    readers = [(field.name, hooks.reader(field.kind), field.default or _missing) for field in fields_of(kind)]
    hash_cached = caches_hash(cls)

    def read_hook(plain: Any, _: Any = None) -> Any:
        if plain.__class__ is not dict:
            raise unexpected(f"{cls.__name__} as dict", plain)
        value = object.__new__(cls)
        known = 0
        name = ""
        try:
            for name, read, default in readers:
                if name in plain:
                    known += 1
                    _set(value, name, read(plain[name]))
                else:
                    _set(value, name, default(value))
        except Misfit as misfit:
            raise misfit.under(f".{name}") from None
        if known < len(plain):
            raise Misfit(_UNKNOWN)
        if hash_cached:
            _set(value, _HASH_CACHE, None)
        return value

    if not hooks.in_a_hurry or hash_cached:
        return read_hook
    parts = [(field.name, hooks.reader(field.kind), hooks.spared(field.kind)) for field in fields_of(kind)]
    return flat_reader(cls, parts, read_hook)


def _missing(_: Any) -> Any:
    raise Misfit(_MISSING)


def caches_hash(cls: type) -> bool:
    """Whether attrs keeps the hash in the value; such a value needs an empty place for it."""
    return attrs.has(cls) and attrs.inspect(cls).hashability is attrs.ClassProps.Hashability.HASHABLE_CACHED


def refill(target: Any, source: Any, fields: tuple[Field, ...], hidden: tuple[str, ...]) -> None:
    """Give `target` the fields of `source` and take everything else from it: extra attributes, cached properties."""
    extra = getattr(target, "__dict__", {})
    names = {field.name for field in fields}
    for name in [name for name in extra if name not in names]:
        del extra[name]
    for name in hidden:
        with suppress(AttributeError):
            object.__delattr__(target, name)
    for field in fields:
        _set(target, field.name, getattr(source, field.name))
    if caches_hash(type(target)):
        _set(target, _HASH_CACHE, None)


def write_typed_dict(kind: Any, hooks: Hooks) -> Write:
    if any(is_secret(field) for field in fields_of(kind)):
        raise Misfit("a dict cannot hide a secret: mark it in an attrs class or a dataclass")
    writers = {name: write for name, _, write in _writers(kind, hooks)}
    required = _required(kind)

    def write_hook(value: Any) -> dict[str, Any]:
        if not isinstance(value, dict):
            raise unexpected(_name(kind), value)
        return _each_key(value, writers, required)

    return write_hook


def read_typed_dict(kind: Any, hooks: Hooks) -> Read:
    readers = {field.name: hooks.reader(field.kind) for field in fields_of(kind)}
    required = _required(kind)

    def read_hook(plain: Any, _: Any = None) -> dict[str, Any]:
        if plain.__class__ is not dict:
            raise unexpected(f"{_name(kind)} as dict", plain)
        return _each_key(plain, readers, required)

    return read_hook


def _each_key(values: dict[Any, Any], hooks: dict[str, Callable[..., Any]], required: frozenset[str]) -> dict[str, Any]:
    for name in required:
        if name not in values:
            raise Misfit(_MISSING, f".{name}")
    done: dict[str, Any] = {}
    for name, hook in hooks.items():
        if name not in values:
            continue
        with under(f".{name}"):
            done[name] = hook(values[name])
    if len(done) < len(values):
        raise Misfit(_UNKNOWN)
    return done


def write_named_tuple(kind: Any, hooks: Hooks) -> Write:
    return fixed_writer(kind, [write for _, _, write in _writers(kind, hooks)])


def read_named_tuple(kind: Any, hooks: Hooks) -> Read:
    return fixed_reader(kind, [hooks.reader(field.kind) for field in fields_of(kind)], kind._make)


def _writers(kind: Any, hooks: Hooks) -> list[tuple[str, Any, Write]]:
    """The name, the type and the hook of each field."""
    writers = []
    for field in fields_of(kind):
        with under(f".{field.name}"):
            writers.append((field.name, field.kind, hooks.writer(field.kind)))
    return writers


def _required(kind: Any) -> frozenset[str]:
    """Without the class's own answer where a key is marked: it does not see marks in annotations that are strings."""
    unmarked = (get_origin(kind) or kind).__required_keys__
    marks = {field.name: get_origin(field.annotation) for field in fields_of(kind)}
    return frozenset(
        name for name, mark in marks.items() if mark is Required or (name in unmarked and mark is not NotRequired)
    )


def _name(kind: Any) -> str:
    return str((get_origin(kind) or kind).__name__)
