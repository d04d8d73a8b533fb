"""Containers of the package di."""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, TypeGuard, TypeVar

from attrs import define, field

from anysaga._errors import InvalidArgument, MissingPackage, NotProvided
from anysaga.abc import Scope
from anysaga.containers._names import name_of

try:
    import di
    from di.dependent import Dependent
    from di.executors import AsyncExecutor
except ImportError as error:
    raise MissingPackage("di", "di") from error

_T = TypeVar("_T")


@define(eq=False)
class DiContainer:
    """Makes steps with a `di.Container`, which fills constructors by their annotations.

    Each saga enters the di scope `scope`, and leaves it after its last act or undo. `state` is an outer state that is
    entered already, such as one with a scope for the whole application; without one there is no outer scope.

        container.bind(bind_by_type(Dependent(open_bank, scope="request"), Bank))
        OrderSaga(container=DiContainer(container))  # the same as container=container

    Works on asyncio and Trio. Raises `InvalidArgument` for anything but a `di.Container`, and `MissingPackage`, when it
    is imported, without the package di.
    """

    container: di.Container
    scope_name: Any = field(default="request", alias="scope")
    state: di.ScopeState | None = field(default=None, kw_only=True)

    def __attrs_post_init__(self) -> None:
        if not isinstance(self.container, di.Container):
            raise InvalidArgument("container", self.container, "give a di.Container, made and filled: `di.Container()`")

    def scope(self) -> AbstractAsyncContextManager[Scope]:
        """Enter the scope of one saga."""
        return self._scope()

    @asynccontextmanager
    async def _scope(self) -> AsyncIterator[Scope]:
        outer = self.state or di.ScopeState()
        async with outer.enter_scope(self.scope_name) as state:
            yield _DiScope(self.container, state, (*outer.stacks, self.scope_name))


@define(eq=False)
class _DiScope:
    container: di.Container
    state: di.ScopeState
    scopes: tuple[Any, ...]

    async def get(self, wanted: type[_T], /) -> _T:
        if not callable(wanted):
            raise NotProvided(name_of(wanted), "somebody")
        solved = self.container.solve(Dependent(wanted, scope=self.scopes[-1]), scopes=self.scopes)
        for dependency in solved.dag:
            if _is_only_a_type(dependency.call):
                raise NotProvided(name_of(dependency.call), name_of(wanted))
        return await solved.execute_async(executor=AsyncExecutor(), state=self.state)


def _is_only_a_type(call: Any) -> TypeGuard[type]:
    """Whether nothing is bound to a class that di would call all the same: `str()` for a missing text, for instance."""
    if not isinstance(call, type):
        return False
    return call.__module__ == "builtins" or inspect.isabstract(call) or getattr(call, "_is_protocol", False)
