"""Work that a cancellation may not stop at once."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable

import anyio
from anyio import CancelScope, create_task_group, current_time, get_cancelled_exc_class


async def run_shielded(
    work: Callable[[], Awaitable[None]],
    grace: float,
    *,
    ask: Callable[[], bool] | None = None,
    cancelled: bool = False,
) -> bool:
    """Run `work` whatever is cancelled around it, but only `grace` seconds longer than the cancellation.

    `cancelled` says that it came already: a native one is delivered once, and no scope would tell of it here.
    `ask` is called at the cancellation; if it returns True, the work is cancelled at once.
    Returns whether it ended in time. What it raises is raised as it is. A native ``task.cancel()`` is not held off.
    """
    raised: Exception | None = None
    ended = False
    shield = CancelScope(shield=True, deadline=current_time() + grace if cancelled else math.inf)
    try:
        async with create_task_group() as group:
            group.start_soon(_limit_once_cancelled, shield, grace, ask)
            with shield:
                try:
                    await work()
                except Exception as error:  # noqa: BLE001 - a task group would wrap it
                    raised = error
            ended = True
            group.cancel_scope.cancel()
    except get_cancelled_exc_class():  # noqa: ASYNC103 - as the next lines say
        # The group passes the outer cancellation on as it closes; the scope that sent it will send it again.
        if not (ended and anyio.get_current_task().has_pending_cancellation()):
            raise
    if raised is not None:
        raise raised
    return not shield.cancelled_caught


async def _limit_once_cancelled(shield: CancelScope, grace: float, ask: Callable[[], bool] | None) -> None:
    try:
        await anyio.sleep_forever()
    finally:
        if ask is not None and ask():
            shield.cancel()
        shield.deadline = min(shield.deadline, current_time() + grace)
