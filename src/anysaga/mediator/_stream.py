"""The steps of a saga, one after another, for whoever looks at them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Any, Generic, Protocol, Self, TypeVar

from anyio import get_cancelled_exc_class

from anysaga._crossing_threads import in_own_loop
from anysaga._errors import InvalidArgument
from anysaga._results import SagaResult, StepResult
from anysaga._transaction import SagaTransaction
from anysaga.mediator._drive import Drive

ContextT = TypeVar("ContextT")


class Source(Protocol):
    """Where the results of one saga come from."""

    async def next(self) -> StepResult[Any] | None:
        """The next result; None at the end. Raises what the saga raises."""
        ...

    def result(self) -> SagaResult[Any]:
        """How the saga ended."""
        ...

    async def leave(self, error: BaseException | None) -> None:
        """Nobody looks any more, because of this error or just so."""
        ...


class SagaStream(Generic[ContextT]):
    """An async iterator over the results of a saga's steps, from `SagaMediator.stream`.

    The saga begins with the first step that is asked for. After the last one it is durably completed, and `result` is
    its result. What the saga raises comes out of the loop as it is.

    It is an async context manager too, for those who may leave the loop early: leaving it is a disconnect. One task at
    a time may ask for a step; another one beside it is refused with `InvalidArgument`.
    """

    def __init__(self, saga_id: str, ready: Callable[[], Awaitable[None]], begin: Callable[[], Source]) -> None:
        self._saga_id = saga_id
        self._ready = ready
        self._begin = begin
        self._source: Source | None = None
        self._result: SagaResult[ContextT] | None = None
        self._over = False
        self._busy = False

    @property
    def saga_id(self) -> str:
        """The saga's id."""
        return self._saga_id

    @property
    def result(self) -> SagaResult[ContextT]:
        """How the saga ended. Raises `InvalidArgument` if its end was not seen here."""
        if self._result is None:
            raise InvalidArgument("stream", self, "it has no result before its last step was asked for")
        return self._result

    async def aclose(self) -> None:
        """Look no longer: a disconnect, unless the saga is over."""
        await self._leave(None)

    def _again(self) -> SagaStream[ContextT]:
        """The same stream, not begun yet."""
        return SagaStream(self._saga_id, self._ready, self._begin)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> StepResult[Any]:
        if self._busy:  # both would be given the same step, and none the next one
            raise InvalidArgument("stream", self, "let one task at a time ask for its steps")
        if self._over:
            raise StopAsyncIteration
        self._busy = True
        try:
            if self._source is None:
                self._source = await self._begun()
            step = await self._source.next()
        except BaseException:
            self._over = True
            raise
        finally:
            self._busy = False
        if step is None:
            self._over = True
            self._result = self._source.result()
            raise StopAsyncIteration
        return step

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._leave(error)  # noqa: ASYNC102 - shields itself where it must

    async def _begun(self) -> Source:
        await self._ready()
        if self._over:  # left meanwhile
            raise StopAsyncIteration
        return self._begin()

    async def _leave(self, error: BaseException | None) -> None:
        over, self._over = self._over, True
        if not over and self._source is not None:
            await self._source.leave(error)


class Watching:
    """Looks at a saga that the mediator drives. `disconnect` is called if who looks goes away before its end."""

    def __init__(self, drive: Drive, disconnect: Callable[[], None]) -> None:
        self._drive = drive
        self._disconnect = disconnect
        self._disconnect_soon = in_own_loop(disconnect)
        self._number = 0

    async def next(self) -> StepResult[Any] | None:
        """The next result."""
        try:
            step = await self._drive.next(self._number)
        except get_cancelled_exc_class():
            self._disconnect()
            raise
        self._number += 1
        return step

    def result(self) -> SagaResult[Any]:
        """How the saga ended."""
        return self._drive.result()

    async def leave(self, error: BaseException | None) -> None:  # noqa: ARG002 - whatever it is
        """Disconnect."""
        self._disconnect()

    def __del__(self) -> None:
        if not self._drive.ended.is_set():
            self._disconnect_soon()


class Driving:
    """Drives a saga in the task of the one who looks, as its transaction does. `finish` is called at its end."""

    def __init__(self, transaction: SagaTransaction[Any], finish: Callable[[], Awaitable[None]]) -> None:
        self._transaction = transaction
        self._finish = finish
        self._entered = False
        self._left = False

    async def next(self) -> StepResult[Any] | None:
        """Enter the transaction, go on, and leave it at the end."""
        transaction = self._transaction
        if not self._entered:
            await transaction.__aenter__()
            self._entered = True
            if self._left:  # meanwhile
                await self.leave(None)
                raise StopAsyncIteration
        try:
            return await transaction.__anext__()
        except StopAsyncIteration:
            await self._exit(None)
            return None
        except BaseException as error:
            await self.leave(error)  # noqa: ASYNC102 - shields itself, and is bounded
            raise

    def result(self) -> SagaResult[Any]:
        """How the saga ended."""
        return self._transaction.result

    async def leave(self, error: BaseException | None) -> None:
        """Undo the saga because of an error; else give it back."""
        self._left = True
        if not self._entered:
            return
        try:
            if error is None:
                await self._transaction.suspend()
        except BaseException as failure:
            await self._exit(failure)  # noqa: ASYNC102 - what is open must be closed
            raise
        await self._exit(error)

    async def _exit(self, error: BaseException | None) -> None:
        kind, traceback = (None, None) if error is None else (type(error), error.__traceback__)
        try:
            await self._transaction.__aexit__(kind, error, traceback)
        finally:  # a middleware may raise there, and the saga's events are due all the same
            await self._finish()  # noqa: ASYNC102 - one who is cancelled leaves it to later
