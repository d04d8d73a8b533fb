"""An event loop in a thread of its own, for code that has none."""

from __future__ import annotations

import os
import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from types import TracebackType
from typing import Any, Generic, TypeVar

import anyio
from anyio import CancelScope, create_task_group, get_cancelled_exc_class
from anyio.abc import TaskGroup
from anyio.from_thread import BlockingPortal
from anyio.lowlevel import checkpoint

from anysaga._errors import RunnerMisused

_T = TypeVar("_T")


_LOOK = 0.5
"""Seconds between two looks for signals while a thread waits."""


class _NobodyWaits(Exception):
    """The end of a call that was cancelled because of Ctrl-C."""


class LoopThread:
    """Runs coroutines for threads that wait for them. A daemon thread: it never keeps the interpreter alive.

    `caller` is who uses it, for errors. `at_end` is awaited once all tasks and calls have ended.
    """

    group: TaskGroup
    """Where tasks live that outlive the call that starts them. They end before the loop does."""

    def __init__(self, backend: str, caller: str, at_end: Callable[[], Awaitable[object]] = checkpoint) -> None:
        self._backend = backend
        self._caller = caller
        self._at_end = at_end
        self._process = os.getpid()
        self._abandoned = False
        self._blocks: set[_Block[Any]] | None = set()
        self._ready: Future[BlockingPortal] = Future()
        self._ended: Future[None] = Future()
        self._thread = threading.Thread(target=self._run, name="anysaga-blocking", daemon=True)
        self._thread.start()
        self._portal = self._ready.result()

    @property
    def is_left_alone(self) -> bool:
        """Whether nobody may wait for the loop: somebody did not want to, or it stayed in the parent of a fork."""
        return self._abandoned or self._process != os.getpid()

    def call(self, function: Callable[[], Awaitable[_T]], grace: float) -> _T:
        """Await ``function()`` there, and return what it returns.

        Ctrl-C in the waiting thread cancels it, waits at most `grace` seconds for its end, and is raised again; a
        second one is raised at once. So does whatever else a signal handler raises there, or another thread makes this
        one raise: the time limits of task queues do that.
        """
        if self._process != os.getpid():
            raise RunnerMisused(self._caller, "was opened before a fork", "open it in each process, after the fork")
        run = _Run(function)
        try:
            value = _result(self._start(run))
        except BaseException:
            if not run.ended.is_set() and not self._end(run, grace):
                self._abandoned = True
            raise
        run.check()
        return value

    def wrap(
        self, manager: AbstractAsyncContextManager[_T], grace: float, *, leaving: float | None = None
    ) -> AbstractContextManager[_T]:
        """The blocking twin of an asynchronous context manager; it is entered and left in one task there.

        Ctrl-C meanwhile cancels it as it does a call, with `grace`; with `leaving` seconds while it is left.
        """
        return _Block(self, manager, grace, grace if leaving is None else leaving)

    def stop(self) -> None:
        """End the loop once its tasks and calls have ended, those of other threads too. Raises what `at_end` raises."""
        self._portal.call(self._portal.stop)
        _result(self._ended)
        self._thread.join()

    def _start(self, run: _Run[_T]) -> Future[_T]:
        try:
            return self._portal.start_task_soon(run)
        except RuntimeError as stopped:  # and waits for what other threads still call
            run.ended.set()
            raise self._refusal() from stopped

    def _refusal(self) -> RunnerMisused:
        return RunnerMisused(self._caller, "is being left by another thread", "have all threads end before that")

    def _end(self, run: _Run[_T], grace: float) -> bool:
        """Cancel a call. Whether it ended in time; a second Ctrl-C says that nobody wants to wait."""
        try:
            self._portal.start_task_soon(run.cancel)
            return run.ended.wait(grace)
        except BaseException:  # noqa: ASYNC103, BLE001 - the first one is raised
            return False  # noqa: ASYNC104 - as above

    def host(self, block: _Block[Any]) -> None:
        """Have a block live here. It is left at the latest when the loop ends, by whose threads it may not be."""
        if self._blocks is None:
            raise self._refusal()
        self._blocks.add(block)
        self.group.start_soon(block.live)

    def forget(self, block: _Block[Any]) -> None:
        """Take note that a block has ended."""
        if self._blocks is not None:
            self._blocks.remove(block)

    def _run(self) -> None:
        try:
            anyio.run(self._serve, backend=self._backend)
        except BaseException as error:  # noqa: ASYNC103, BLE001 - raised in the thread that waits for the loop
            told = self._ended if self._ready.done() else self._ready
            told.set_exception(error)
        else:
            self._ended.set_result(None)

    async def _serve(self) -> None:
        async with BlockingPortal() as portal, create_task_group() as self.group:
            self._ready.set_result(portal)
            await portal.sleep_until_stopped()
            blocks, self._blocks = self._blocks or (), None
            for block in blocks:
                block.end()
        await self._at_end()


