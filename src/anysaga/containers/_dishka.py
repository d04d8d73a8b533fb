"""Containers of the package dishka."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import TypeVar

from anyio import Lock
from attrs import define

from anysaga._errors import InvalidArgument, MissingPackage, NotProvided
from anysaga.abc import Scope
from anysaga.containers._loops import runs_on_trio
from anysaga.containers._names import name_of

try:
    from dishka import DEFAULT_COMPONENT, AsyncContainer, DependencyKey
    from dishka.entities.key import hint_to_dependency_key
    from dishka.exceptions import NoFactoryError
except ImportError as error:
    raise MissingPackage("dishka", "dishka") from error

_T = TypeVar("_T")


@define(eq=False)
class DishkaContainer:
    """Makes steps with an `AsyncContainer` of dishka.

    Each saga has a scope of its own, ``Scope.REQUEST``, and leaves it after its last act or undo. Steps that dishka
    does not provide are made from what it does provide.

        container = make_async_container(provider, lock_factory=anyio.Lock)
        OrderSaga(container=DishkaContainer(container))  # the same as container=container

    Works on asyncio and Trio; on Trio the container has to be made with ``lock_factory=anyio.Lock``, since the lock
    that is dishka's default waits on asyncio alone: `InvalidArgument` otherwise. Raises that for anything but an
    `AsyncContainer` too, and `MissingPackage`, when it is imported, without the package dishka.
    """

    container: AsyncContainer

    def __attrs_post_init__(self) -> None:
        if not isinstance(self.container, AsyncContainer):
            raise InvalidArgument("container", self.container, "give what `dishka.make_async_container` makes")

    def scope(self) -> AbstractAsyncContextManager[Scope]:
        """Enter the scope of one saga."""
        return self._scope()

    @asynccontextmanager
    async def _scope(self) -> AsyncIterator[Scope]:
        if runs_on_trio() and _waits_on_asyncio(self.container):
            expected = "on Trio, make it with `make_async_container(..., lock_factory=anyio.Lock)`"
            raise InvalidArgument("container", self.container, expected)
        async with self.container(lock_factory=Lock) as scope:
            yield _DishkaScope(scope)


@define(eq=False)
class _DishkaScope:
    container: AsyncContainer

    async def get(self, wanted: type[_T], /) -> _T:
        key = hint_to_dependency_key(wanted).with_component(DEFAULT_COMPONENT)
        try:
            return await self.container.get(key.type_hint, key.component)  # type: ignore[no-any-return]  # of that type
        except NoFactoryError as error:
            raise NotProvided(_name(error.requested), name_of(wanted)) from error


def _name(key: DependencyKey) -> str:
    name = name_of(key.type_hint)
    return name if key.component == DEFAULT_COMPONENT else f"{name} of component {key.component!r}"


def _waits_on_asyncio(container: AsyncContainer | None) -> bool:
    while container is not None:
        if isinstance(container.lock, asyncio.Lock):
            return True
        container = container.parent_container
    return False
