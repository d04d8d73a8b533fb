"""Which exceptions ask a task to end, and are no failures of what it calls."""

from __future__ import annotations

import math
import sys
from types import TracebackType

import anyio
from anyio import get_cancelled_exc_class

from anysaga._errors import StrayCancellation

NATIVE_IS_OWN = sys.maxsize
"""In the place of what `native_cancellations` said, in a task of our own, which we cancel by its scope alone.

A cancellation by asyncio itself then comes from what runs in the task, or from somebody whom that gave the task to.
"""


def native_cancellations() -> int:
    """How many cancellations by asyncio itself, which no scope of AnyIO shows, the current task has met already.

    One that was asked for, and comes with the next wait, is not among them.
    """
    asked_for = native_requests()
    return asked_for - 1 if asked_for and anyio.get_current_task().has_pending_cancellation() else asked_for


def native_requests() -> int:
    """How often somebody has asked by asyncio itself that the current task be cancelled."""
    asyncio = sys.modules.get("asyncio")
    # Without an error where no loop of asyncio runs, and the task is found in half the time where one does.
    loop = None if asyncio is None else asyncio._get_running_loop()
    if asyncio is None or loop is None:
        return 0
    task = asyncio.current_task(loop)
    return task.cancelling() if task is not None else 0


def is_cancelled(native_before: int) -> bool:
    """Whether the current task is being cancelled, by a scope, or by asyncio itself.

    `native_before` is what `native_cancellations` said before: what it met then was meant for somebody else.
    """
    # What `has_pending_cancellation` would say here, without the description of a task that it belongs to.
    return anyio.current_effective_deadline() == -math.inf or native_requests() > native_before


def asks_to_end(error: BaseException) -> bool:
    """Whether this asks the task, or the program, to end. Any other one is a failure, be it an `Exception` or not."""
    asking = (get_cancelled_exc_class(), KeyboardInterrupt, SystemExit, GeneratorExit)
    if isinstance(error, BaseExceptionGroup):
        return error.subgroup(asking) is not None
    return isinstance(error, asking)


def is_stray(error: BaseException, native_before: int) -> bool:
    """Whether this is a cancellation that was not meant for the current task, alone or in a group.

    Whoever gathers the results of several tasks, and raises what went wrong in one group, has them in there.
    """
    if is_cancelled(native_before):
        return False
    if isinstance(error, BaseExceptionGroup):
        cancelled, others = error.split(get_cancelled_exc_class())
        return cancelled is not None and (others is None or not asks_to_end(others))
    return isinstance(error, get_cancelled_exc_class())


class refusing_strays:  # noqa: N801 - a context manager, which as a generator would cost three times as much
    """Raise `StrayCancellation` for a cancellation that comes out although the current task is not being cancelled.

    On asyncio, whoever awaits something that another one cancelled gets the same exception as who is cancelled. Let
    into a task group, it would stop all that runs there. Messages call it ``str(where)``. In a task that is `ours`,
    what asyncio itself cancels is refused, too.
    """

    __slots__ = ("_before", "_ours", "_where")

    def __init__(self, where: object, *, ours: bool = False) -> None:
        self._where = where
        self._ours = ours

    def __enter__(self) -> None:
        self._before = NATIVE_IS_OWN if self._ours else native_cancellations()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if error is None or not is_stray(error, self._before):
            return
        raise StrayCancellation(str(self._where)) from error
