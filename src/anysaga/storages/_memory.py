"""A store in the memory of this process."""

from __future__ import annotations

import copy
import heapq
import weakref
from collections.abc import Callable, Iterable
from typing import Self

from anyio.lowlevel import checkpoint_if_cancelled

from anysaga._errors import OperationRefused, SagaAlreadyRunning, StaleFence, StorageClosed
from anysaga._records import LIVE_STATES, Claim, NewSaga, SagaRecord, SagaState, SagaSummary, Write
from anysaga.abc import CircuitRecord, CircuitStore, Delivery, Outbox, OutboxLag, Settlement, Storage
from anysaga.storages._clock import Clock, HostClock, microseconds
from anysaga.storages._shelf import Incarnation, Shelf
from anysaga.storages.rules import names_of, purgeable, states_of


class MemoryStorage(Storage, CircuitStore, Outbox):
    """Keeps sagas in the memory of this process: **everything is lost when the process ends**.

    For tests, demonstrations, and sagas whose loss does no harm. It keeps the same contract as the stores that last,
    from any number of threads and loops, without a thread of its own: an incarnation lives until it is closed,
    killed, or no longer used by anybody.

        async with MemoryStorage() as storage:
            result = await OrderSaga(storage=storage).run(order)

    `label` is the name that `find` and errors show for the owner of a saga.
    """

    waits = False

    def __init__(self, *, label: str = "memory", clock: Clock | None = None) -> None:
        self._label = label
        self._shelf = Shelf(clock or HostClock())
        self._closed = False
        self._begin()

    def __repr__(self) -> str:
        return f"MemoryStorage(label={self._label!r})"

    def twin(self, *, label: str | None = None) -> Self:
        """Another incarnation on the same sagas, as if a second process had opened the store."""
        twin = copy.copy(self)
        twin._label = label or f"{self._label}-twin"
        twin._begin()
        return twin

    def kill(self) -> None:
        """Declare this incarnation dead, as if its lease had run out: its sagas are free, and its claims are lost.

        Later claims through this object belong to a fresh incarnation.
        """
        with self._shelf:
            lost = self._incarnation.end()
            self._begin()
        for claim in lost:
            claim.lose()

    async def open(self) -> None:
        self._check_open()

    async def aclose(self) -> None:
        if self._closed:
            return
        self._closed = True
        with self._shelf as shelf:
            held = list(self._incarnation.claims.values())
            for claim in held:
                shelf.release(claim, 0.0)
            self._incarnation.end()
        for claim in held:
            claim.lose()

    async def create(self, new: NewSaga) -> Claim | None:
        if self._closed:
            raise StorageClosed(repr(self))
        with self._shelf.turn.lock:
            return self._shelf.create(new, self._incarnation)

    async def claim(self, saga_id: str, *, states: frozenset[SagaState] = LIVE_STATES) -> Claim:
        await self._enter()
        with self._shelf as shelf:
            saga = shelf.get(saga_id)
            if saga.holder is not None:
                raise SagaAlreadyRunning(saga_id, saga.holder.label)
            if saga.state not in states:
                raise OperationRefused(saga_id, "claim", f"it is {saga.state}")
            return saga.take(self._incarnation, shelf.clock.now())

    async def claim_due(self, names: Iterable[str], limit: int) -> list[Claim]:
        await self._enter()
        with self._shelf as shelf:
            return shelf.take_due(frozenset(names), limit, self._incarnation)

    async def record(self, write: Write) -> int:
        if self._closed:
            raise StorageClosed(repr(self))
        with self._shelf.turn.lock:
            at = self._shelf.record(write)
        self._shelf.letters.tell()
        return at

    async def confirm(self, claim: Claim) -> None:
        if self._closed:
            raise StorageClosed(repr(self))
        saga_id = claim.record.summary.saga_id
        if claim.lost or self._incarnation.claims.get(saga_id) is not claim:
            raise StaleFence(saga_id, claim.fence)

    async def release(self, claim: Claim, *, wait: float = 0.0) -> None:
        await self._enter()
        with self._shelf as shelf:
            shelf.release(claim, wait)

    def defer(self, work: Write | Claim) -> None:
        self._shelf.defer(work)

    async def load(self, saga_id: str) -> SagaRecord:
        await self._enter()
        with self._shelf as shelf:
            return shelf.get(saga_id).record()

    async def find(
        self,
        *,
        names: Iterable[str] = (),
        states: Iterable[SagaState] = (),
        limit: int = 100,
        after: str = "",
    ) -> list[SagaSummary]:
        await self._enter()
        wanted, chosen = names_of(names), states_of(states)
        with self._shelf as shelf:
            found = (
                saga_id
                for saga_id, saga in shelf.sagas.items()
                if saga_id > after and (not wanted or saga.new.name in wanted) and (not chosen or saga.state in chosen)
            )
            return [shelf.sagas[saga_id].summary() for saga_id in heapq.nsmallest(limit, found)]

    async def purge(self, *, before: int, states: Iterable[SagaState], limit: int = 1000) -> int:
        await self._enter()
        chosen = purgeable(states)
        with self._shelf as shelf:
            return shelf.purge(before, chosen, limit)

    async def load_circuit(self, name: str) -> CircuitRecord:
        self._check_open()
        with self._shelf as shelf:
            version, text = shelf.circuits.get(name, (0, ""))
            return CircuitRecord(version, text, shelf.clock.now())

    async def save_circuit(self, name: str, text: str, *, before: int) -> bool:
        self._check_open()
        with self._shelf as shelf:
            if shelf.circuits.get(name, (0, ""))[0] != before:
                return False
            shelf.circuits[name] = before + 1, text
            return True

    async def lease_events(self, destination: str, limit: int, seconds: float) -> list[Delivery]:
        await self._enter()
        with self._shelf as shelf:
            return shelf.letters.lease(destination, limit, microseconds(seconds), shelf.clock.now())

    async def settle_events(self, settlements: Iterable[Settlement]) -> None:
        await self._enter()
        with self._shelf as shelf:
            shelf.letters.settle(settlements, shelf.clock.now())

    async def dead_letters(self, *, limit: int = 100, after: Delivery | None = None) -> list[Delivery]:
        await self._enter()
        with self._shelf as shelf:
            return shelf.letters.dead(limit, after)

    async def send_again(self, delivery: Delivery) -> bool:
        await self._enter()
        with self._shelf as shelf:
            revived = shelf.letters.revive(delivery, shelf.clock.now())
        shelf.letters.watchers.tell()
        return revived

    async def skip_event(self, delivery: Delivery) -> bool:
        await self._enter()
        with self._shelf as shelf:
            skipped = shelf.letters.skip(delivery)
        shelf.letters.watchers.tell()
        return skipped

    async def outbox_lag(self) -> OutboxLag:
        await self._enter()
        with self._shelf as shelf:
            return shelf.letters.lag(shelf.clock.now())

    def watch_events(self, watcher: Callable[[], None]) -> Callable[[], None]:
        return self._shelf.letters.watchers.add(watcher)

    def _begin(self) -> None:
        self._incarnation = Incarnation(self._label)
        weakref.finalize(self, self._incarnation.end).atexit = False

    async def _enter(self) -> None:
        await checkpoint_if_cancelled()
        self._check_open()

    def _check_open(self) -> None:
        if self._closed:
            raise StorageClosed(repr(self))
