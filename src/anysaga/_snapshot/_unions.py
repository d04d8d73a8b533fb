"""Values of one type out of several.

* None is null
* a union of None and one other type is stored as that type
* a union of str, int, float, bool and None is what it is in JSON
* any other is an object with one key, the name of the type: ``{"Card": {...}}``

A name is looked up among the declared members only. Two members of one name have their module in it.
"""

from __future__ import annotations

from collections import Counter
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin

from ._collections import Hooks
from ._fields import bare
from ._misfit import Misfit, Read, Write, type_name, under, unexpected

_NONE = type(None)
_NATIVE = (str, int, float, bool)


def is_union(kind: Any) -> bool:
    return get_origin(kind) in (Union, UnionType)


def write_union(kind: Any, hooks: Hooks) -> Write:
    members, has_none = _members(kind)
    if len(members) == 1:
        return _optional_writer(hooks.writer(members[0]))
    if all(bare(member) in _NATIVE for member in members):
        writers = {bare(member): hooks.writer(member) for member in members}
        write = _native_writer(writers, type_name(kind))
    else:
        write = _tagged_writer(members, hooks, type_name(kind))
    return _optional_writer(write) if has_none else write


def read_union(kind: Any, hooks: Hooks) -> Read:
    members, has_none = _members(kind)
    if len(members) == 1:
        return _optional_reader(hooks.reader(members[0]))
    if all(bare(member) in _NATIVE for member in members):
        readers = {bare(member): hooks.reader(member) for member in members}
        read = _native_reader(readers, type_name(kind))
    else:
        read = _tagged_reader({tag: hooks.reader(each) for tag, each in _tags(members).items()}, type_name(kind))
    return _optional_reader(read) if has_none else read


def spared_in_union(kind: Any, hooks: Hooks) -> frozenset[type]:
    """The classes that `Hooks.spared` tells of, where the union is stored without a tag."""
    members, has_none = _members(kind)
    if len(members) > 1 and not all(bare(member) in _NATIVE for member in members):
        members = []
    nones = frozenset({_NONE}) if has_none else frozenset[type]()
    return nones.union(*map(hooks.spared, members))


def _members(kind: Any) -> tuple[list[Any], bool]:
    """The members besides None, with unions behind a NewType or an alias laid flat, and whether None is one."""
    found: list[Any] = []
    has_none = False
    for member in get_args(kind):
        if is_union(bare(member)):
            inner, inner_none = _members(bare(member))
            found.extend(each for each in inner if each not in found)
            has_none = has_none or inner_none
        elif bare(member) is _NONE:
            has_none = True
        elif member not in found:
            found.append(member)
    return found, has_none


def _optional_writer(write: Write) -> Write:
    return lambda value: None if value is None else write(value)


def _optional_reader(read: Read) -> Read:
    return lambda plain, _=None: None if plain is None else read(plain)


def _native_writer(writers: dict[Any, Write], name: str) -> Write:
    def write_hook(value: Any) -> Any:
        write = writers.get(value.__class__)
        return _first(list(writers.values()), value, name) if write is None else write(value)

    return write_hook


def _native_reader(readers: dict[Any, Read], name: str) -> Read:
    def read_hook(plain: Any, _: Any = None) -> Any:
        read = readers.get(plain.__class__)
        return _first(list(readers.values()), plain, name) if read is None else read(plain)

    return read_hook


def _first(hooks: list[Any], value: Any, name: str) -> Any:
    """What the first fitting hook makes of a subclass, or of an int where a float is meant."""
    for hook in hooks:
        try:
            return hook(value)
        except Misfit:
            continue
    raise unexpected(name, value)


def _tagged_writer(members: list[Any], hooks: Hooks, name: str) -> Write:
    every: list[tuple[str, Write]] = []
    by_class: dict[type, list[tuple[str, Write]]] = {}
    for tag, member in _tags(members).items():
        with under(f"[{tag}]"):
            entry = (tag, hooks.writer(member))
        every.append(entry)
        for cls in _classes(member):
            by_class.setdefault(cls, []).append(entry)

    def write_hook(value: Any) -> dict[str, Any]:
        candidates = by_class.get(value.__class__, every)
        for tag, write in candidates:
            try:
                return {tag: write(value)}
            except Misfit:
                if len(candidates) == 1:
                    raise
        raise unexpected(name, value)

    return write_hook


def _tagged_reader(readers: dict[str, Read], name: str) -> Read:
    def read_hook(plain: Any, _: Any = None) -> Any:
        if plain.__class__ is not dict or len(plain) != 1:
            raise unexpected(f"{name} as an object of one key", plain)
        ((tag, inner),) = plain.items()
        if tag not in readers:
            raise Misfit(f"its tag names no member of {name}")
        return readers[tag](inner)

    return read_hook


def _tags(members: list[Any]) -> dict[str, Any]:
    seen = Counter(type_name(member) for member in members)
    tags = {type_name(each, full=seen[type_name(each)] > 1): each for each in members}
    if len(tags) < len(members):
        raise Misfit("two members of its union have one name")
    return tags


def _classes(member: Any) -> set[type]:
    """The classes that values of a member have at run time, where that can be said."""
    kind = bare(member)
    if get_origin(kind) is Literal:
        return {value.__class__ for value in get_args(kind)}
    cls = get_origin(kind) or kind
    return {cls} if isinstance(cls, type) and cls is not object else set()
