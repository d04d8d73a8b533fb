"""Several pieces of work at the same time, whose errors come out as they are."""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from typing import TypeVar

from anyio import CancelScope, create_task_group, get_cancelled_exc_class

from anysaga._errors import StaleFence

_T = TypeVar("_T")


async def run_together(
    items: Iterable[_T],
    work: Callable[[_T], Awaitable[None]],
    *,
    limit: int,
    after: Callable[[], Awaitable[None]],
    scopes: Callable[[CancelScope], None] = lambda _: None,
) -> None:
    """Do `work` for each item, for at most `limit` at once and in their order, and wait for all of them.

    `after` is awaited by each worker that did something and finds nothing more to do. `scopes` gets the scope that
    cancels the work: what is cancelled by it just ends. An error cancels the rest, and is raised as it is, without a
    group around it; a lost claim only where there is no other.
    """
    waiting = deque(items)
    errors: list[BaseException] = []

    async def worker() -> None:
        try:
            if not waiting:  # those before have not waited for anything, and did it all
                return
            while waiting:
                await work(waiting.popleft())
            await after()
        except get_cancelled_exc_class():
            raise
        except BaseException as error:  # noqa: BLE001 - raised below, once all have ended
            errors.append(error)
            group.cancel_scope.cancel()

    async with create_task_group() as group:
        scopes(group.cancel_scope)
        for _ in range(min(limit, len(waiting))):
            group.start_soon(worker)
    if errors:
        raise next((error for error in errors if not isinstance(error, StaleFence)), errors[0])
