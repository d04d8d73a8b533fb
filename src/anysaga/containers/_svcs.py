"""Registries of the package svcs."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, TypeVar

from attrs import define

from anysaga._errors import InvalidArgument, MissingPackage, NotProvided
from anysaga.abc import Scope
from anysaga.containers._names import name_of

try:
    import svcs
except ImportError as error:
    raise MissingPackage("svcs", "svcs") from error

_T = TypeVar("_T")


@define(eq=False)
class SvcsContainer:
    """Makes steps from a `svcs.Registry`.

    Each saga has a `svcs.Container` of its own, which is closed after its last act or undo. Steps that are not
    registered are made from what is. svcs logs cleanups that fail, and goes on.

        registry.register_factory(Bank, open_bank)
        OrderSaga(container=SvcsContainer(registry))  # the same as container=registry

    Works on asyncio and Trio. Raises `InvalidArgument` for anything but a `svcs.Registry`, and `MissingPackage`, when
    it is imported, without the package svcs.
    """

    registry: svcs.Registry

    def __attrs_post_init__(self) -> None:
        if not isinstance(self.registry, svcs.Registry):
            raise InvalidArgument(
                "container", self.registry, "give a svcs.Registry, made and filled: each saga gets a container of it"
            )

    def scope(self) -> AbstractAsyncContextManager[Scope]:
        """Make the container of one saga."""
        return self._scope()

    @asynccontextmanager
    async def _scope(self) -> AsyncIterator[Scope]:
        async with svcs.Container(self.registry) as container:
            yield _SvcsScope(container)


@define(eq=False)
class _SvcsScope:
    container: svcs.Container

    async def get(self, wanted: type[_T], /) -> _T:
        try:
            return await self.container.aget(wanted)
        except svcs.exceptions.ServiceNotFoundError as error:
            missing: Any = error.args[0]
            raise NotProvided(name_of(missing), name_of(wanted)) from error
