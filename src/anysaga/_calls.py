"""Calling a user's method under a time limit, and saying how it ended: as a value, never as an exception."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable
from enum import Enum, auto
from time import perf_counter
from typing import Any

import anyio
from anyio import CancelScope, get_cancelled_exc_class
from attrs import define

from anysaga import _current
from anysaga._current import CurrentStep
from anysaga._definition import is_async
from anysaga._threads import ThreadRun, in_step_thread


class How(Enum):
    """How a call ended.

    RETURNED: also if it swallowed a cancellation. RAISED: by itself, with no cancellation delivered into it.
    DISTURBED: it raised after a cancellation had been delivered into it. TIMED_OUT: our limit ran out.
    CANCELLED: the cancellation came out again. NOT_CALLED: it never began. STILL_RUNNING: its thread did not end.
    REFUSED: a circuit breaker did not let it begin.
    """

    RETURNED = auto()
    RAISED = auto()
    DISTURBED = auto()
    TIMED_OUT = auto()
    CANCELLED = auto()
    NOT_CALLED = auto()
    STILL_RUNNING = auto()
    REFUSED = auto()


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


class _ThreadCancelled(Exception):
    """Carries the run of a plain function out of the scope that may have cancelled it."""

    def __init__(self, run: ThreadRun) -> None:
        super().__init__(run)
        self.run = run


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

    `native_before` is what `native_cancellations` said before the saga began to run here.

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
                else:
                    value = await _invoke_plain(method, context, current, grace)
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
        return Ended(How.CANCELLED, duration=perf_counter() - began, cancelled=cancelled)  # noqa: ASYNC104 - as above
    finally:
        _current.leave(token)
    duration = perf_counter() - began
    if isinstance(error, _ThreadCancelled):
        return _end_of_thread(error.run, scope, duration)
    how = _how(error, scope, native_before)
    return Ended(how, error=error, duration=duration, cancelled=error if how is How.CANCELLED else None)


async def _invoke_plain(method: Callable[[Any], Any], context: Any, current: CurrentStep, grace: float) -> Any:
    run = await in_step_thread(method, context, current, grace)
    if run.cancelled is not None:
        raise _ThreadCancelled(run)
    if run.error is not None:
        raise run.error
    return await run.value if inspect.isawaitable(run.value) else run.value


def _end_of_thread(run: ThreadRun, scope: CancelScope | Unlimited, duration: float) -> Ended:
    cancelled = None if scope.cancel_called else run.cancelled
    if not run.entered:
        return Ended(How.NOT_CALLED, duration=duration, cancelled=cancelled)
    if not run.ended:
        return Ended(How.STILL_RUNNING, duration=duration, cancelled=cancelled, thread=run)
    if run.error is None:
        return Ended(How.RETURNED, run.value, duration=duration, cancelled=cancelled)
    how = How.TIMED_OUT if scope.cancel_called else How.DISTURBED
    return Ended(how, error=run.error, duration=duration, cancelled=cancelled)


def _how(error: BaseException | None, scope: CancelScope | Unlimited, native_before: int) -> How:
    if scope.cancel_called:
        return How.TIMED_OUT
    if isinstance(error, get_cancelled_exc_class()) or not isinstance(error, Exception):
        return How.CANCELLED
    if anyio.get_current_task().has_pending_cancellation() or native_cancellations() > native_before:
        return How.DISTURBED
    return How.RAISED


def native_cancellations() -> int:
    """How often the current task was cancelled by asyncio itself, which no scope of AnyIO shows."""
    asyncio = sys.modules.get("asyncio")
    if asyncio is None:
        return 0
    try:
        task = asyncio.current_task()
    except RuntimeError:
        return 0
    return task.cancelling() if task is not None else 0
