"""Values with parts of one kind.

* list and tuple (fixed or ``...``) are JSON lists; without arguments their parts are `Any`
* set and frozenset are JSON lists in sorted order, so that equal sets give equal text
* dict with str keys is a JSON object; with any other keys a list of [key, value] pairs; order is kept

A path says ``[]`` for "one of the parts", never which: a key could be a secret.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, get_args, get_origin

from ._fields import bare
from ._leaves import LEAVES
from ._misfit import Misfit, Read, Write, under, unexpected
from ._text import dumps


class Hooks(Protocol):
    """Finds the hooks of the types that a type is made of."""

    def writer(self, kind: Any, /) -> Write: ...

    def reader(self, kind: Any, /) -> Read: ...

    @property
    def in_a_hurry(self) -> bool:
        """Whether a hook may raise anything, without a path, for a value that does not fit."""
        ...

    def spared(self, kind: Any, /) -> frozenset[type]:
        """Classes whose values both hooks of `kind` give back as they are, so that those who hurry call none."""
        ...


def is_list(kind: Any) -> bool:
    return (get_origin(kind) or kind) is list


def write_list(kind: Any, hooks: Hooks) -> Write:
    with under("[]"):
        write = hooks.writer(_part(kind))
    return _list_writer(list, write, hooks.spared(_part(kind)))


def read_list(kind: Any, hooks: Hooks) -> Read:
    return _list_reader(list, hooks.reader(_part(kind)), hooks.spared(_part(kind)))


def is_set(kind: Any) -> bool:
    return (get_origin(kind) or kind) in (set, frozenset)


def write_set(kind: Any, hooks: Hooks) -> Write:
    with under("[]"):
        write = hooks.writer(_part(kind))
    write_parts = _list_writer(get_origin(kind) or kind, write, hooks.spared(_part(kind)))
    # These are all strings or all numbers once written; a mix needs an order of its own.
    key = None if bare(_part(kind)) in LEAVES else dumps

    def write_hook(value: Any) -> list[Any]:
        return sorted(write_parts(value), key=key)

    return write_hook


def read_set(kind: Any, hooks: Hooks) -> Read:
    make = get_origin(kind) or kind
    read_parts = _list_reader(make, hooks.reader(_part(kind)), hooks.spared(_part(kind)))

    def read_hook(plain: Any, _: Any = None) -> Any:
        value = read_parts(plain)
        if len(value) < len(plain):
            raise Misfit(f"the same part is twice in a {make.__name__}")
        return value

    return read_hook


def is_tuple(kind: Any) -> bool:
    return (get_origin(kind) or kind) is tuple


def write_tuple(kind: Any, hooks: Hooks) -> Write:
    parts = _tuple_parts(kind)
    if parts is None:
        with under("[]"):
            write = hooks.writer(_part(kind))
        return _list_writer(tuple, write, hooks.spared(_part(kind)))
    writers = []
    for index, part in enumerate(parts):
        with under(f"[{index}]"):
            writers.append(hooks.writer(part))
    return fixed_writer(tuple, writers)


def read_tuple(kind: Any, hooks: Hooks) -> Read:
    parts = _tuple_parts(kind)
    if parts is None:
        return _list_reader(tuple, hooks.reader(_part(kind)), hooks.spared(_part(kind)))
    return fixed_reader(tuple, [hooks.reader(part) for part in parts], tuple)


def fixed_writer(cls: type, writers: list[Write]) -> Write:
    """For a tuple in which each place has a type of its own."""

    def write_hook(value: Any) -> list[Any]:
        if not isinstance(value, cls):
            raise unexpected(cls.__name__, value)
        return _each(cls.__name__, value, writers)

    return write_hook


def fixed_reader(cls: type, readers: list[Read], make: Callable[[list[Any]], Any]) -> Read:
    """The way back of `fixed_writer`."""

    def read_hook(plain: Any, _: Any = None) -> Any:
        if plain.__class__ is not list:
            raise unexpected(f"{cls.__name__} as list", plain)
        return make(_each(cls.__name__, plain, readers))

    return read_hook


def _each(name: str, values: Any, hooks: list[Callable[..., Any]]) -> list[Any]:
    if len(values) != len(hooks):
        raise Misfit(f"expected {name} of {len(hooks)} parts, found {len(values)}")
    done: list[Any] = []
    try:
        for hook, value in zip(hooks, values, strict=True):
            done.append(hook(value))
    except Misfit as misfit:
        raise misfit.under(f"[{len(done)}]") from None
    return done


def is_dict(kind: Any) -> bool:
    return (get_origin(kind) or kind) is dict


def write_dict(kind: Any, hooks: Hooks) -> Write:
    key_kind, value_kind = _dict_parts(kind)
    with under("[key]"):
        write_key = hooks.writer(key_kind)
    with under("[]"):
        write = hooks.writer(value_kind)
    as_pairs = bare(key_kind) is not str
    keys, items = hooks.spared(key_kind), hooks.spared(value_kind)

    def write_pairs(value: dict[Any, Any]) -> list[Any]:
        return [[write_key(key), write(item)] for key, item in value.items()]

    def write_object(value: dict[Any, Any]) -> dict[str, Any]:
        plain: dict[str, Any] = {}
        for key, item in value.items():
            name: Any = key if key.__class__ in keys else write_key(key)
            plain[name] = item if item.__class__ in items else write(item)
        return plain

    write_parts = write_pairs if as_pairs else write_object

    def write_hook(value: Any) -> Any:
        if not isinstance(value, dict):
            raise unexpected("dict", value)
        try:
            plain = write_parts(value)
        except Misfit as misfit:
            raise misfit.under("[]") from None
        if len(plain) < len(value):
            raise Misfit("two of its keys would be stored alike")
        return plain

    return write_hook


def read_dict(kind: Any, hooks: Hooks) -> Read:
    key_kind, value_kind = _dict_parts(kind)
    read_key, read, items = hooks.reader(key_kind), hooks.reader(value_kind), hooks.spared(value_kind)
    if bare(key_kind) is not str:
        read_pairs = _list_reader(list, fixed_reader(tuple, [read_key, read], tuple), frozenset())

        def read_as_pairs(plain: Any, _: Any = None) -> dict[Any, Any]:
            value = dict(read_pairs(plain))
            if len(value) < len(plain):
                raise Misfit("the same key is twice in a dict")
            return value

        return read_as_pairs

    def read_hook(plain: Any, _: Any = None) -> dict[str, Any]:
        if plain.__class__ is not dict:
            raise unexpected("dict", plain)
        try:
            return {read_key(key): item if item.__class__ in items else read(item) for key, item in plain.items()}
        except Misfit as misfit:
            raise misfit.under("[]") from None

    return read_hook


def _list_writer(cls: Any, write: Write, spared: frozenset[type]) -> Write:
    (only,) = spared if len(spared) == 1 else (None,)

    def write_hook(value: Any) -> list[Any]:
        if not isinstance(value, cls):
            raise unexpected(cls.__name__, value)
        if only is not None:
            for part in value:
                if part.__class__ is not only:
                    break
            else:
                return [*value]
        try:
            return [part if part.__class__ in spared else write(part) for part in value]
        except Misfit as misfit:
            raise misfit.under("[]") from None

    return write_hook


def _list_reader(make: Callable[[list[Any]], Any], read: Read, spared: frozenset[type]) -> Read:
    def read_hook(plain: Any, _: Any = None) -> Any:
        if plain.__class__ is not list:
            raise unexpected("list", plain)
        try:
            parts = [part if part.__class__ in spared else read(part) for part in plain]
        except Misfit as misfit:
            raise misfit.under("[]") from None
        return parts if make is list else make(parts)

    return read_hook


def _part(kind: Any) -> Any:
    return (get_args(kind) or (Any,))[0]


def _tuple_parts(kind: Any) -> tuple[Any, ...] | None:
    """The types of the places of a fixed tuple; None for one of any length."""
    arguments = get_args(kind)
    if not hasattr(kind, "__args__") or arguments[1:] == (...,):  # `tuple[()]` has none, but says so
        return None
    return arguments


def _dict_parts(kind: Any) -> tuple[Any, Any]:
    key, value = get_args(kind) or (str, Any)
    return key, value
