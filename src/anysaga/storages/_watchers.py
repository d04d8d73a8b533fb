"""Those who want to know that events entered the outbox."""

from __future__ import annotations

import threading
from collections.abc import Callable

from attrs import define, field

Watcher = Callable[[], None]


@define(eq=False, repr=False)
class Watchers:
    """Functions that are called, from any thread, when there is something new."""

    _watchers: dict[object, Watcher] = field(factory=dict[object, Watcher])
    _lock: threading.Lock = field(factory=threading.Lock)

    def add(self, watcher: Watcher) -> Callable[[], None]:
        """Begin to call `watcher`. Returns a function that stops it."""
        key = object()
        with self._lock:
            self._watchers = {**self._watchers, key: watcher}

        def remove() -> None:
            with self._lock:
                self._watchers = {each: kept for each, kept in self._watchers.items() if each is not key}

        return remove

    def forget(self) -> None:
        """Begin anew, as a forked child must: those who watch, and perhaps who held the lock, are the parent's."""
        self._watchers = {}
        self._lock = threading.Lock()

    def tell(self) -> None:
        """Call them all."""
        for watcher in self._watchers.values():
            watcher()
