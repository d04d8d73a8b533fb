"""Tasks that drive one saga after another."""

from __future__ import annotations

from collections.abc import Coroutine
from contextvars import Context, copy_context
from typing import Any, Protocol

from anyio import CancelScope, Semaphore, get_cancelled_exc_class
from anyio.abc import TaskGroup

from anysaga._by_hand import by_hand
from anysaga._cancellations import native_requests

IDLE = 32
"""How many tasks without work are kept."""


class Work(Protocol):
    """What a task of a pool does: it is called, and then ended; just ended if the task was killed before."""

    def __call__(self) -> Coroutine[Any, Any, None]: ...

    def end(self) -> None:
        """It is over, or was never begun."""
        ...


class TaskPool:
    """Runs each piece of work in a task that it shares with none meanwhile, and keeps that task for the next piece.

    To wake a task costs a third of what starting one costs.
    """

    def __init__(self, group: TaskGroup) -> None:
        self.group = group
        self._context = copy_context()
        self._idle: list[_Task] = []
        self._closed = False

    def start(self, work: Work) -> CancelScope:
        """Run `work` soon, with the caller's context variables, whatever is cancelled around the pool.

        Returns the scope that cancels it; once it has ended, that is the scope of other work.
        """
        if self._idle:
            task = self._idle.pop()
            task.take(work)
            task.wake()
        else:
            task = _Task(self)
            task.take(work)
            # With the pool's own variables: the task outlives what the caller's refer to.
            self._context.run(lambda: self.group.start_soon(task, name="sagas"))
        return task.scope

    def close(self) -> None:
        """Let each task end once it has no work."""
        self._closed = True
        while self._idle:
            self._idle.pop().wake()

    def is_closed(self) -> bool:
        """Whether `close` was called."""
        return self._closed

    def keep(self, task: _Task) -> bool:
        """Whether a task that has no work is to wait for some."""
        if self._closed or len(self._idle) >= IDLE:
            return False
        self._idle.append(task)
        return True

    def lose(self, task: _Task) -> None:
        """Expect nothing of this task any more."""
        if task in self._idle:
            self._idle.remove(task)


class _Task:
    """One task of a pool. Waits until somebody wakes it, with more work or without."""

    def __init__(self, pool: TaskPool) -> None:
        self.scope = CancelScope(shield=True)  # so that nobody but the pool's owner says when it is cancelled
        self._pool = pool
        self._wakings = Semaphore(0)  # an event would have to be made anew each time
        self._work: Work | None = None
        self._context: Context | None = None

    def take(self, work: Work) -> None:
        """Do this as soon as it runs."""
        self._work, self._context = work, copy_context()

    def wake(self) -> None:
        """Have it run."""
        self._wakings.release()

    async def __call__(self) -> None:
        try:
            with self.scope:
                while self._work is not None and self._context is not None:
                    await by_hand(self._work(), around=self._context.run)
                    self._end_work()
                    # A loop that ends cancels each task once, and waits: one that would go on waiting here held it up.
                    if self.scope.cancel_called or native_requests() or not self._pool.keep(self):
                        return
                    await self._wakings.acquire()
        except get_cancelled_exc_class():  # noqa: ASYNC103 - see below
            # Not by its scope, which lets nothing out, but by asyncio itself, from what ran here: that ends this task
            # alone. Let into the group it would cancel whoever opened the pool.
            return  # noqa: ASYNC104 - as above
        finally:
            self._pool.lose(self)
            self._end_work()

    def _end_work(self) -> None:
        work, self._work, self._context = self._work, None, None
        if work is not None:
            work.end()
