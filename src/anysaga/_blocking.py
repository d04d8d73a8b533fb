"""Sagas for code without an event loop: the same driver, on an event loop in a thread of its own."""

from __future__ import annotations

import os
import uuid
from collections.abc import Awaitable, Callable, Iterable
from contextlib import AbstractContextManager, AsyncExitStack, ExitStack, suppress
from types import TracebackType
from typing import Any, Self, TypeVar
from weakref import WeakSet

import anyio

from anysaga._arguments import check_backend
from anysaga._crossing_threads import has_loop
from anysaga._errors import BlockingCallInLoop, InvalidArgument, RunnerMisused, StorageUnavailable, TransactionMisused
from anysaga._iterating import SagaIterator
from anysaga._loop_thread import LoopThread
from anysaga._results import SagaResult
from anysaga._saga import Saga, checked_storage, made_saga
from anysaga._transaction import SagaTransaction
from anysaga._wiring import GivenContainer
from anysaga._worker import SagaWorker
from anysaga.abc import Storage

ContextT = TypeVar("ContextT")
_T = TypeVar("_T")
MARGIN = 5.0
"""Seconds beyond a saga's grace that Ctrl-C waits: for the writes around what is undone."""

StorageLike = Storage | str | os.PathLike[str]


def run_saga(
    saga: Saga[ContextT] | type[Saga[ContextT]],
    context: ContextT | None = None,
    *,
    saga_id: str | uuid.UUID | None = None,
    storage: StorageLike | None = None,
    container: GivenContainer | None = None,
    backend: str = "asyncio",
) -> SagaResult[ContextT]:
    """Run a saga to its end and return its result: for scripts and other code without an event loop.

    The same as ``await saga.run(context, saga_id=...)``, with the same errors. `storage` may be a database URL or the
    path of an SQLite file; it is then opened and closed here. Ctrl-C undoes the saga, within its `grace`, and is raised
    again; a second Ctrl-C lets go at once, and recovery finishes. So does whatever else a signal handler raises: the
    time limit of a task queue, say. `backend` is the event loop: "asyncio" or "trio".

    Raises `BlockingCallInLoop` inside a running event loop.

        result = run_saga(OrderSaga, order, storage="sqlite:///orders.db", container=services)
    """
    with BlockingRunner(storage=storage, container=container, backend=backend, _caller="run_saga()") as runner:
        return runner.run(saga, context, saga_id=saga_id)


def iter_saga(
    saga: Saga[ContextT] | type[Saga[ContextT]],
    context: ContextT | None = None,
    *,
    saga_id: str | uuid.UUID | None = None,
    storage: StorageLike | None = None,
    container: GivenContainer | None = None,
    backend: str = "asyncio",
) -> SagaIterator[ContextT]:
    """Run a saga step by step from blocking code: an iterator over step results, and a context manager.

    Without ``with``, leaving the loop early suspends the saga, resumable by its id, and so does the end of the program.
    With ``with``, an exception in the block undoes it, as in `SagaTransaction`. Parameters and errors are those of
    `run_saga`.

        for step in iter_saga(OrderSaga, order, storage="sqlite:///orders.db", container=services):
            print(step.step_name)
    """
    runner = BlockingRunner(storage=storage, container=container, backend=backend, _caller="iter_saga()")
    return runner._iterate(saga, context, saga_id=saga_id, owns_runner=True)


def run_worker(
    sagas: Iterable[Saga[Any] | type[Saga[Any]]],
    *,
    storage: StorageLike,
    container: GivenContainer | None = None,
    concurrency: int = 10,
    poll: float = 1.0,
    drain_timeout: float = 20.0,
    backend: str = "asyncio",
) -> None:
    """Run a `SagaWorker` until SIGTERM or Ctrl-C: the whole of a worker's script.

    `storage` may be a database URL or the path of an SQLite file; it is then opened and closed here. The other
    parameters are those of `SagaWorker`. Returns once the worker has drained, so that the script ends with status 0.
    A store that does not answer yet is waited for; one that cannot work is refused (`StorageRefused`).

    Raises `BlockingCallInLoop` inside a running event loop, and `InvalidArgument` without a storage.

        run_worker([OrderSaga], storage="postgresql+psycopg://orders@db/orders", container=services)
    """
    _refuse_in_loop("run_worker()")
    check_backend(backend)
    if storage is None:  # a setting that is missing, say: in a new store in memory nothing would ever come
        raise InvalidArgument("storage", storage, "give the Storage that has the sagas, or its address")

    async def main() -> None:
        opened = _storage_of(storage)
        worker = SagaWorker(
            sagas,
            storage=opened,
            container=container,
            concurrency=concurrency,
            poll=poll,
            drain_timeout=drain_timeout,
        )
        async with AsyncExitStack() as stack:
            if opened is not storage:
                stack.push_async_callback(opened.aclose)
                with suppress(StorageUnavailable):  # for which the worker waits
                    await opened.open()
            await worker.run()

    anyio.run(main, backend=backend)


