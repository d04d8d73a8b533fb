"""Plain-function steps: a worker thread that can be asked to end, and is never forgotten while it runs."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any

from anyio import CancelScope, current_time, get_cancelled_exc_class, to_thread
from anyio.lowlevel import checkpoint_if_cancelled
from attrs import define, field

from anysaga._crossing_threads import LoopLimiter, Waker
from anysaga._current import CurrentStep
from anysaga._shield import run_shielded

MAX_STEP_THREADS = 100
"""Plain-function steps that run at once in one event loop. Storage has threads of its own."""

_LIMITER = LoopLimiter(MAX_STEP_THREADS)


@define(eq=False, repr=False)
class ThreadRun:
    """One call in a worker thread, and how it ended.

    `entered` and `ended` say how far the function came; `cancelled` is the cancellation that came meanwhile.
    """

    function: Callable[[Any], Any]
    context: Any
    waker: Waker
    entered: bool = False
    withdrawn: bool = False
    ended: bool = False
    value: Any = None
    error: BaseException | None = None
    cancelled: BaseException | None = None
    _late: Callable[[str], None] | None = None
    _guard: threading.Lock = field(factory=threading.Lock)

    def __call__(self) -> None:
        """Run in the worker thread."""
        with self._guard:
            if self.withdrawn:
                return
            self.entered = True
        try:
            self.value = self.function(self.context)
        except BaseException as error:  # noqa: BLE001, ASYNC103 - the waiting task raises it
            self.error = error
        with self._guard:
            self.ended = True
            late = self._late
        self.waker.wake()
        if late is not None:
            late(self._sentence())

    def withdraw(self) -> bool:
        """Keep the function from being entered. False if it was entered already."""
        with self._guard:
            self.withdrawn = not self.entered
            return self.withdrawn

    def when_ended(self, tell: Callable[[str], None]) -> None:
        """Have `tell` called, in whatever thread, with words on how the thread ended, once it has."""
        with self._guard:
            if not self.ended:
                self._late = tell
                return
        tell(self._sentence())

    def _sentence(self) -> str:
        if self.error is None:
            return "has returned by now"
        return f"has ended by now with {type(self.error).__name__}"


async def in_step_thread(function: Callable[[Any], Any], context: Any, current: CurrentStep, grace: float) -> ThreadRun:
    """Call a plain function in a worker thread, and return how that went.

    A cancellation, the step's own limit included, only asks the thread to end; its end is awaited for `grace` more
    seconds. The cancellation is then in the result, since the function may have returned all the same.

    The thread is shielded meanwhile: what it still awaits in the loop (`anyio.from_thread.run`) must not be left in a
    scope that was cancelled and has ended, where AnyIO would let it spin for ever.
    """
    run = ThreadRun(function, context, Waker())
    in_time = True

    def ask() -> bool:
        current.ask_to_end()
        return run.withdraw()

    thread = partial(to_thread.run_sync, run, abandon_on_cancel=True, limiter=_LIMITER.get())
    try:
        in_time = await run_shielded(thread, grace, ask=ask)
        await checkpoint_if_cancelled()
    except get_cancelled_exc_class() as cancelled:  # noqa: ASYNC103 - the caller raises it once the end is recorded
        run.cancelled = cancelled
        if in_time and not run.ended and not ask():  # a native cancellation, which no shield holds off
            await _wait_for_end(run, grace)  # noqa: ASYNC102 - bounded
    return run  # noqa: ASYNC104 - as above


async def _wait_for_end(run: ThreadRun, grace: float) -> None:
    """Wait for the end of a thread, however often the task is cancelled meanwhile: the first time is in `run`."""
    deadline = current_time() + grace
    while not run.ended and current_time() < deadline:
        with suppress(get_cancelled_exc_class()), CancelScope(deadline=deadline, shield=True):
            await run.waker.wait()
