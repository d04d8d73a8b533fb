"""The container's scope for the whole life of one saga: what goes wrong with it is told, and hides nothing."""

from __future__ import annotations

import logging
import types
from contextlib import AbstractAsyncContextManager
from typing import Any, Self

from anyio import move_on_after

from anysaga._definition import Definition
from anysaga._errors import AnysagaError, ContainerFailed, NotProvided
from anysaga._nodes import Leaf
from anysaga._step import Step
from anysaga._wiring import MappingContainer, wire
from anysaga.abc import Container, Scope

logger = logging.getLogger("anysaga.containers")


class SagaScope(AbstractAsyncContextManager["SagaScope"]):
    """A scope of a container, opened for one saga.

    Entering raises `ContainerFailed` if it does not open. It is closed even if the caller was cancelled, within the
    saga's `grace`. A close that fails is logged, and noted at the error that is under way: the saga's result or error
    counts.
    """

    def __init__(self, definition: Definition, container: Container, saga_id: str) -> None:
        self._definition = definition
        self._saga_id = saga_id
        self._manager = container.scope()
        self._closes = not isinstance(container, MappingContainer)
        self._scope: Scope

    async def __aenter__(self) -> Self:
        try:
            self._scope = await self._manager.__aenter__()
        except AnysagaError:
            raise
        except Exception as error:
            raise self._failed("open a scope", error) from error
        return self

    async def steps(self) -> dict[str, Step[Any, Any]]:
        """Make all steps of the saga, by path. Raises `NotProvided` and `ContainerFailed`."""
        return {leaf.path: await self._step(leaf) for leaf in self._definition.leaves}

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: types.TracebackType | None
    ) -> None:
        if not self._closes:
            return
        try:
            with move_on_after(self._definition.grace, shield=True) as limit:
                await self._manager.__aexit__(kind, error, traceback)
            if limit.cancelled_caught:
                self._tell(TimeoutError(f"not done within {self._definition.grace:g} s"), error)
        except Exception as failure:  # noqa: BLE001 - code of somebody else, and what it did to the saga is nothing
            if failure is not error:
                self._tell(failure, error)

    async def _step(self, leaf: Leaf) -> Step[Any, Any]:
        if not isinstance(leaf.step, type):
            return leaf.step
        try:
            return await wire(leaf.step, self._scope)
        except NotProvided as error:
            where = f"step {leaf.name!r} of saga {self._definition.name!r} ({self._saga_id})"
            raise NotProvided(error.wanted, f"{error.needed_by} for {where}") from error.__cause__
        except AnysagaError:
            raise
        except Exception as error:
            raise self._failed("make the step", error, leaf.name) from error

    def _tell(self, failure: Exception, error: BaseException | None) -> None:
        problem = self._failed("close its scope", failure)
        logger.error("%s", problem, exc_info=failure)
        if error is not None:
            error.add_note(str(problem))

    def _failed(self, doing: str, error: Exception, step: str = "") -> ContainerFailed:
        return ContainerFailed(self._definition.name, self._saga_id, step, doing, f"{type(error).__name__}: {error}")
