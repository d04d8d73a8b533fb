"""Crossing threads: from a coroutine into a worker thread, and from any thread back into a loop.

Values floor: imports only the ground floor.
"""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Iterable
from functools import partial
from typing import Any, Protocol, TypeVar, TypeVarTuple

import anyio
from anyio.lowlevel import EventLoopToken, RunVar, checkpoint, current_token
from attrs import define

_T = TypeVar("_T")
_Ts = TypeVarTuple("_Ts")


async def in_thread(func: Callable[[*_Ts], _T], *args: *_Ts, limiter: anyio.CapacityLimiter) -> _T:
    """Run `func(*args)` in a worker thread and return what it returns.

    A cancellation that comes before the thread began stops it; one that comes later waits for the thread to end, and
    the result is still returned. AnyIO's default limiter is never used: forty steps that hang must not hold back a
    write.
    """
    return await anyio.to_thread.run_sync(func, *args, abandon_on_cancel=False, limiter=limiter)


def has_loop() -> bool:
    """Whether an event loop runs in this thread. One out of which this process was forked has stayed in the parent."""
    loop = _running_loop()
    return loop is not None and loop is not _parents_loop


def _running_loop() -> object:
    try:
        return current_token().native_token
    except RuntimeError:  # NoEventLoopError, and asyncio's own after a fork
        return None


_parents_loop: object = None


def _leave_loop_to_parent() -> None:
    global _parents_loop  # noqa: PLW0603 - a fact about the process
    _parents_loop = _running_loop()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_leave_loop_to_parent)


class LoopLimiter:
    """A `CapacityLimiter` of `tokens` for each run of each loop, since AnyIO's own belongs to a single run."""

    def __init__(self, tokens: int) -> None:
        self._tokens = tokens
        self._limiters: RunVar[anyio.CapacityLimiter] = RunVar("anysaga_limiter")

    def get(self) -> anyio.CapacityLimiter:
        """The limiter of the loop that runs here."""
        limiter = self._limiters.get(None)
        if limiter is None:
            limiter = anyio.CapacityLimiter(self._tokens)
            self._limiters.set(limiter)
        return limiter


class Flag(Protocol):
    """What is set once, and waited for."""

    def set(self) -> object: ...

    async def wait(self) -> None: ...


class Waker:
    """A flag of the loop it is made in, which any thread may set without waiting. One task at a time waits for it.

    `wake` may be called often, from everywhere, and after the loop has ended (it then does nothing).
    """

    def __init__(self) -> None:
        self._loop = current_token()
        make_future = getattr(self._loop.native_token, "create_future", None)
        self._flag: Flag = anyio.Event() if make_future is None else _FutureFlag(make_future)

    def wake(self) -> None:
        """Set the flag soon, in its own loop."""
        _call_soon(self._loop, self._flag.set)

    def wait(self) -> Awaitable[None]:
        """Wait until somebody called `wake`; returns at once if that was before."""
        return self._flag.wait()

    @staticmethod
    def wake_all(wakers: Iterable[Waker]) -> None:
        """Wake many, with a single call into each of their loops."""
        flags: dict[object, tuple[EventLoopToken, list[Flag]]] = {}
        for waker in wakers:
            loop = waker._loop
            flags.setdefault(loop.native_token, (loop, []))[1].append(waker._flag)
        for loop, of_loop in flags.values():
            _call_soon(loop, partial(_set_all, of_loop))


class _FutureFlag:
    """A flag for asyncio: its own events keep a queue of waiters, which costs twice as much as all the rest."""

    def __init__(self, make_future: Callable[[], Any]) -> None:
        self._make_future = make_future
        self._future: Any = None
        self._is_set = False

    def set(self) -> None:
        self._is_set = True
        if self._future is not None and not self._future.done():
            self._future.set_result(None)

    async def wait(self) -> None:
        if self._is_set:
            await checkpoint()
        else:
            self._future = self._make_future()  # a new one each time, since a wait that is cancelled cancels its future
            await self._future


def in_own_loop(func: Callable[[], object]) -> Callable[[], None]:
    """A function for other threads that has `func` called soon in the loop that runs here; nothing once it is over."""
    return _InLoop(current_token(), func)


@define(eq=False, repr=False)
class _InLoop:
    """As a partial, at a third of its size: each saga in flight keeps one."""

    loop: EventLoopToken
    func: Callable[[], object]

    def __call__(self) -> None:
        _call_soon(self.loop, self.func)


def _call_soon(loop: EventLoopToken, func: Callable[[], object]) -> None:
    native: Any = loop.native_token  # a loop of asyncio, or a token of Trio
    soon = getattr(native, "call_soon_threadsafe", None) or native.run_sync_soon
    try:
        soon(func)
    except RuntimeError:
        return  # the loop is over, and with it everything that func could reach


def _set_all(flags: Iterable[Flag]) -> None:
    for flag in flags:
        flag.set()
