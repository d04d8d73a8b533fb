"""MemoryStorage keeps the contract, and what is its own."""

from __future__ import annotations

import gc
from collections.abc import Iterable
from pathlib import Path

import pytest

from anysaga._errors import StaleFence
from anysaga._outbox import Settlement
from anysaga._records import EntryKind, StoredEvent
from anysaga.storages import MemoryStorage, _letters
from anysaga.storages._clock import ManualClock
from anysaga.storages.rules import patience
from anysaga.testing import StorageConformance
from anysaga.testing._storage._harness import created, entry, write

pytestmark = pytest.mark.anyio


class TestMemoryStorage(StorageConformance):
    def new_storage(self, directory: Path) -> MemoryStorage:
        return MemoryStorage()

    def twin(self, storage: MemoryStorage) -> MemoryStorage:
        return storage.twin()

    async def die(self, storage: MemoryStorage) -> None:
        storage.kill()


async def test_kill_loses_the_claims_at_once() -> None:
    storage = MemoryStorage()
    claim = await created(storage)
    storage.kill()
    assert claim.lost
    with pytest.raises(StaleFence):
        await storage.confirm(claim)


async def test_the_third_claim_without_an_outcome_is_the_first_that_costs_a_saga_its_turn() -> None:
    storage = MemoryStorage()
    claims = [await created(storage)]
    for _ in range(2):
        storage.kill()
        claims += await storage.claim_due(["order"], 1)
    waits = [claim.record.summary.next_attempt_at - claim.now for claim in claims]
    assert waits[1:] == [0, patience(3)]


async def test_a_storage_that_nobody_uses_any_more_is_dead() -> None:
    storage = MemoryStorage()
    twin = storage.twin()
    await created(twin)
    del twin
    gc.collect()
    assert (await storage.claim("saga-1")).fence == 2


async def test_twins_have_labels_of_their_own() -> None:
    storage = MemoryStorage(label="first")
    await created(storage, "saga-1")
    await created(storage.twin(), "saga-2")
    await created(storage.twin(label="third"), "saga-3")
    owners = [summary.owner for summary in await storage.find()]
    assert owners == ["first", None, None]  # nobody keeps the twins


async def test_defer_records_at_once() -> None:
    storage = MemoryStorage()
    claim = await created(storage)
    storage.defer(write(claim, entry(2, EntryKind.WITHDRAWN), release=True))
    assert storage._shelf.sagas["saga-1"].seq == 2  # `load` would do it, too


async def test_defer_from_a_finalizer_inside_the_store_waits_its_turn() -> None:
    storage = MemoryStorage()
    claim = await created(storage)
    with storage._shelf:
        storage.defer(write(claim, entry(2, EntryKind.WITHDRAWN), release=True))
        assert storage._shelf.sagas["saga-1"].seq == 1
    assert (await storage.load("saga-1")).summary.seq == 2


async def test_a_dead_letter_is_not_leased_in_the_very_moment_of_its_death() -> None:
    storage = MemoryStorage(clock=ManualClock())
    claim = await created(storage)
    paid = StoredEvent("paid", "Paid", "{}", "order", "Pay", ("broker",))
    await storage.record(write(claim, entry(2, EntryKind.DONE, events=(paid,))))
    (late,) = await storage.lease_events("broker", 1, 0)
    await storage.settle_events([Settlement(late, "no")])
    assert await storage.lease_events("broker", 1, 0) == []


async def test_an_event_is_leased_without_a_look_at_all_that_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    """A relay that is behind would fall behind more and more."""
    storage, looks = MemoryStorage(), list[object]()
    for number in range(50):
        claim = await created(storage, f"saga-{number}")
        paid = StoredEvent(f"paid-{number}", "Paid", "{}", "order", "Pay", ("broker",))
        await storage.record(write(claim, entry(2, EntryKind.DONE, events=(paid,))))

    def head(letters: Iterable[object]) -> object:
        looks.append(letters)
        return next(iter(letters), None)

    monkeypatch.setattr(_letters, "_head", head)
    for _ in range(5):
        assert len(await storage.lease_events("broker", 1, 60.0)) == 1
    assert len(looks) <= 2 * 5
