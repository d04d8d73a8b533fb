"""Group commit: what waits at the same moment is committed together, by the thread of one of those who wait.

Knows no database: a function that is handed in commits the slots of a batch. There is no writer in the background: a
caller that finds no leader becomes it, and its thread takes all that is queued when the batch before has ended.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

from anyio import CancelScope, get_cancelled_exc_class
from attrs import define, field

from anysaga._hosting import LoopLimiter, Waker, in_thread

_W = TypeVar("_W")

_MOST_AT_ONCE = 500
_THREADS = 2  # one commits, one waits behind it with all that comes meanwhile


@define(eq=False)
class Slot(Generic[_W]):
    """One piece of work on its way through a batch, and what became of it.

    A batch has no two slots of one `key`. Whoever commits sets `error` if it failed. `home` is where its caller waits.
    """

    work: _W
    key: str | None
    home: object
    error: BaseException | None = None
    settled: bool = field(default=False, init=False)
    waker: Waker | None = field(default=None, init=False)

    def check(self) -> None:
        """Raise what failed it."""
        if self.error is not None:
            raise self.error


class Batches(Generic[_W]):
    """The queue, and who leads.

    Wherever slots wait, in a loop or a thread, the first of them leads: its caller brings a thread. So no loop relies
    on another one, which may be busy or gone. Each thread takes, in its turn, all that is queued, wherever it waits.
    """

    def __init__(self, commit: Callable[[list[Slot[_W]]], None]) -> None:
        self._commit = commit
        self._limiter = LoopLimiter(_THREADS)
        self.forget()

    def forget(self) -> None:
        """Begin anew, as a forked child must: the queue, its locks and its threads are the parent's."""
        self._lock = threading.Lock()
        self._turn = threading.Lock()
        self._queue: list[Slot[_W]] = []
        self._leaders: dict[object, Slot[_W]] = {}

    async def put(self, work: _W, key: str | None) -> None:
        """Have `work` committed with whatever else is queued. Raises what failed it.

        A cancellation that comes before the work was taken withdraws it, and leaves the lead to the next one; a
        cancellation that comes later is raised when the batch has ended.
        """
        limiter = self._limiter.get()
        slot = Slot(work, key, limiter)
        self._join(slot)
        try:
            while not slot.settled:
                if self._leads(slot):
                    await in_thread(self._lead, slot, limiter=limiter)
                else:
                    await self._wait(slot)
        except BaseException as error:
            if not self._withdraw(slot) and not isinstance(error, GeneratorExit):
                await self._outlast(slot)  # noqa: ASYNC102 - shielded in there, and every batch ends
            raise
        slot.check()

    def put_first(self, work: _W, key: str | None) -> None:
        """The same from a thread that may block; goes before all that is queued."""
        slot = Slot(work, key, object())
        self._join(slot, first=True)
        while not slot.settled:
            self._lead(slot)
        slot.check()

    def _join(self, slot: Slot[_W], *, first: bool = False) -> None:
        with self._lock:
            self._queue.insert(0 if first else len(self._queue), slot)
            self._leaders.setdefault(slot.home, slot)

    def _leads(self, slot: Slot[_W]) -> bool:
        return self._leaders.get(slot.home) is slot

    def _withdraw(self, slot: Slot[_W]) -> bool:
        """Take a slot out of the queue. False: it was taken before."""
        with self._lock:
            if slot not in self._queue:
                return False
            self._queue.remove(slot)
            heirs = self._appoint()
        _wake(heirs)
        return True

    def _lead(self, slot: Slot[_W]) -> None:
        with self._turn:
            batch = self._take(slot)
            try:
                if batch:
                    self._commit(batch)
            except BaseException as error:
                for each in batch:
                    each.error = error
                raise
            finally:
                self._settle(batch)

    def _take(self, slot: Slot[_W]) -> list[Slot[_W]]:
        """All that is queued; nothing if the slot was taken by another, or withdrawn."""
        with self._lock:
            if not self._leads(slot):
                return []
            batch, self._queue = _divide(self._queue)
            heirs = self._appoint()
        _wake(heirs)
        return batch

    def _appoint(self) -> list[Slot[_W]]:
        """Let the first slot of each home lead. Returns those that did not before."""
        before, self._leaders = self._leaders, {}
        for slot in self._queue:
            self._leaders.setdefault(slot.home, slot)
        return [slot for home, slot in self._leaders.items() if before.get(home) is not slot]

    def _settle(self, batch: list[Slot[_W]]) -> None:
        with self._lock:
            for slot in batch:
                slot.settled = True
        _wake(batch)

    async def _wait(self, slot: Slot[_W]) -> None:
        """Wait until the slot is settled, or leads."""
        waker = Waker()
        with self._lock:
            if slot.settled or self._leads(slot):
                return
            slot.waker = waker
        await waker.wait()

    async def _outlast(self, slot: Slot[_W]) -> None:
        while not slot.settled:
            try:
                with CancelScope(shield=True):
                    await self._wait(slot)
            except get_cancelled_exc_class():  # noqa: ASYNC103 - a native one; the caller raises the first
                continue  # noqa: ASYNC104


def _divide(queue: list[Slot[_W]]) -> tuple[list[Slot[_W]], list[Slot[_W]]]:
    """What goes into one batch, and what is for later: more of the same key, and what is too much."""
    batch: dict[object, Slot[_W]] = {}
    later: list[Slot[_W]] = []
    for slot in queue:
        key = slot if slot.key is None else slot.key
        if key in batch or len(batch) == _MOST_AT_ONCE:
            later.append(slot)
        else:
            batch[key] = slot
    return list(batch.values()), later


def _wake(slots: list[Slot[_W]]) -> None:
    Waker.wake_all(slot.waker for slot in slots if slot.waker is not None)
