"""How steps get what they need: a mapping of types to factories, and constructor injection from any container."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from functools import cache
from types import NoneType, UnionType
from typing import Annotated, Any, Self, TypeAlias, TypeVar

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

    A factory is called without arguments and may be ``async``. Raises `InvalidArgument` for a key in quotes, for a
    factory that cannot be called, and for one with a ``yield``.
    """

    factories: Factories

    def __attrs_post_init__(self) -> None:
        for kind, factory in self.factories.items():
            if isinstance(kind, str):  # no constructor asks for a text
                raise InvalidArgument("container", kind, "give the type itself as the key")
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

    Of ``Bank | None`` and ``Annotated[Bank, ...]`` that very type is looked up first, and then `Bank`. A parameter with
    a default keeps it where the container has neither. Raises `NotProvided`, naming the parameter, for one without, or
    what the container lacks to make what it has; and `TypeError` for a parameter that has neither a default nor an
    annotation.
    """
    if not isinstance(scope, _MappingScope) or scope.knows(step):
        try:
            return await scope.get(step)
        except NotProvided as error:
            if not means(error.wanted, step):
                raise
    given: dict[str, Any] = {}
    parameters = _parameters(step)  # type: ignore[arg-type]  # a class is hashable
    for name, (parameter, kinds) in parameters.items():
        if not kinds:
            if parameter.default is parameter.empty:
                raise TypeError(f"{step.__qualname__}({name}) says no type: annotate it, so that it can be looked up")
            continue
        try:
            given[name] = await _first_known(kinds, scope)
        except NotProvided as error:
            if not means(error.wanted, kinds[-1]):
                raise
            if parameter.default is parameter.empty:
                raise NotProvided(name_of(kinds[-1]), f"{step.__qualname__}({name})") from None
    first = [given.pop(name, one.default) for name, (one, _) in parameters.items() if one.kind is one.POSITIONAL_ONLY]
    return step(*first, **given)


async def _first_known(kinds: Sequence[Any], scope: Scope) -> Any:
    """What the scope makes of the first of these types that it knows."""
    for kind in kinds[:-1]:
        try:
            return await scope.get(kind)
        except NotProvided as error:
            if not means(error.wanted, kind):
                raise
    return await scope.get(kinds[-1])


@cache
def _parameters(step: type) -> dict[str, tuple[inspect.Parameter, tuple[Any, ...]]]:
    """What a step's constructor asks for, each with the types to look up: none where it is not annotated."""
    if step.__init__ is object.__init__:  # type: ignore[misc]  # compared, not called
        return {}
    hints = typing.get_type_hints(step.__init__, include_extras=True)  # type: ignore[misc]  # read, not called
    signature = inspect.signature(step)
    return {
        name: (parameter, tuple(_lookups(hints[name])) if name in hints else ())
        for name, parameter in signature.parameters.items()
        if parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
    }


def _lookups(hint: Any) -> Iterator[Any]:
    """The types that would do for an annotation, the very one first, and the plain one last."""
    arguments = typing.get_args(hint)
    if typing.get_origin(hint) is Annotated:
        if all(isinstance(note, Hashable) for note in arguments[1:]):
            yield hint
        yield from _lookups(arguments[0])
        return
    yield hint
    if typing.get_origin(hint) in (typing.Union, UnionType):
        others = [one for one in arguments if one is not NoneType]
        if len(others) == 1:
            yield from _lookups(others[0])
