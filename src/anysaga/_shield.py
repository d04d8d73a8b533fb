"""Work that a cancellation may not stop at once."""

from __future__ import annotations

import math
from collections.abc import Callable, Coroutine
from typing import Any

import anyio
from anyio import CancelScope, create_task_group, current_time, get_cancelled_exc_class

from anysaga._by_hand import by_hand
from anysaga._records import Claim
from anysaga.abc import Storage


async def run_shielded(
    work: Callable[[], Coroutine[Any, Any, None]],
    grace: float,
    *,
    ask: Callable[[], bool] | None = None,
    cancelled: bool = False,
) -> bool:
    """Run `work` whatever is cancelled around it, but only `grace` seconds longer than the cancellation.

    `cancelled` says that it came already: a native one is delivered once, and no scope would tell of it here.
    `ask` is called at a cancellation that meets the work; if it returns True, the work is cancelled at once.
    Returns whether it ended in time. What it raises is raised as it is. A native ``task.cancel()`` is not held off.

    Nothing can be cancelled that never waits, so the task that looks out for a cancellation begins with the first wait:
    it costs six times as much as the rest.
    """
    raised: Exception | None = None
    watched = ended = False
    shield = CancelScope(shield=True, deadline=current_time() + grace if cancelled else math.inf)

    def ask_if_running() -> bool:
        return not ended and ask is not None and ask()

    try:
        async with create_task_group() as group:

            def watch() -> None:
                nonlocal watched
                watched = True
                group.start_soon(_limit_once_cancelled, shield, grace, ask_if_running)

            with shield:
                try:
                    await by_hand(work(), before_waiting=watch)
                except Exception as error:  # noqa: BLE001 - a task group would wrap it
                    raised = error
            ended = True
            if watched:
                group.cancel_scope.cancel()
    except get_cancelled_exc_class():  # noqa: ASYNC103 - as the next lines say
        # The group passes the outer cancellation on as it closes; the scope that sent it will send it again.
        if not (ended and anyio.get_current_task().has_pending_cancellation()):
            raise
    if raised is not None:
        raise raised
    return not shield.cancelled_caught


async def give_back(storage: Storage, claim: Claim, *, wait: float = 0.0) -> None:
    """Release a claim, whatever is cancelled around it. A release that is torn out all the same is left to the store.

    Else the saga would stay ours for as long as this process lives, and nobody would go on with it.
    """
    try:
        with CancelScope(shield=True):
            await storage.release(claim, wait=wait)
    except Exception:
        raise  # the store sees to it itself
    except BaseException:
        storage.defer(claim)
        raise


async def _limit_once_cancelled(shield: CancelScope, grace: float, ask: Callable[[], bool]) -> None:
    try:
        # On asyncio a scope that was cancelled while no task could be reached does not tell those that begin later.
        if not anyio.get_current_task().has_pending_cancellation():
            await anyio.sleep_forever()
    finally:
        if ask():
            shield.cancel()
        shield.deadline = min(shield.deadline, current_time() + grace)
