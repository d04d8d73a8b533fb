"""Forks: what is open is closed in the parent before, so that a child inherits nothing it could damage."""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Callable
from functools import partial
from typing import Protocol


class Forkable(Protocol):
    """Something that can stand still for the moment of a fork."""

    def pause(self) -> None:
        """Finish what is under way, and let go of everything that a child must not inherit.

        If that raises, it is called again, to go on where it was.
        """

    def resume(self) -> None:
        """Go on, in the parent."""

    def forget_parent(self) -> None:
        """Begin anew, in the child."""


class ForkLock:
    """A lock that is taken for the moment of a fork, and made anew in the child, where nobody would release it."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self._taken: list[bool] = []

    def pause(self) -> None:
        """Take the lock, unless that was done before: see `Forkable.pause`."""
        _take(self.lock, self._taken)

    def resume(self) -> None:
        """Release it, in the parent."""
        self._taken.clear()
        self.lock.release()

    def forget_parent(self) -> None:
        """Have a lock that is free, in the child."""
        self.lock, self._taken = threading.Lock(), []


def _take(lock: threading.Lock, taken: list[bool]) -> None:
    """Take a lock, unless `taken` says that this was done: in one call, so that no Ctrl-C comes in between."""
    if not taken:
        taken.extend(map(lock.acquire, (True,)))


_all: weakref.WeakSet[Forkable] = weakref.WeakSet()
_paused: list[Forkable] = []
_one_at_a_time = threading.Lock()


def survive_forks(forkable: Forkable) -> None:
    """Have `forkable` paused at each fork, for as long as somebody uses it."""
    _all.add(forkable)


def _before() -> None:
    raised = _insist(partial(_take, _one_at_a_time, []))  # its own list, since several threads may fork
    raised = _insist(_choose) or raised
    for forkable in _paused:
        raised = _insist(forkable.pause) or raised
    if raised is not None:
        raise raised  # which Python prints, and forks


def _choose() -> None:
    _paused[:] = _all


def _insist(func: Callable[[], object]) -> BaseException | None:
    """Call `func` until it returns. Gives what it raised the last time.

    Ctrl-C while a fork waits for a transaction would otherwise leave locks behind that nobody releases.
    """
    raised = None
    while True:
        try:
            func()
        except BaseException as error:  # noqa: BLE001, ASYNC103 - raised once all stands still
            raised = error
        else:
            return raised


def _in_parent() -> None:
    while _paused:
        _paused.pop().resume()
    _one_at_a_time.release()


def _in_child() -> None:
    while _paused:
        _paused.pop().forget_parent()
    _one_at_a_time.release()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before, after_in_parent=_in_parent, after_in_child=_in_child)
