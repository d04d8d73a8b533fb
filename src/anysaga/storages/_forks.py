"""Forks: what is open is closed in the parent before, so that a child inherits nothing it could damage."""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Callable
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
        self._paused = False

    def pause(self) -> None:
        """Take the lock, unless that was done before: see `Forkable.pause`."""
        self._paused = self._paused or self.lock.acquire()

    def resume(self) -> None:
        """Release it, in the parent."""
        self._paused = False
        self.lock.release()

    def forget_parent(self) -> None:
        """Have a lock that is free, in the child."""
        self.lock, self._paused = threading.Lock(), False


_all: weakref.WeakSet[Forkable] = weakref.WeakSet()
_paused: list[Forkable] = []
_one_at_a_time = threading.Lock()


def survive_forks(forkable: Forkable) -> None:
    """Have `forkable` paused at each fork, for as long as somebody uses it."""
    _all.add(forkable)


def _before() -> None:
    raised = _insist(_one_at_a_time.acquire)
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
