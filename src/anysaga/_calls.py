"""Calling a user's method under a time limit, and saying how it ended: as a value, never as an exception."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from enum import Enum, auto
from time import perf_counter
from typing import Any

from anyio import CancelScope, get_cancelled_exc_class
from attrs import define

from anysaga import _current
from anysaga._cancellations import asks_to_end, is_cancelled, is_stray
from anysaga._current import CurrentStep
from anysaga._errors import StrayCancellation, StrayStop
from anysaga._methods import is_async
from anysaga._shield import run_shielded
from anysaga._threads import ThreadRun, in_step_thread


class How(Enum):
    """How a call ended.

    RETURNED: also if it swallowed a cancellation. RAISED: by itself, with no cancellation delivered into it.
    DISTURBED: it raised after a cancellation had been delivered into it. TIMED_OUT: our limit ran out.
    CANCELLED: the cancellation came out again. NOT_CALLED: it never began. STILL_RUNNING: its thread did not end.
    REFUSED: a circuit breaker did not let it begin. NOT_REACHED: neither did a middleware, which raised instead.
    """

    RETURNED = auto()
    RAISED = auto()
    DISTURBED = auto()
    TIMED_OUT = auto()
    CANCELLED = auto()
    NOT_CALLED = auto()
    STILL_RUNNING = auto()
    REFUSED = auto()
    NOT_REACHED = auto()


@define(eq=False)  # and not frozen, which costs time: one is made for each call, and lives as long
class Ended:
    """The end of one call: its value or its error, and the seconds it took.

    `cancelled` is a cancellation from outside that came out of the call: to be raised again once the end is recorded.
    `thread` is the run of a plain function that is still running.
    """

    how: How
    value: Any = None
    error: BaseException | None = None
    duration: float = 0.0
    cancelled: BaseException | None = None
    thread: ThreadRun | None = None


class Fate(Exception):
    """Carries out of the scope of a call how it ended, where what is raised alone does not tell.

    `cancelled` is the cancellation that came meanwhile, be it from the scope itself or from outside.
    """

    def __init__(
        self,
        how: How,
        *,
        value: Any = None,
        error: BaseException | None = None,
        cancelled: BaseException | None = None,
        thread: ThreadRun | None = None,
    ) -> None:
        super().__init__(how)
        self.how = how
        self.value = value
        self.error = error
        self.cancelled = cancelled
        self.thread = thread

    def ended(self, scope: CancelScope | Unlimited, duration: float) -> Ended:
        """The end of the call, now that its scope has ended."""
        cancelled = None if scope.cancel_called else self.cancelled
        how = How.TIMED_OUT if scope.cancel_called and self.how is How.DISTURBED else self.how
        return Ended(how, self.value, self.error, duration, cancelled, self.thread)


class Unlimited:
    """Stands for the scope of a call that has no time limit, and whose claim nobody can take away meanwhile."""

    cancel_called = False

    def __enter__(self) -> None:
        """Begin."""

    def __exit__(self, *exc_info: object) -> None:
        """End; what was raised goes on."""


UNLIMITED = Unlimited()


async def call(
    method: Callable[[Any], Any],
    context: Any,
    current: CurrentStep,
    scope: CancelScope | Unlimited,
    *,
    grace: float,
    native_before: int,
) -> Ended:
    """Call `method(context)` inside `scope`, whose deadline is the call's time limit.

    `native_before` is what `native_cancellations` says before: a cancellation that the last step swallowed is its own.

    Nothing is raised: a cancellation from outside is in the result, for the caller to record and to raise again.
    """
    began = perf_counter()
    token = _current.enter(current)
    error: BaseException | None = None
    try:
        with scope:
            try:
                if is_async(method):
                    value = await method(context)
                    if hasattr(value, "__await__"):  # a forgotten `await`: what was called has not begun
                        value = await value
                else:
                    value = await invoke_plain(method, context, current, grace)
            except GeneratorExit:
                raise
            except get_cancelled_exc_class() as cancelled:
                error = cancelled
                raise
            except BaseException as raised:  # noqa: BLE001 - how it ended is the value of this function
                error = raised
            else:
                return Ended(How.RETURNED, value, duration=perf_counter() - began)
    except get_cancelled_exc_class() as cancelled:  # noqa: ASYNC103 - the caller records it and raises it again
        ended = Ended(How.CANCELLED, duration=perf_counter() - began, cancelled=cancelled)
        return ended if is_cancelled(native_before) else _strayed(ended, current)  # noqa: ASYNC104 - as above
    finally:
        _current.leave(token)
    duration = perf_counter() - began
    try:
        if isinstance(error, Fate):
            ended = error.ended(scope, duration)
            return ended if ended.cancelled is None or is_cancelled(native_before) else _strayed(ended, current)
        how = _how(error, scope, native_before)
        if error is None or how is not How.CANCELLED:
            return Ended(how, error=_seen(error, current), duration=duration)
        ended = Ended(how, error=error, duration=duration, cancelled=error)
        return _strayed(ended, current) if is_stray(error, native_before) else ended
    finally:
        error = None  # its traceback holds this frame: together they would wait for the garbage collector


async def sparing(calling: Awaitable[Ended], gives_up: Callable[[], bool], grace: float) -> Ended:
    """Make a `call` for a worker that may be asked to stop: it waits for the act for its grace, unless `gives_up`."""
    ended: Ended | None = None

    async def work() -> None:
        nonlocal ended
        ended = await calling

    await run_shielded(work, grace, ask=gives_up)
    try:
        return ended or Ended(How.CANCELLED)
    finally:
        ended = None  # as in `call`


async def invoke_plain(method: Callable[[Any], Any], context: Any, current: CurrentStep, grace: float) -> Any:
    """Call a plain function in a worker thread. Raises what it raises, and a `Fate` after a cancellation."""
    run = await in_step_thread(method, context, current, grace)
    if run.cancelled is not None:
        if inspect.isawaitable(run.value):  # it returned before its work was done
            if inspect.iscoroutine(run.value):
                run.value.close()
            raise run.cancelled
        raise _fate_of(run)
    if run.error is not None:
        try:
            raise run.error
        finally:
            run.error = None  # as in `call`
    return await run.value if inspect.isawaitable(run.value) else run.value


def _fate_of(run: ThreadRun) -> Fate:
    if not run.entered:
        return Fate(How.NOT_CALLED, cancelled=run.cancelled)
    if not run.ended:
        return Fate(How.STILL_RUNNING, cancelled=run.cancelled, thread=run)
    if run.error is None:
        return Fate(How.RETURNED, value=run.value, cancelled=run.cancelled)
    return Fate(How.DISTURBED, error=run.error, cancelled=run.cancelled)


def _how(error: BaseException | None, scope: CancelScope | Unlimited, native_before: int) -> How:
    if scope.cancel_called:
        return How.TIMED_OUT
    if error is None or asks_to_end(error):
        return How.CANCELLED
    return How.DISTURBED if is_cancelled(native_before) else How.RAISED


def _strayed(ended: Ended, current: CurrentStep) -> Ended:
    """The end of a call out of which a cancellation came that was meant for something else."""
    error = StrayCancellation(_where(current))
    error.__cause__ = ended.cancelled
    how = How.NOT_REACHED if ended.how is How.NOT_CALLED else How.RAISED
    return Ended(how, error=error, duration=ended.duration)


def _seen(error: BaseException | None, current: CurrentStep) -> BaseException | None:
    """The error as those may see it who iterate: Python itself does the same with a StopIteration."""
    if not isinstance(error, StopAsyncIteration):
        return error
    stop = StrayStop(_where(current))
    stop.__cause__ = error
    return stop


def _where(current: CurrentStep) -> str:
    return f"step {current.step_name!r} of saga {current.saga_name!r} ({current.saga_id})"
