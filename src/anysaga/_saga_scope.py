"""What is open for the whole life of one saga: its middlewares, and the container's scope."""

from __future__ import annotations

import logging
import types
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from typing import Any, Self
from weakref import WeakKeyDictionary

from anyio import CancelScope, current_time

from anysaga._around import AroundSaga, around_steps, cares_for_sagas
from anysaga._cancellations import asks_to_end, is_stray, native_cancellations, refusing_strays
from anysaga._definition import Definition
from anysaga._errors import AnysagaError, ContainerFailed, NotProvided, StrayCancellation
from anysaga._middleware import Middleware, SagaCall
from anysaga._nodes import Leaf
from anysaga._notes import add_note
from anysaga._results import SagaResult
from anysaga._step import Step
from anysaga._wiring import MappingContainer, wire
from anysaga.abc import Container, Scope

logger = logging.getLogger("anysaga.containers")

_ready: WeakKeyDictionary[Definition, tuple[tuple[Middleware, ...], Mapping[str, Step[Any, Any]]]] = WeakKeyDictionary()


class SagaScope:
    """The middlewares around one saga, and inside of them a scope of its container.

    Entering raises what a middleware raises, and `ContainerFailed` if the scope does not open. The scope is closed even
    if the caller was cancelled, within the saga's `grace`. A close that fails is logged, and noted at the error that is
    under way: the saga's result or error counts. Leaving raises what a middleware raises instead of that error, and
    `StrayCancellation` if it was sent by a scope of the container, which has caught it.

    `result` is set once the saga is open.
    """

    __slots__ = (
        "_around",
        "_closes",
        "_definition",
        "_limit",
        "_manager",
        "_middlewares",
        "_native_before",
        "_saga_id",
        "_scope",
        "result",
    )

    def __init__(
        self,
        definition: Definition,
        container: Container,
        saga_id: str,
        middlewares: tuple[Middleware, ...] = (),
        *,
        context: Any = None,
        recovers: bool = False,
        notes: tuple[str, ...] = (),
    ) -> None:
        self._definition = definition
        self._saga_id = saga_id
        self._manager = container.scope()
        self._closes = not isinstance(container, MappingContainer)
        self._limit: CancelScope | None = None
        self._scope: Scope
        self._middlewares = middlewares
        self.result: Callable[[], SagaResult[Any]] | None = None
        self._around: AroundSaga | None = None
        if middlewares:
            self._around = AroundSaga.of(middlewares, SagaCall(saga_id, definition.name, recovers, context, notes))

    def stay_in_one_task(self) -> None:
        """Say before entering that one task does all until this is left, with no code of a caller in between.

        The container may open scopes of AnyIO then, and task groups with them. They are left in their order, so the
        scope that shields its closing has to be there before them; nobody else gets one that is open while he runs.
        """
        if self._closes:
            self._limit = CancelScope()

    async def __aenter__(self) -> Self:
        if self._around is None:
            await self._open()
            return self
        await self._around.enter()
        try:
            await self._open()
        except BaseException as error:
            await self._around.leave(None, error)  # noqa: ASYNC102 - what stands around must see the end
            raise
        return self

    async def _open(self) -> None:
        self._native_before = native_cancellations()
        if self._limit is not None:
            self._limit.__enter__()
        try:
            self._scope = await self._manager.__aenter__()
        except BaseException as error:
            if self._limit is not None:
                self._limit.__exit__(None, None, None)
            if self._passes(error):
                raise
            raise self._failed("open a scope", error) from error  # noqa: ASYNC104 - nobody cancelled us

    @property
    def tells(self) -> bool:
        """Whether a middleware is told the saga's result."""
        return self._around is not None

    @property
    def notes(self) -> tuple[str, ...]:
        """What middlewares want to have in the log of a new saga."""
        return () if self._around is None else self._around.call.notes

    async def steps(self) -> Mapping[str, Step[Any, Any]]:
        """Make all steps of the saga, by path. Raises `NotProvided` and `ContainerFailed`."""
        ready = self._definition.ready_steps
        if ready:
            return _around_ready(self._definition, self._middlewares, ready) if self._middlewares else ready
        steps = {leaf.path: await self._step(leaf) for leaf in self._definition.leaves}
        return around_steps(self._middlewares, steps, self._definition.grace)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: types.TracebackType | None
    ) -> None:
        try:
            if self._closes:
                await self._close(kind, error, traceback)  # noqa: ASYNC102 - shields itself
        finally:
            if self._around is not None:
                result = self.result() if self.result is not None and error is None else None
                await self._around.leave(result, error)  # noqa: ASYNC102 - a cancellation may end it

    async def _close(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: types.TracebackType | None
    ) -> None:
        try:
            with ExitStack() as stack:
                limit = self._limit
                if limit is None:
                    limit = stack.enter_context(CancelScope())
                else:
                    stack.push(limit)
                limit.shield, limit.deadline = True, current_time() + self._definition.grace
                with refusing_strays("the container's scope"):
                    await self._manager.__aexit__(kind, error, traceback)
            if limit.cancelled_caught:
                self._tell(TimeoutError(f"not done within {self._definition.grace:g} s"), error)
        except BaseException as failure:  # noqa: ASYNC103 - code of somebody else, and what it did to the saga is nothing
            if asks_to_end(failure):
                raise
            if _unwrapped(failure) is not error:
                self._tell(failure, error)
        if error is not None and is_stray(error, self._native_before):
            where = f"what the container opened for saga {self._definition.name!r} ({self._saga_id})"
            raise StrayCancellation(where) from error

    async def _step(self, leaf: Leaf) -> Step[Any, Any]:
        if not isinstance(leaf.step, type):
            return leaf.step
        try:
            return await wire(leaf.step, self._scope)
        except NotProvided as error:
            where = f"step {leaf.name!r} of saga {self._definition.name!r} ({self._saga_id})"
            raise NotProvided(error.wanted, f"{error.needed_by} for {where}") from error.__cause__
        except BaseException as error:
            if self._passes(error):
                raise
            raise self._failed("make the step", error, leaf.name) from error  # noqa: ASYNC104 - as above

    def _passes(self, error: BaseException) -> bool:
        """Whether it says by itself what to do, or asks the task to end."""
        return isinstance(error, AnysagaError) or (asks_to_end(error) and not is_stray(error, self._native_before))

    def _tell(self, failure: BaseException, error: BaseException | None) -> None:
        problem = self._failed("close its scope", failure)
        logger.error("%s", problem, exc_info=failure)
        if error is not None:
            add_note(error, str(problem))

    def _failed(self, doing: str, error: BaseException, step: str = "") -> ContainerFailed:
        problem = StrayCancellation("the container") if is_stray(error, self._native_before) else error
        return ContainerFailed(
            self._definition.name, self._saga_id, step, doing, f"{type(problem).__name__}: {problem}"
        )


def _unwrapped(error: BaseException) -> BaseException:
    """What a task group has wrapped that nothing else went wrong in."""
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error


def steps_without_scope(
    definition: Definition, container: Container, middlewares: tuple[Middleware, ...]
) -> Mapping[str, Step[Any, Any]] | None:
    """The steps of a saga for whose sake nothing has to be open, by path: a scope would cost more than one of them."""
    ready = definition.ready_steps
    if not ready or not isinstance(container, MappingContainer):
        return None
    if not middlewares:
        return ready
    if any(cares_for_sagas(one) for one in middlewares):
        return None
    return _around_ready(definition, middlewares, ready)


def _around_ready(
    definition: Definition, middlewares: tuple[Middleware, ...], steps: Mapping[str, Step[Any, Any]]
) -> Mapping[str, Step[Any, Any]]:
    """What stands around steps that serve all runs serves all runs, too."""
    known = _ready.get(definition)
    if known is None or known[0] is not middlewares:
        known = _ready[definition] = middlewares, around_steps(middlewares, steps, definition.grace)
    return known[1]