def _result(future: Future[_T]) -> _T:
    """Wait for a result, and look now and then: of a signal that comes just before a wait, Python learns at its end."""
    done = threading.Event()  # the future's own wait ends with a TimeoutError, and so may a handler of signals
    future.add_done_callback(lambda _: done.set())
    while not done.wait(_LOOK):
        pass
    return future.result()


class _Run(Generic[_T]):
    """One call in the loop, with a scope of its own and a flag for threads that wait for its real end.

    What it raises that is no error, such as a SystemExit, is kept for the thread that waits: it may end its program,
    and not the loop, in which other threads have calls, too.
    """

    def __init__(self, function: Callable[[], Awaitable[_T]]) -> None:
        self._function = function
        self._scope: CancelScope | None = None
        self._cancelled = False
        self.ended = threading.Event()
        self._ends_program: BaseException | None = None

    def check(self) -> None:
        """Raise what ends the program."""
        if self._ends_program is not None:
            raise self._ends_program

    async def __call__(self) -> Any:
        try:
            with CancelScope() as self._scope:
                if self._cancelled:
                    self._scope.cancel()
                return await self._called()
            raise _NobodyWaits
        finally:
            self.ended.set()

    async def _called(self) -> Any:
        try:
            return await self._function()
        except (Exception, get_cancelled_exc_class()):
            raise
        except BaseException as error:  # noqa: ASYNC103, BLE001 - raised in the thread that waits
            self._ends_program = error

    def cancel(self) -> None:
        self._cancelled = True
        if self._scope is not None:
            self._scope.cancel()


class _Block(AbstractContextManager[_T]):
    """The blocking twin of an asynchronous context manager, whose whole life is one task of the loop.

    It suppresses no exception.
    """

    def __init__(
        self, loop: LoopThread, manager: AbstractAsyncContextManager[_T], entering: float, leaving: float
    ) -> None:
        self._loop = loop
        self._manager = manager
        self._entering = entering
        self._leaving = leaving
        self._is_entered = False
        self._given: tuple[type[BaseException] | None, BaseException | None, TracebackType | None] = (None, None, None)

    def __enter__(self) -> _T:
        try:
            return self._loop.call(self._enter, self._entering)
        except BaseException as error:
            if self._is_entered and not self._loop.is_left_alone:  # Ctrl-C came just then
                self.__exit__(type(error), error, error.__traceback__)
            raise

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._given = kind, error, traceback
        self._loop.call(self._leave, self._leaving)

    async def _enter(self) -> _T:
        self._scope = CancelScope()
        self._entered, self._left, self._ended = anyio.Event(), anyio.Event(), anyio.Event()
        self._raised: BaseException | None = None
        self._loop.host(self)
        await self._until(self._entered)
        if self._raised is not None:
            raise self._raised
        return self._value

    def end(self) -> None:
        """Leave it soon. To be called in the loop."""
        self._left.set()

    async def _leave(self) -> None:
        self.end()
        await self._until(self._ended)
        if self._raised is not None:
            raise self._raised

    async def _until(self, event: anyio.Event) -> None:
        """Wait for the event. Being cancelled ends the block, and waits for its end."""
        try:
            await event.wait()
        except get_cancelled_exc_class():
            self._scope.cancel()
            with CancelScope(shield=True):
                await self._ended.wait()
            raise

    async def live(self) -> None:
        """Enter it, and leave it once that is wanted."""
        try:
            with self._scope:
                self._value = await self._manager.__aenter__()
                self._is_entered = True
                try:
                    self._entered.set()
                    await self._left.wait()
                except BaseException as error:
                    await self._manager.__aexit__(type(error), error, error.__traceback__)  # noqa: ASYNC102 - its affair
                    raise
                await self._manager.__aexit__(*self._given)
        except BaseException as error:  # noqa: ASYNC103 - raised by who waits
            self._raised = error
            if isinstance(error, get_cancelled_exc_class()):
                raise
        finally:
            self._is_entered = False
            self._loop.forget(self)
            self._entered.set()
            self._ended.set()
