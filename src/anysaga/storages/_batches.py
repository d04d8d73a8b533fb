"""Group commit: what waits at the same moment is committed together, by a thread that does nothing else.

Knows no database: a function that is handed in commits the slots of a batch. The thread begins with the first work,
takes all that is queued whenever it has ended the batch before, and goes when nobody uses the batches any more.
"""

from __future__ import annotations

import queue
import threading
import weakref
from collections.abc import Callable, Coroutine
from typing import Any, Final, Generic, TypeVar

from anyio import CancelScope, get_cancelled_exc_class
from attrs import define, field

from anysaga._crossing_threads import Waker
from anysaga.storages._forks import ForkLock

_W = TypeVar("_W")

_MOST_AT_ONCE = 500
_WORK: Final = object()
_END: Final = object()


@define(eq=False)
class Slot(Generic[_W]):
    """One piece of work on its way through a batch, and what became of it.

    A batch has no two slots of one `key`. Whoever commits sets `error` if it failed. `caller` wakes who waits for it.
    """

    work: _W
    key: str | None
    caller: Waker | threading.Event
    error: BaseException | None = None
    settled: bool = field(default=False, init=False)

    def check(self) -> None:
        """Raise what failed it."""
        if self.error is not None:
            raise self.error


class Batches(Generic[_W]):
    """The queue, and the thread that empties it.

    No loop relies on another one, which may be busy or gone: each caller is woken in its own loop or thread.
    """

    def __init__(self, commit: Callable[[list[Slot[_W]]], None]) -> None:
        self._commit = commit
        self.forget()

    def forget(self) -> None:
        """Begin anew, as a forked child must: the queue, its locks and its thread are the parent's."""
        self._lock = threading.Lock()
        self._turn = ForkLock()
        self._queue: list[Slot[_W]] = []
        self._bell: queue.SimpleQueue[object] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None

    def put(self, work: _W, key: str | None) -> Coroutine[Any, Any, None]:
        """Have `work` committed with whatever else is queued. Raises what failed it.

        A cancellation that comes before the work was taken withdraws it; one that comes later is raised when the batch
        has ended.
        """
        waker = Waker()
        slot = Slot(work, key, waker)
        self._join(slot)
        return self._settled(slot, waker)

    async def _settled(self, slot: Slot[_W], waker: Waker) -> None:
        try:
            await waker.wait()
        except BaseException as error:
            if not self._withdraw(slot) and not isinstance(error, GeneratorExit):
                await _outlast(slot, waker)  # noqa: ASYNC102 - shielded in there, and every batch ends
            raise
        slot.check()

    def put_first(self, work: _W, key: str | None, *, wait: float | None = None) -> bool:
        """The same from a thread that may block; goes before all that is queued.

        False: it was not committed within `wait` seconds. It may still be, if it was taken before.
        """
        done = threading.Event()
        slot = Slot(work, key, done)
        self._join(slot, first=True)
        if not done.wait(wait):
            self._withdraw(slot)
            return False
        slot.check()
        return True

    def pause(self) -> None:
        """Wait for the end of the batch that is under way, and let none begin before `resume`."""
        self._turn.pause()

    def resume(self) -> None:
        """Go on after `pause`."""
        self._turn.resume()

    def stop(self) -> None:
        """End the thread once it has emptied the queue. What comes later begins another one."""
        with self._lock:
            thread, self._thread = self._thread, None
            self._bell.put(_END)
            self._bell = queue.SimpleQueue()
        if thread is not None:
            thread.join()

    def empty(self) -> None:
        """Commit batches until nothing is queued: what the thread does when the bell rings."""
        while True:
            with self._turn.lock:
                batch = self._take()
                if not batch:
                    return
                self._carry_out(batch)

    def _join(self, slot: Slot[_W], *, first: bool = False) -> None:
        with self._lock:
            self._queue.insert(0 if first else len(self._queue), slot)
            if len(self._queue) == 1:
                self._bell.put(_WORK)
            if self._thread is None:
                self._thread = self._start()

    def _start(self) -> threading.Thread:
        bell = self._bell
        thread = threading.Thread(
            target=_empty_when_rung, args=(weakref.ref(self), bell), name="anysaga-writer", daemon=True
        )
        thread.start()
        weakref.finalize(self, bell.put, _END).atexit = False
        return thread

    def _withdraw(self, slot: Slot[_W]) -> bool:
        """Take a slot out of the queue. False: it was taken before."""
        with self._lock:
            if slot not in self._queue:
                return False
            self._queue.remove(slot)
            return True

    def _take(self) -> list[Slot[_W]]:
        with self._lock:
            batch, self._queue = _divide(self._queue)
            return batch

    def _carry_out(self, batch: list[Slot[_W]]) -> None:
        try:
            self._commit(batch)
        except BaseException as error:  # noqa: ASYNC103, BLE001 - raised where the slots are waited for
            for slot in batch:
                slot.error = error
        finally:
            _settle(batch)


async def _outlast(slot: Slot[_W], waker: Waker) -> None:
    while not slot.settled:
        try:
            with CancelScope(shield=True):
                await waker.wait()
        except get_cancelled_exc_class():  # noqa: ASYNC103 - a native one; the caller raises the first
            continue  # noqa: ASYNC104 - as above


def _empty_when_rung(reference: weakref.ref[Batches[_W]], bell: queue.SimpleQueue[object]) -> None:
    while bell.get() is _WORK:
        batches = reference()
        if batches is None:
            return
        batches.empty()
        del batches  # so that a storage that nobody uses any more can go


def _divide(waiting: list[Slot[_W]]) -> tuple[list[Slot[_W]], list[Slot[_W]]]:
    """What goes into one batch, and what is for later: more of the same key, and what is too much."""
    if len(waiting) <= 1:
        return waiting, []
    batch: dict[object, Slot[_W]] = {}
    later: list[Slot[_W]] = []
    for slot in waiting:
        key = slot if slot.key is None else slot.key
        if key in batch or len(batch) == _MOST_AT_ONCE:
            later.append(slot)
        else:
            batch[key] = slot
    return list(batch.values()), later


def _settle(batch: list[Slot[_W]]) -> None:
    wakers: list[Waker] = []
    for slot in batch:
        slot.settled = True
        if isinstance(slot.caller, Waker):
            wakers.append(slot.caller)
        else:
            slot.caller.set()
    Waker.wake_all(wakers)
