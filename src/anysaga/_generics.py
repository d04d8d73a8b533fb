"""Which types a class gave to the parameters of a generic base: ``Step[Order]`` says `Order`."""

from __future__ import annotations

import typing
from typing import Any, get_args, get_origin


def arguments_of(kind: type, base: type) -> tuple[Any, ...]:
    """The arguments that `kind` gives to the parameters of its generic ancestor `base`.

    A parameter that stays open is in the result as its type variable (or its default, if it has one).
    """
    parameters = getattr(base, "__parameters__", ())
    found = _search(kind, base, {})
    arguments = found if found is not None else parameters
    filled = list(arguments) + list(parameters[len(arguments) :])
    return tuple(_default_of(argument) for argument in filled)


def is_open(argument: object) -> bool:
    """Whether this is a type variable that nobody filled."""
    return isinstance(argument, typing.TypeVar)


def _search(kind: type, base: type, given: dict[Any, Any]) -> tuple[Any, ...] | None:
    found: list[tuple[Any, ...]] = []
    for ancestor in kind.__dict__.get("__orig_bases__", kind.__bases__):
        origin = get_origin(ancestor) or ancestor
        if not isinstance(origin, type) or not issubclass(origin, base):
            continue
        arguments = tuple(_filled(argument, given) for argument in get_args(ancestor))
        if origin is not base:
            parameters = getattr(origin, "__parameters__", ())
            arguments = _search(origin, base, dict(zip(parameters, arguments, strict=False))) or ()
        found.append(arguments)
    return _strongest(found) if found else None


def _strongest(found: list[tuple[Any, ...]]) -> tuple[Any, ...]:
    """For each parameter the first argument that says something: a mixin may leave open what another base gives."""
    chosen: list[Any] = []
    for place in range(max(map(len, found))):
        given = [arguments[place] for arguments in found if place < len(arguments)]
        chosen.append(next((one for one in given if not is_open(one) and one is not Any), given[0]))
    return tuple(chosen)


def _filled(argument: Any, given: dict[Any, Any]) -> Any:
    """The argument with the type variables that are given filled in, also inside ``list[T]``."""
    if is_open(argument):
        return given.get(argument, argument)
    inner = () if isinstance(argument, type) else getattr(argument, "__parameters__", ())
    return argument[tuple(given.get(one, one) for one in inner)] if inner else argument  # pyright: ignore[reportIndexIssue]


def _default_of(argument: Any) -> Any:
    has_default = getattr(argument, "has_default", None)
    if is_open(argument) and has_default is not None and has_default():
        return argument.__default__
    return argument
