"""How steps get what they need: a mapping of types to factories, and constructor injection from any container."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from functools import cache
from typing import Any, Self, TypeAlias, TypeVar

from attrs import define, field

from anysaga._errors import InvalidArgument, NotProvided
from anysaga._signatures import has_yield
from anysaga.abc import Container, Scope
from anysaga.containers import RawContainer, adapted
from anysaga.containers._names import means, name_of

_T = TypeVar("_T")

Factories: TypeAlias = Mapping[Any, Callable[[], Any]]
"""Factories by type. The key is `Any` so that a ``dict[type[Bank], ...]`` of a user fits: keys are invariant."""

GivenContainer: TypeAlias = Container | Factories | RawContainer
"""What is accepted wherever a container is asked for."""


@define(eq=False, repr=False)
class MappingContainer:
    """A container made of ``{type: factory}``. Each scope makes each thing once, when it is first asked for.

    A factory is called without arguments and may be ``async``. Raises `InvalidArgument` for a factory that cannot be
    called, and for one with a ``yield``.
    """

    factories: Factories

    def __attrs_post_init__(self) -> None:
        for kind, factory in self.factories.items():
            if not callable(factory):
                raise InvalidArgument("container", factory, f"give a function that makes a {name_of(kind)}")
            if has_yield(factory):
                problem = "it has a `yield`, and a mapping closes nothing: return it, or use a container of a package"
                raise InvalidArgument("container", factory, problem)

    def scope(self) -> AbstractAsyncContextManager[Scope]:
        """Open a scope that makes its own instances."""
        return _MappingScope(self.factories) if self.factories else _EMPTY


@define(eq=False, repr=False)
class _MappingScope:
    factories: Factories
    _made: dict[type, Any] = field(factory=dict)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        """Nothing to close: factories make plain objects."""

    def knows(self, wanted: type) -> bool:
        """Whether there is a factory, so that `get` need not fail to say so."""
        return wanted in self.factories

    async def get(self, wanted: type[_T], /) -> _T:
        if wanted not in self._made:
            self._made[wanted] = await self._make(wanted)
        return typing.cast("_T", self._made[wanted])

    async def _make(self, wanted: type) -> Any:
        factory = self.factories.get(wanted)
        if factory is None:
            raise NotProvided(name_of(wanted), "somebody")
        made = factory()
        return await made if inspect.isawaitable(made) else made


_EMPTY = _MappingScope({})  # it makes nothing, so all sagas may share it


def container_of(given: GivenContainer | None) -> Container:
    """The container for what a user gave: one of theirs, or a mapping (None is an empty one).

    One of a package that `anysaga.containers` has an adapter for is adapted.
    """
    if given is None:
        return MappingContainer({})
    if isinstance(given, Mapping):
        return MappingContainer(given)
    container = adapted(given)  # asked first: a container of dishka has a `scope` too, and it is something else
    if container is not None:
        return container
    if isinstance(given, Container) and not isinstance(given, type) and callable(given.scope):
        return given
    raise InvalidArgument(
        "container",
        given,
        "give a mapping {type: factory}, a container of di, dishka, svcs or dependency-injector, or an object with a "
        "`scope()` method",
    )


async def wire(step: type[_T], scope: Scope) -> _T:
    """Make a step: as the container makes it if it knows the class, else its constructor is filled from the container.

    A parameter with a default keeps it where the container has nothing. Raises `NotProvided`, naming the parameter,
    for one without, or what the container lacks to make what it has; and `TypeError` for a parameter that has neither
    a default nor an annotation.
    """
    if not isinstance(scope, _MappingScope) or scope.knows(step):
        try:
            return await scope.get(step)
        except NotProvided as error:
            if not means(error.wanted, step):
                raise
    given: dict[str, Any] = {}
    parameters = _parameters(step)  # type: ignore[arg-type]  # a class is hashable
    for name, parameter in parameters.items():
        if parameter.annotation is parameter.empty:
            if parameter.default is parameter.empty:
                raise TypeError(f"{step.__qualname__}({name}) says no type: annotate it, so that it can be looked up")
            continue
        try:
            given[name] = await scope.get(parameter.annotation)
        except NotProvided as error:
            if not means(error.wanted, parameter.annotation):
                raise
            if parameter.default is parameter.empty:
                raise NotProvided(name_of(parameter.annotation), f"{step.__qualname__}({name})") from None
    first = [given.pop(name, each.default) for name, each in parameters.items() if each.kind is each.POSITIONAL_ONLY]
    return step(*first, **given)


@cache
def _parameters(step: type) -> dict[str, inspect.Parameter]:
    if step.__init__ is object.__init__:  # type: ignore[misc]  # compared, not called
        return {}
    hints = typing.get_type_hints(step.__init__)  # type: ignore[misc]  # read, not called
    signature = inspect.signature(step)
    return {
        name: parameter.replace(annotation=hints.get(name, parameter.annotation))
        for name, parameter in signature.parameters.items()
        if parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
    }
