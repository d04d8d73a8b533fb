"""The mediator for code without an event loop."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import AbstractContextManager, suppress
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

from anysaga._blocking import MARGIN, BlockingRunner
from anysaga._errors import InvalidArgument, RunnerMisused
from anysaga._results import SagaResult, StepResult
from anysaga.mediator import SagaMediator, SagaStream

ContextT = TypeVar("ContextT")


class BlockingMediator:
    """A `SagaMediator` for a threaded program: it is opened in an event loop in a thread, which all threads share.

    Ctrl-C in a call is a disconnect, as a cancellation is. Leaving the block drains; a second Ctrl-C lets go at once,
    and recovery finishes. `backend` is the event loop: "asyncio" or "trio".

    Raises `InvalidArgument` for what is no `SagaMediator`, `BlockingCallInLoop` inside a running event loop.

        with BlockingMediator(SagaMediator(sagas, storage=storage)) as mediator:
            result = mediator.run(order, saga_id="order-17")
    """

    def __init__(self, mediator: SagaMediator, *, backend: str = "asyncio") -> None:
        if not isinstance(mediator, SagaMediator):
            raise InvalidArgument("mediator", mediator, "give a SagaMediator, as in SagaMediator(sagas)")
        self._mediator = mediator
        self._runner = BlockingRunner(backend=backend, _caller="BlockingMediator")
        self._open: AbstractContextManager[SagaMediator] | None = None

    def run(self, context: ContextT, *, saga_id: str | uuid.UUID | None = None) -> SagaResult[ContextT]:
        """Run the context's saga to its end, and return its result; see `SagaMediator.run`."""
        return self._runner.call(lambda: self._mediator.run(context, saga_id=saga_id))

    def stream(self, context: ContextT, *, saga_id: str | uuid.UUID | None = None) -> BlockingStream[ContextT]:
        """Run the context's saga, and see its steps one by one; see `SagaMediator.stream`."""
        return BlockingStream(self._runner, self._mediator.stream(context, saga_id=saga_id))

    def submit(self, context: object, *, saga_id: str | uuid.UUID | None = None) -> str:
        """Leave the context's saga to the workers, and return its id."""
        return self._runner.call(lambda: self._mediator.submit(context, saga_id=saga_id))

    def resume(self, saga_id: str | uuid.UUID) -> SagaResult[Any]:
        """Go on with a stored saga, and return its result; see `SagaMediator.resume`."""
        return self._runner.call(lambda: self._mediator.resume(saga_id))

    def __enter__(self) -> Self:
        self._runner.__enter__()
        try:
            self._open = self._runner._running().wrap(self._mediator, MARGIN, leaving=0.0)
            self._open.__enter__()
        except BaseException as error:
            self._open = None
            self._runner.__exit__(type(error), error, error.__traceback__)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        opened, self._open = self._open, None
        try:
            if opened is not None and not self._runner._running().is_left_alone:
                opened.__exit__(None, None, None)
        finally:
            self._runner.__exit__(kind, error, traceback)


class BlockingStream(Generic[ContextT]):
    """Iterates over the results of a saga's steps in blocking code. `BlockingMediator.stream` makes it.

    It is a context manager too, for those who may leave the loop early: leaving it is a disconnect.
    """

    def __init__(self, runner: BlockingRunner, stream: SagaStream[ContextT]) -> None:
        self._runner = runner
        self._stream = stream

    @property
    def saga_id(self) -> str:
        """The saga's id."""
        return self._stream.saga_id

    @property
    def result(self) -> SagaResult[ContextT]:
        """How the saga ended; see `SagaStream.result`."""
        return self._stream.result

    def close(self) -> None:
        """Look no longer: a disconnect, unless the saga is over."""
        with suppress(RunnerMisused):  # the mediator was left, and has stopped the saga
            self._runner.call(self._stream.aclose)

    def __iter__(self) -> Iterator[StepResult[Any]]:
        return self

    def __next__(self) -> StepResult[Any]:
        try:
            return self._runner.call(self._stream.__anext__)
        except StopAsyncIteration:
            raise StopIteration from None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()
