"""An event loop in a thread of its own, for code that has none."""

from __future__ import annotations

import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from typing import Generic, TypeVar

import anyio
from anyio import CancelScope
from anyio.from_thread import BlockingPortal

_T = TypeVar("_T")


class Interrupted(KeyboardInterrupt):
    """Ctrl-C, while the call that was interrupted still runs: its loop must not be waited for."""


class _NobodyWaits(Exception):
    """The end of a call that was cancelled because of Ctrl-C."""


class LoopThread:
    """Runs coroutines for threads that wait for them. A daemon thread: it never keeps the interpreter alive."""

    def __init__(self, backend: str) -> None:
        self._backend = backend
        self._ready: Future[BlockingPortal] = Future()
        self._thread = threading.Thread(target=self._run, name="anysaga-blocking", daemon=True)
        self._thread.start()
        self._portal = self._ready.result()

    def call(self, function: Callable[[], Awaitable[_T]], grace: float) -> _T:
        """Await ``function()`` there, and return what it returns.

        Ctrl-C in the waiting thread cancels it, waits at most `grace` seconds for its end, and is raised again; a
        second one is raised at once. Where the call goes on nevertheless, what is raised is `Interrupted`.
        """
        run = _Run(function)
        future: Future[_T] = self._portal.start_task_soon(run)
        try:
            return future.result()
        except KeyboardInterrupt:
            self._portal.start_task_soon(run.cancel)
            if not _wait(run.ended, grace):
                raise Interrupted from None
            raise

    def wrap(self, manager: AbstractAsyncContextManager[_T]) -> AbstractContextManager[_T]:
        """The blocking twin of an asynchronous context manager; it is entered and left in one task there."""
        return self._portal.wrap_async_context_manager(manager)

    def stop(self) -> None:
        """End the loop once its tasks have ended."""
        self._portal.call(self._portal.stop)
        self._thread.join()

    def _run(self) -> None:
        try:
            anyio.run(self._serve, backend=self._backend)
        except BaseException as error:  # noqa: ASYNC103 - raised in the thread that waits for the loop
            if self._ready.done():
                raise
            self._ready.set_exception(error)

    async def _serve(self) -> None:
        async with BlockingPortal() as portal:
            self._ready.set_result(portal)
            await portal.sleep_until_stopped()


class _Run(Generic[_T]):
    """One call in the loop, with a scope of its own and a flag for threads that wait for its real end."""

    def __init__(self, function: Callable[[], Awaitable[_T]]) -> None:
        self._function = function
        self._scope: CancelScope | None = None
        self._cancelled = False
        self.ended = threading.Event()

    async def __call__(self) -> _T:
        try:
            with CancelScope() as self._scope:
                if self._cancelled:
                    self._scope.cancel()
                return await self._function()
            raise _NobodyWaits
        finally:
            self.ended.set()

    def cancel(self) -> None:
        self._cancelled = True
        if self._scope is not None:
            self._scope.cancel()


def _wait(ended: threading.Event, seconds: float) -> bool:
    """Whether the event came in time; a second Ctrl-C says that nobody wants to wait."""
    try:
        return ended.wait(seconds)
    except KeyboardInterrupt:
        return False
