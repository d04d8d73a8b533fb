"""Writers and readers of one class without a loop, compiled as attrs compiles an `__init__`: they take half the time.

What they raise names no field: those in a hurry do not ask.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ._misfit import Read, Write, unexpected

Part = tuple[str, Any, frozenset[type]]
"""The name of a field, its hook, and the classes of values that need no hook."""


def flat_writer(cls: Any, parts: Iterable[Part]) -> Write:
    """A function like this one.

    def write(value):
        if value.__class__ is not cls:
            raise unexpected(cls.__name__, value)
        part0 = value.name
        if part0.__class__ not in spared0:
            part0 = hook0(part0)
        return {"name": part0}
    """
    known: dict[str, Any] = {"cls": cls, "unexpected": unexpected}
    lines = ["def write(value):", " if value.__class__ is not cls:", "  raise unexpected(cls.__name__, value)"]
    names = []
    for at, (name, hook, spared) in enumerate(parts):
        lines += [f" part{at} = value.{name}", *_hooked(at, hook, spared, known)]
        names.append(f"{name!r}: part{at}")
    write: Write = _compiled([*lines, f" return {{{', '.join(names)}}}"], known)["write"]
    return write


def flat_reader(cls: Any, parts: list[Part], read_some: Read) -> Read:
    """A function like this one, for the text of all fields: `read_some` reads any other.

    def read(plain, _=None):
        if plain.__class__ is not dict or len(plain) != 1:
            return read_some(plain)
        value = make(cls)
        part0 = plain["name"]
        if part0.__class__ not in spared0:
            part0 = hook0(part0)
        value.name = part0
        return value
    """
    known: dict[str, Any] = {"cls": cls, "make": object.__new__, "put": object.__setattr__, "read_some": read_some}
    # Past frozen classes, and past hooks on setting.
    put = "value.{} = part{}" if cls.__setattr__ is object.__setattr__ else "put(value, {!r}, part{})"
    lines = ["def read(plain, _=None):", f" if plain.__class__ is not dict or len(plain) != {len(parts)}:"]
    lines += ["  return read_some(plain)", " value = make(cls)"]
    for at, (name, hook, spared) in enumerate(parts):
        lines += [f" part{at} = plain[{name!r}]", *_hooked(at, hook, spared, known), f" {put.format(name, at)}"]
    read: Read = _compiled([*lines, " return value"], known)["read"]
    return read


def _hooked(at: int, hook: Any, spared: frozenset[type], known: dict[str, Any]) -> list[str]:
    known.update({f"hook{at}": hook, f"spared{at}": spared})
    return [f" if part{at}.__class__ not in spared{at}:", f"  part{at} = hook{at}(part{at})"]


def _compiled(lines: list[str], known: dict[str, Any]) -> dict[str, Any]:
    exec("\n".join(lines), known)  # noqa: S102 - of names that attrs and dataclasses put into such code as well
    return known
