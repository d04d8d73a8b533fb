"""Transactions that hear nothing any more: their connections are broken from outside.

Whoever waits for an answer of a server cannot look at a clock meanwhile, and TCP tells of nothing where something in
between goes on answering for a server that is gone.
"""

from __future__ import annotations

import math
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from attrs import define


@define(eq=False)
class Turn:
    """One transaction under watch: until when it may take, and whether it took longer."""

    seconds: float
    cut: Callable[[], None]
    until: float
    is_over: bool = False


class Watch:
    """A daemon thread, started when first needed, that breaks what takes too long; and again, if that did not help."""

    def __init__(self) -> None:
        self._thread: threading.Thread | None = None
        self._forget()
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._forget)

    @contextmanager
    def over(self, seconds: float, cut: Callable[[], None]) -> Iterator[Turn]:
        """Call `cut`, which must neither wait nor raise, in another thread if the block takes longer than `seconds`."""
        turn = Turn(seconds, cut, time.monotonic() + seconds)
        if math.isinf(seconds):
            yield turn
            return
        with self._changed:
            self._turns.add(turn)
            if self._thread is None:
                self._thread = threading.Thread(target=self._look, name="anysaga-watch", daemon=True)
                self._thread.start()
            elif turn.until < self._wakes_at:
                self._changed.notify()
        try:
            yield turn
        finally:
            with self._changed:
                self._turns.discard(turn)

    def _look(self) -> None:
        with self._changed:
            while True:
                now = time.monotonic()
                for turn in self._turns:
                    if turn.until <= now:
                        turn.is_over, turn.until = True, now + turn.seconds
                        turn.cut()
                self._wakes_at = min((turn.until for turn in self._turns), default=math.inf)
                self._changed.wait(None if math.isinf(self._wakes_at) else self._wakes_at - now)

    def _forget(self) -> None:
        self._changed = threading.Condition(threading.Lock())
        self._turns: set[Turn] = set()
        self._thread = None
        self._wakes_at = math.inf


watch = Watch()
"""One for all connections of the process."""