class BlockingRunner:
    """Runs sagas for a threaded program: one event loop in a thread, which all threads share with one storage.

    Use it as a context manager, and call `run` and `iterate` from any thread. On leaving, iterations that are not over
    are suspended, and the storage that was given as text is closed, once what other threads still run has ended. Open
    it after a fork, in each process: its event loop would stay in the parent.

        with BlockingRunner(storage="orders.db", container=services) as runner:
            result = runner.run(OrderSaga, order)
    """

    def __init__(
        self,
        *,
        storage: StorageLike | None = None,
        container: GivenContainer | None = None,
        backend: str = "asyncio",
        _caller: str = "BlockingRunner",
    ) -> None:
        check_backend(backend)
        self._given = storage
        self._container = container
        self._backend = backend
        self._caller = _caller
        self._stack = ExitStack()
        self._loop: LoopThread | None = None
        self._storage: Storage | None = None
        self._iterators: WeakSet[SagaIterator[Any]] = WeakSet()

    def run(
        self,
        saga: Saga[ContextT] | type[Saga[ContextT]],
        context: ContextT | None = None,
        *,
        saga_id: str | uuid.UUID | None = None,
    ) -> SagaResult[ContextT]:
        """Run a saga to its end and return its result; see `run_saga`."""
        made = self._make(saga)
        return self._call(lambda: made.run(context, saga_id=saga_id), made.grace)

    def iterate(
        self,
        saga: Saga[ContextT] | type[Saga[ContextT]],
        context: ContextT | None = None,
        *,
        saga_id: str | uuid.UUID | None = None,
    ) -> SagaIterator[ContextT]:
        """Run a saga step by step; see `iter_saga`."""
        iterator = self._iterate(saga, context, saga_id=saga_id, owns_runner=False)
        self._iterators.add(iterator)
        return iterator

    def submit(
        self, saga: Saga[ContextT] | type[Saga[ContextT]], context: ContextT, *, saga_id: str | uuid.UUID | None = None
    ) -> str:
        """Leave a saga to the workers, and return its id; see `Saga.submit`."""
        made = self._make(saga)
        return self._call(lambda: made.submit(context, saga_id=saga_id), 0.0)

    def call(self, function: Callable[[], Awaitable[_T]]) -> _T:
        """Await any of the library's coroutines here: ``runner.call(lambda: recover([OrderSaga], storage=...))``.

        Raises `InvalidArgument` for what is no function: a coroutine is made where it is awaited.
        """
        if not callable(function):
            raise InvalidArgument("function", function, "give a function that makes what is awaited: `lambda: ...`")
        return self._call(function, 0.0)

    @property
    def storage(self) -> Storage:
        """The storage that all sagas of this runner share."""
        if self._storage is None:
            raise self._misused()
        return self._storage

    def __enter__(self) -> Self:
        _refuse_in_loop(self._caller)
        if self._loop is not None:
            raise RunnerMisused(self._caller, "is open already", "enter it once, and share it")
        self._storage = _storage_of(self._given)
        closes = [] if self._storage is self._given else [self._storage.aclose]
        self._loop = LoopThread(self._backend, self._caller, *closes)
        self._stack.callback(self._loop.stop)
        self._stack.callback(self._end_iterations)
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            if self._loop is not None and self._loop.is_left_alone:
                self._stack.pop_all()
            else:
                self._stack.__exit__(exc_type, exc, traceback)
        finally:
            self._loop = None

    def _end_iterations(self) -> None:
        """End what is still iterated, each one though another one fails."""
        with ExitStack() as stack:
            for iterator in list(self._iterators):
                stack.callback(_end, iterator)

    def _iterate(
        self,
        saga: Saga[ContextT] | type[Saga[ContextT]],
        context: ContextT | None,
        *,
        saga_id: str | uuid.UUID | None,
        owns_runner: bool,
    ) -> SagaIterator[ContextT]:
        def open_transaction() -> SagaTransaction[ContextT]:
            return self._make(saga).transaction(context, saga_id=saga_id)

        return SagaIterator(self, open_transaction, owns_runner=owns_runner)

    def _make(self, saga: Saga[ContextT] | type[Saga[ContextT]]) -> Saga[ContextT]:
        if not isinstance(saga, Saga):
            return made_saga(saga, storage=self.storage, container=self._container)
        if self._given is None and self._container is None:
            return saga
        return saga.moved_to(saga.storage if self._given is None else self.storage, self._container)

    def _call(self, function: Callable[[], Awaitable[_T]], grace: float) -> _T:
        _refuse_in_loop(self._caller)
        return self._running().call(function, grace + MARGIN)

    def _wrap(self, transaction: SagaTransaction[ContextT]) -> AbstractContextManager[SagaTransaction[ContextT]]:
        return self._running().wrap(transaction, transaction.grace + MARGIN)

    def _misused(self) -> RunnerMisused:
        instead = f"write `with {self._caller.removesuffix('()')}(...):`, and use it inside"
        return RunnerMisused(self._caller, "is used outside its `with`", instead)

    def _running(self) -> LoopThread:
        if self._loop is None:
            raise self._misused()
        return self._loop


def _end(iterator: SagaIterator[Any]) -> None:
    with suppress(TransactionMisused):  # another thread is in the middle of a step, whose end gives it back
        iterator.close()


def _refuse_in_loop(caller: str) -> None:
    if not has_loop():
        return
    instead = {
        "run_saga()": "await saga.run(context)",
        "run_worker()": "await SagaWorker(...).run()",
        "BlockingMediator": "async with mediator",
        "iter_saga()": "async with saga.transaction(context) as transaction",
    }
    raise BlockingCallInLoop(caller, instead.get(caller, "await saga.run(context)"))


def _storage_of(given: StorageLike | None) -> Storage:
    if not isinstance(given, str | os.PathLike):
        return checked_storage(given)
    from anysaga.storages import SQLAlchemyStorage  # noqa: PLC0415 - the core works without SQLAlchemy

    return SQLAlchemyStorage(given)
