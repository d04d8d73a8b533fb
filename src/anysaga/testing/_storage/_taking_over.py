"""Laws of death: what a dead owner had is free, and it never comes back."""

from __future__ import annotations

import pytest

from anysaga._errors import StaleFence
from anysaga._records import EntryKind, SagaState
from anysaga.abc import Storage
from anysaga.testing._storage._harness import StorageHarness, created, entry, freed, ids, write


class TakingOverLaws(StorageHarness):
    """The sagas of a dead incarnation go to whoever claims them first."""

    async def test_a_saga_of_a_dead_owner_is_claimed(self, storage: Storage, other: Storage) -> None:
        """`claim` takes it with the next fence, and the claim without an outcome still counts."""
        await created(storage)
        await self.die(storage)
        claim = await other.claim("saga-1")
        assert (claim.fence, claim.record.summary.claims) == (2, 2)
        await other.record(write(claim, entry(2, EntryKind.DONE)))

    async def test_due_sagas_of_a_dead_owner_are_claimed(self, storage: Storage, other: Storage) -> None:
        """`claim_due` finds them, PENDING ones included."""
        await created(storage, "saga-1")
        await created(storage, "saga-2", state=SagaState.PENDING)
        await created(other, "saga-3")
        await self.die(storage)
        assert sorted(ids(await other.claim_due(["order"], 10))) == ["saga-1", "saga-2"]

    async def test_a_dead_owner_is_refused_everywhere(self, storage: Storage, other: Storage) -> None:
        """Once taken over, the former owner's `record` and `confirm` raise `StaleFence`; its `release` does nothing."""
        former = await created(storage)
        await self.die(storage)
        await other.claim("saga-1")
        kept = await other.load("saga-1")
        with pytest.raises(StaleFence):
            await storage.record(write(former, entry(2, EntryKind.DONE)))
        with pytest.raises(StaleFence):
            await storage.confirm(former)
        await storage.release(former)
        assert await other.load("saga-1") == kept

    async def test_a_lost_claim_tells_its_watcher_once(self, storage: Storage, other: Storage) -> None:
        """When the storage learns that a claim is lost, it calls `lose`."""
        told: list[str] = []
        former = await created(storage)
        former.watch(lambda: told.append("lost"))
        await self.die(storage)
        await other.claim("saga-1")
        for _ in range(2):
            with pytest.raises(StaleFence):
                await storage.record(write(former, entry(2, EntryKind.DONE)))
        assert former.lost
        assert told == ["lost"]

    async def test_after_death_the_storage_claims_anew(self, storage: Storage, other: Storage) -> None:
        """A storage whose incarnation died goes on with a fresh one, that holds nothing of before."""
        former = await created(storage)
        await self.die(storage)
        taken = await other.claim("saga-1")
        with pytest.raises(StaleFence):
            await storage.record(write(former, entry(2, EntryKind.DONE)))
        again = await created(storage, "saga-2")
        await storage.confirm(again)
        await storage.record(write(again, entry(2, EntryKind.DONE)))
        await other.record(write(taken, entry(2, EntryKind.DONE)))
        await other.confirm(taken)

    async def test_the_living_are_left_alone(self, storage: Storage, other: Storage) -> None:
        """The death of one incarnation takes nothing from another."""
        claim = await created(other, "saga-1")
        await created(storage, "saga-2")
        await freed(storage, "saga-3")
        await self.die(storage)
        third = self.twin(storage)
        assert sorted(ids(await third.claim_due(["order"], 10))) == ["saga-2", "saga-3"]
        await other.confirm(claim)
        await other.record(write(claim, entry(2, EntryKind.DONE)))
        await third.aclose()
