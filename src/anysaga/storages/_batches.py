"""Group commit: what waits at the same moment is committed together, by the thread of one of those who wait.

Knows no database: a function that is handed in commits the slots of a batch. There is no writer in the background: a
caller that finds no leader becomes it, and its thread takes all that is queued by the time the batch before has ended.
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

    A batch has no two slots of one `key`. Whoever commits sets `result` or `error`.
    """

    work: _W
    key: str | None
    result: object = None
    error: Exception | None = None
    settled: bool = field(default=False, init=False)
    bell: Waker | threading.Event | None = field(default=None, init=False)

    def outcome(self) -> object:
        """The result, or the error raised."""
        if self.error is not None:
            raise self.error
        return self.result


class Batches(Generic[_W]):
    """The queue. As long as it is not empty, one of its slots is the leader: its caller brings the thread."""

    def __init__(self, commit: Callable[[list[Slot[_W]]], None]) -> None:
        self._commit = commit
        self._limiter = LoopLimiter(_THREADS)
        self.forget()

    def forget(self) -> None:
        """Begin anew, as a forked child must: the queue, its locks and its threads are the parent's."""
        self._lock = threading.Lock()
        self._turn = threading.Lock()
        self._queue: list[Slot[_W]] = []
        self._leader: Slot[_W] | None = None

    async def put(self, work: _W, key: str) -> object:
        """Have `work` committed with whatever else is queued. Returns its result, or raises its error.

        A cancellation that comes before the work was taken withdraws it; one that comes later is raised when its
        batch has ended. A leader that is cancelled passes the others on.
        """
        slot = Slot(work, key)
        self._join(slot)
        try:
            while not slot.settled:
                if self._leader is slot:
                    await in_thread(self._lead, slot, limiter=self._limiter.get())
                else:
                    await self._wait(slot)
        except BaseException as error:
            if not self._withdraw(slot) and not isinstance(error, GeneratorExit):
                await self._outlast(slot)
            raise
        return slot.outcome()

    def put_first(self, work: _W) -> object:
        """The same from a thread that may block; goes before all that is queued."""
        slot = Slot(work, None)
        self._join(slot, first=True)
        while not slot.settled:
            if self._leader is slot:
                self._lead(slot)
            else:
                self._block(slot)
        return slot.outcome()

    def _join(self, slot: Slot[_W], *, first: bool = False) -> None:
        with self._lock:
            self._queue.insert(0 if first else len(self._queue), slot)
            if self._leader is None:
                self._leader = slot

    def _withdraw(self, slot: Slot[_W]) -> bool:
        """Take a slot out of the queue, and hand on the lead. False: it was taken before."""
        with self._lock:
            if slot not in self._queue:
                return False
            self._queue.remove(slot)
            heir = self._appoint() if self._leader is slot else None
        _ring([heir] if heir else [])
        return True

    def _lead(self, slot: Slot[_W]) -> None:
        with self._turn:
            batch = self._take(slot)
            try:
                if batch:
                    self._commit(batch)
            finally:
                self._settle(batch)

    def _take(self, slot: Slot[_W]) -> list[Slot[_W]]:
        """All that is queued; nothing, if the slot's caller was torn away and another leads."""
        with self._lock:
            if self._leader is not slot:
                return []
            batch, self._queue = _divide(self._queue)
            heir = self._appoint()
        _ring([heir] if heir else [])
        return batch

    def _appoint(self) -> Slot[_W] | None:
        self._leader = self._queue[0] if self._queue else None
        return self._leader

    def _settle(self, batch: list[Slot[_W]]) -> None:
        with self._lock:
            for slot in batch:
                slot.settled = True
        _ring(batch)

    async def _wait(self, slot: Slot[_W]) -> None:
        """Wait until the slot is settled, or leads."""
        waker = Waker()
        if self._hang(slot, waker):
            await waker.wait()

    def _block(self, slot: Slot[_W]) -> None:
        bell = threading.Event()
        if self._hang(slot, bell):
            bell.wait()

    def _hang(self, slot: Slot[_W], bell: Waker | threading.Event) -> bool:
        with self._lock:
            slot.bell = bell
            return not slot.settled and self._leader is not slot

    async def _outlast(self, slot: Slot[_W]) -> None:
        while not slot.settled:
            try:
                with CancelScope(shield=True):
                    await self._wait(slot)
            except get_cancelled_exc_class():  # noqa: ASYNC103 - native, once more; the caller raises the first one
                continue


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


def _ring(slots: list[Slot[_W]]) -> None:
    wakers: list[Waker] = []
    for slot in slots:
        if isinstance(slot.bell, Waker):
            wakers.append(slot.bell)
        elif slot.bell is not None:
            slot.bell.set()
    Waker.wake_all(wakers)
