"""One asyncio loop in a thread of the library's own, for drivers and clients that know no other loop.

Values floor: imports nothing of ours. No loop of a caller, and no cancellation, ever reaches what runs here.
"""

from __future__ import annotations

import asyncio
import atexit
import os
import threading
from collections.abc import Coroutine
from concurrent.futures import Future
from typing import Any, TypeVar

_T = TypeVar("_T")

_LAST_SECONDS = 1.0
"""How long what still runs at the end of the process may take to be cancelled."""


class ClientLoop:
    """A daemon thread with an asyncio loop: started by the first coroutine, shared by all, stopped at exit.

    A process that was forked starts one of its own.
    """

    def __init__(self) -> None:
        self._opening = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self.is_stopped = False
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._forget)

    @property
    def is_started(self) -> bool:
        """Whether anything ever ran here."""
        return self._loop is not None

    def submit(self, work: Coroutine[Any, Any, _T]) -> Future[_T]:
        """Have `work` run, and return at once. Not for use once the loop is stopped."""
        return asyncio.run_coroutine_threadsafe(work, self._running())

    def stop(self) -> None:
        """Cancel what runs, and end the thread."""
        self.is_stopped = True
        if self._loop is not None and self._thread is not None and self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()

    def _running(self) -> asyncio.AbstractEventLoop:
        with self._opening:
            if self._loop is None:
                self._loop = self._start()
            return self._loop

    def _start(self) -> asyncio.AbstractEventLoop:
        loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=_run, args=[loop], name="anysaga-drivers", daemon=True)
        self._thread.start()
        atexit.register(self.stop)
        return loop

    def _forget(self) -> None:
        self._opening = threading.Lock()
        self._loop = self._thread = None


def _run(loop: asyncio.AbstractEventLoop) -> None:
    try:
        loop.run_forever()
    finally:
        _cancel_all(loop)
        loop.close()


def _cancel_all(loop: asyncio.AbstractEventLoop) -> None:
    """End tasks, and those that they start at their end: one that is destroyed while it waits complains on stderr."""
    last = loop.time() + _LAST_SECONDS
    while (tasks := asyncio.all_tasks(loop)) and loop.time() < last:
        for task in tasks:
            task.cancel()
        loop.run_until_complete(asyncio.wait(tasks, timeout=last - loop.time()))


client_loop = ClientLoop()
