"""Where a driver is used: in the thread that asks, or in the library's one asyncio thread.

An asyncio driver is hosted in that thread for asyncio, Trio and blocking callers alike, so no loop of a caller, and no
cancellation, ever reaches it. SQLAlchemy lets plain functions of a `Connection` wait for such a driver (greenlets).
"""

from __future__ import annotations

import asyncio
import atexit
import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import Protocol, TypeVar

from sqlalchemy.util import await_only, greenlet_spawn

from anysaga._errors import StorageClosed

_T = TypeVar("_T")


class Host(Protocol):
    """Runs functions that use a driver."""

    def call(self, func: Callable[[], _T], /) -> _T:
        """Run `func` and return what it returns."""
        ...

    def post(self, func: Callable[[], object], /) -> None:
        """Run `func` soon. For finalizers, which may come in any thread and must not wait."""
        ...

    def sleep(self, seconds: float, /) -> None:
        """Wait inside a function that runs here."""
        ...


class CallingThread:
    """The thread that asks. For drivers that block."""

    def call(self, func: Callable[[], _T], /) -> _T:
        return func()

    def post(self, func: Callable[[], object], /) -> None:
        func()

    def sleep(self, seconds: float, /) -> None:
        time.sleep(seconds)


class AsyncioThread:
    """A daemon thread with an asyncio loop: opened at the first call, shared by all storages, stopped at exit."""

    def __init__(self) -> None:
        self._opening = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._stopped = False
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._forget)

    def call(self, func: Callable[[], _T], /) -> _T:
        return self._submit(func).result()

    def post(self, func: Callable[[], object], /) -> None:
        if self._loop is not None and not self._stopped:
            self._submit(func)

    def sleep(self, seconds: float, /) -> None:
        await_only(asyncio.sleep(seconds))

    def _submit(self, func: Callable[[], _T]) -> Future[_T]:
        loop = self._running()
        return asyncio.run_coroutine_threadsafe(greenlet_spawn(func), loop)

    def _running(self) -> asyncio.AbstractEventLoop:
        if self._stopped:
            raise StorageClosed("of asyncio drivers, at the end of the process")
        with self._opening:
            if self._loop is None:
                self._loop = self._start()
            return self._loop

    def _start(self) -> asyncio.AbstractEventLoop:
        loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=_run, args=[loop], name="anysaga-drivers", daemon=True)
        self._thread.start()
        atexit.register(self._stop)
        return loop

    def _stop(self) -> None:
        self._stopped = True
        if self._loop is not None and self._thread is not None and self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()

    def _forget(self) -> None:
        self._opening = threading.Lock()
        self._loop = self._thread = None


def _run(loop: asyncio.AbstractEventLoop) -> None:
    try:
        loop.run_forever()
    finally:
        loop.close()


calling_thread = CallingThread()
asyncio_thread = AsyncioThread()
