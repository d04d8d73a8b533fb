"""Where a driver is used: in the thread that asks, or in the library's one asyncio thread.

An asyncio driver is hosted in that thread for asyncio, Trio and blocking callers alike, so no loop of a caller, and no
cancellation, ever reaches it. SQLAlchemy lets plain functions of a `Connection` wait for such a driver (greenlets).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import Protocol, TypeVar

from sqlalchemy.util import await_only, greenlet_spawn

from anysaga._client_loop import ClientLoop, client_loop
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
    """The library's asyncio thread, for functions that wait for an asyncio driver."""

    def __init__(self, loop: ClientLoop) -> None:
        self._loop = loop

    def call(self, func: Callable[[], _T], /) -> _T:
        if self._loop.is_stopped:
            raise StorageClosed("of asyncio drivers, at the end of the process")
        return self._submit(func).result()

    def post(self, func: Callable[[], object], /) -> None:
        if self._loop.is_started and not self._loop.is_stopped:
            self._submit(func)

    def sleep(self, seconds: float, /) -> None:
        await_only(asyncio.sleep(seconds))

    def _submit(self, func: Callable[[], _T]) -> Future[_T]:
        return self._loop.submit(greenlet_spawn(func))


calling_thread = CallingThread()
asyncio_thread = AsyncioThread(client_loop)
