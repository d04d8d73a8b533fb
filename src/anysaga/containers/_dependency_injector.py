"""Containers of the package dependency-injector."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, TypeAlias, TypeVar

from attrs import define, field

from anysaga._errors import InvalidArgument, MissingPackage, NotProvided
from anysaga.abc import Scope
from anysaga.containers._loops import runs_on_trio
from anysaga.containers._names import name_of

try:
    from dependency_injector.containers import Container
    from dependency_injector.providers import Provider

    from anysaga.containers._provided import is_async, provider_of
except ImportError as error:
    raise MissingPackage("dependency-injector", "dependency-injector") from error

_T = TypeVar("_T")

Source: TypeAlias = Container | Callable[[], Container]


@define(eq=False)
class DependencyInjectorContainer:
    """Makes steps with a container of dependency-injector, whose providers are found by what they provide.

    The package has no scopes, so it depends on what you give. A container class, or a function that makes a container:
    each saga has a container of its own, whose resources are shut down after its last act or undo. A container: all
    sagas share it with its singletons and resources, and shutting those down stays your affair.

    A type is provided by the provider whose class, resource, object or annotated function gives it, else by the only
    one that gives a subclass; nested containers are looked through too. Steps that it does not provide are made from
    what it does.

        OrderSaga(container=DependencyInjectorContainer(Services))  # the same as container=Services
        OrderSaga(container=DependencyInjectorContainer(lambda: Services(settings=settings)))

    Works on asyncio and Trio, but for asynchronous providers: this package runs them on asyncio only, so
    `InvalidArgument` is raised on Trio. Raises that for anything but a container too, and `MissingPackage`, when it is
    imported, without the package dependency-injector.
    """

    source: Source

    def __attrs_post_init__(self) -> None:
        given: object = self.source
        if not isinstance(given, Container) and not callable(given):
            expected = "give a container of dependency-injector, its class, or a function that makes one"
            raise InvalidArgument("container", given, expected)

    def scope(self) -> AbstractAsyncContextManager[Scope]:
        """Make the container of one saga, or share the one there is."""
        return self._scope()

    @asynccontextmanager
    async def _scope(self) -> AsyncIterator[Scope]:
        if isinstance(self.source, Container):
            yield _InjectorScope(self.source, is_shared=True)
            return
        container = self.source()
        try:
            yield _InjectorScope(container)
        finally:
            closing = container.shutdown_resources()
            if closing is not None:
                await closing  # noqa: ASYNC102 - shielded by the saga, and bounded


@define(eq=False)
class _InjectorScope:
    container: Container
    is_shared: bool = False
    _found: dict[Any, Provider[Any]] = field(factory=dict)

    async def get(self, wanted: type[_T], /) -> _T:
        provider = self._found.get(wanted) or provider_of(self.container, wanted)
        if provider is None:
            raise NotProvided(name_of(wanted), "somebody")
        if runs_on_trio() and is_async(provider):
            expected = f"{name_of(wanted)} needs an asynchronous provider, and those run on asyncio only"
            raise InvalidArgument("container", self.container, expected)
        self._found[wanted] = provider
        made: Any = provider()
        if self.is_shared and asyncio.isfuture(made):
            made = asyncio.shield(made)  # other sagas wait for it, too: cancelled with this one, it stayed so for all
        return await made if inspect.isawaitable(made) else made  # type: ignore[no-any-return]  # the provider knows
