"""Plain-function steps: a worker thread that can be asked to end, and is never forgotten while it runs."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from anyio import get_cancelled_exc_class, move_on_after, to_thread
from attrs import define, field

from anysaga._current import CurrentStep
from anysaga._hosting import LoopLimiter, Waker

MAX_STEP_THREADS = 100
"""Plain-function steps that run at once in one event loop. Storage has threads of its own."""

_LIMITER = LoopLimiter(MAX_STEP_THREADS)


class NotCalled(Exception):
    """The step's function was never entered: it was cancelled while it waited for a thread."""


@define(eq=False, repr=False)
class StillRunning(Exception):
    """The thread did not end within its limit and grace. `when_ended` is called, in that thread, once it does."""

    run: ThreadRun

    def when_ended(self, tell: Callable[[str], None]) -> None:
        """Have `tell` called with a sentence on how the thread ended."""
        self.run.tell_late(tell)


@define(eq=False, repr=False)
class ThreadRun:
    """One call in a worker thread, and how it ended."""

    function: Callable[[Any], Any]
    context: Any
    waker: Waker
    entered: bool = False
    withdrawn: bool = False
    ended: bool = False
    value: Any = None
    error: BaseException | None = None
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

    def tell_late(self, tell: Callable[[str], None]) -> None:
        with self._guard:
            if not self.ended:
                self._late = tell
                return
        tell(self._sentence())

    def result(self) -> Any:
        """What the function returned, or its exception."""
        if self.error is not None:
            raise self.error
        return self.value

    def _sentence(self) -> str:
        if self.error is None:
            return "the thread that was still running has returned"
        return f"the thread that was still running has ended with {type(self.error).__name__}"


async def in_step_thread(function: Callable[[Any], Any], context: Any, current: CurrentStep, grace: float) -> Any:
    """Call a plain function in a worker thread.

    A cancellation, the step's own limit included, only asks the thread to end; its end is awaited for `grace` more
    seconds. If it returns, that is the result, whatever was cancelled. Raises what the function raised; `NotCalled`
    if it was never entered; `StillRunning` if it did not end in time.
    """
    waker = Waker()
    run = ThreadRun(function, context, waker)
    try:
        await to_thread.run_sync(run, abandon_on_cancel=True, limiter=_LIMITER.get())
    except get_cancelled_exc_class():  # noqa: ASYNC103 - the caller tells by the scopes what was cancelled
        if run.withdraw():
            raise NotCalled from None  # noqa: ASYNC104 - as above
        current.ask_to_end()
        with move_on_after(grace, shield=True):
            await waker.wait()
        if not run.ended:
            raise StillRunning(run) from None  # noqa: ASYNC104 - as above
    return run.result()
