"""Step results one by one, for code without an event loop."""

from __future__ import annotations

import atexit
import sys
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AbstractContextManager, suppress
from types import TracebackType
from typing import Any, Generic, Protocol, Self, TypeVar
from weakref import WeakSet

from anysaga._crossing_threads import has_loop
from anysaga._errors import AnysagaError, RunnerMisused
from anysaga._results import SagaResult, StepResult
from anysaga._transaction import SagaTransaction

ContextT = TypeVar("ContextT")
_T = TypeVar("_T")


class Runner(Protocol):
    """What an iterator asks of the runner that made it: the event loop in its thread."""

    def _call(self, function: Callable[[], Awaitable[_T]], grace: float, /) -> _T:
        """Await a coroutine there; after Ctrl-C wait at most `grace` seconds, and a margin, for its end."""
        ...

    def _wrap(self, transaction: SagaTransaction[ContextT], /) -> AbstractContextManager[SagaTransaction[ContextT]]:
        """The blocking twin of a transaction's ``async with``."""
        ...

    def __enter__(self) -> object: ...

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None, /
    ) -> None: ...


class SagaIterator(Generic[ContextT]):
    """Iterates over the step results of one saga in blocking code. `iter_saga` and `BlockingRunner` make it."""

    def __init__(
        self,
        runner: Runner,
        open_transaction: Callable[[], SagaTransaction[ContextT]],
        *,
        owns_runner: bool,
    ) -> None:
        self._runner = runner
        self._owns_runner = owns_runner
        self._open_transaction = open_transaction
        self._transaction: SagaTransaction[ContextT] | None = None
        self._manager: AbstractContextManager[SagaTransaction[ContextT]] | None = None
        self._closed = False
        self._turn = threading.Lock()

    @property
    def transaction(self) -> SagaTransaction[ContextT]:
        """The transaction below, for its `saga_id`, `state` and `result`."""
        if self._transaction is None:
            raise RunnerMisused("iter_saga()", "has not begun", "ask it for a step first")
        return self._transaction

    @property
    def result(self) -> SagaResult[ContextT]:
        """The saga as it stands; see `SagaTransaction.result`."""
        return self.transaction.result

    def suspend(self) -> None:
        """Give the saga back as it is; it can be resumed by its id."""
        if not self._closed:
            self._suspend()

    def abort(self, reason: str = "aborted on purpose") -> None:
        """Undo the saga on purpose; see `SagaTransaction.abort`."""
        transaction = self.transaction
        if self._closed:
            raise RunnerMisused("iter_saga()", "is over", "abort it inside of its `with`, before its last step")
        self._runner._call(lambda: transaction.abort(reason), 0.0)

    def close(self) -> None:
        """End here: a saga that is not over is suspended."""
        if not self._closed:
            self._end()

    def __iter__(self) -> Iterator[StepResult[Any]]:
        return self

    def __next__(self) -> StepResult[Any]:
        if self._closed:
            raise StopIteration
        if not self._turn.acquire(blocking=False):
            raise RunnerMisused("iter_saga()", "is asked by two threads at once", "let one thread iterate")
        try:
            return self._advance()
        finally:
            self._turn.release()

    def _advance(self) -> StepResult[Any]:
        self._begin()
        if self._closed:
            raise StopIteration
        transaction = self.transaction
        try:
            return self._runner._call(transaction.__anext__, transaction.grace)
        except StopAsyncIteration:
            self._leave(None, None, None)
            raise StopIteration from None
        except BaseException as error:
            if transaction._busy:
                self._let_go(error)
            else:
                self._leave(type(error), error, error.__traceback__)
            raise

    def __enter__(self) -> Self:
        self._begin()
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if not self._closed:
            self._leave(exc_type, exc, traceback)

    def __del__(self) -> None:
        if getattr(self, "_manager", None) is None or self._closed or sys.is_finalizing():
            return
        if threading.current_thread().name.startswith("anysaga-") or has_loop():
            # The garbage collector runs in any thread: one of ours would wait for itself, and a loop may not wait.
            threading.Thread(target=self.close, name="anysaga-end", daemon=True).start()
        else:
            self.close()

    def _end_at_exit(self) -> None:
        if self._closed or self._turn.locked():  # or in a daemon thread, for which nobody waits
            return
        # What fails is recovery's, or stayed in the parent of a fork. Python 3.12 begins no threads any more.
        with suppress(AnysagaError, RuntimeError):
            self.close()

    def _begin(self) -> None:
        if self._manager is None and not self._closed:
            self._open()

    def _open(self) -> None:
        if self._owns_runner:
            self._runner.__enter__()
        try:
            self._transaction = self._open_transaction()
            manager = self._runner._wrap(self._transaction)
            manager.__enter__()
        except BaseException as error:
            self._closed = True
            if self._owns_runner:
                self._runner.__exit__(type(error), error, error.__traceback__)
            raise
        self._manager = manager
        _begun.add(self)
        atexit.unregister(_end_all)  # to come before what was registered meanwhile: its loop, and that of its storage
        atexit.register(_end_all)
        if self._closed:  # by another thread, which did not see it
            self._end()

    def _end(self) -> None:
        self._closed = True  # before the look, which the thread that begins it takes after
        try:
            self._suspend()
        finally:
            self._leave(None, None, None)

    def _suspend(self) -> None:
        if self._manager is not None:
            self._runner._call(self.transaction.suspend, 0.0)

    def _let_go(self, error: BaseException) -> None:
        """Leave the saga to its end, or to recovery: nobody wants to wait."""
        self._closed = True
        if self._owns_runner:
            self._runner.__exit__(type(error), error, error.__traceback__)

    def _leave(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._closed = True
        try:
            if self._manager is not None:
                self._manager.__exit__(exc_type, exc, traceback)
        finally:
            if self._owns_runner and self._manager is not None:
                self._runner.__exit__(None, None, None)


_begun: WeakSet[SagaIterator[Any]] = WeakSet()


def _end_all() -> None:
    """End what was left half way while the loops still run: later on, a finalizer would wait for them for ever."""
    for iterator in list(_begun):
        iterator._end_at_exit()
