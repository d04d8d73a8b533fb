"""Laws of `claim`, `release` and `confirm` among the living."""

from __future__ import annotations

import pytest

from anysaga._errors import OperationRefused, SagaAlreadyRunning, StaleFence, StorageClosed
from anysaga._records import EntryKind, SagaState
from anysaga.abc import Storage
from anysaga.testing._storage._harness import StorageHarness, created, entry, freed, write


class ClaimingLaws(StorageHarness):
    """A saga has one owner at a time, and each new one has a greater fence."""

    async def test_each_claim_raises_the_fence_and_the_count(self, storage: Storage, other: Storage) -> None:
        """A claim raises `fence` and `claims` by one, and returns the record as it is after that."""
        await storage.record(write(await created(storage), entry(2, EntryKind.DONE), release=True))
        claim = await other.claim("saga-1")
        assert (claim.fence, claim.record.summary.fence, claim.record.summary.claims) == (2, 2, 1)
        assert await other.load("saga-1") == claim.record

    async def test_a_saga_of_a_living_owner_is_not_claimed(self, storage: Storage, other: Storage) -> None:
        """`SagaAlreadyRunning` names the owner, and nothing changes: for another incarnation and for the same."""
        await created(storage)
        kept = await storage.load("saga-1")
        for claimer in (storage, other):
            with pytest.raises(SagaAlreadyRunning) as caught:
                await claimer.claim("saga-1")
            assert caught.value.owner == kept.summary.owner
        assert await storage.load("saga-1") == kept

    async def test_a_saga_is_claimed_though_it_is_not_due(self, storage: Storage, other: Storage) -> None:
        """`claim` does not look at `next_attempt_at`."""
        claim = await created(storage)
        await storage.release(claim, wait=3600.0)
        assert (await other.claim("saga-1")).fence == 2

    async def test_a_saga_of_another_state_is_refused(self, storage: Storage, other: Storage) -> None:
        """`OperationRefused` if the state is not among `states`, by default the live ones; nothing changes."""
        claim = await created(storage)
        await storage.record(write(claim, entry(2, EntryKind.PARKED), state=SagaState.PARKED))
        kept = await storage.load("saga-1")
        with pytest.raises(OperationRefused):
            await other.claim("saga-1")
        assert await storage.load("saga-1") == kept
        assert (await other.claim("saga-1", states=frozenset({SagaState.PARKED}))).fence == 2

    async def test_a_released_saga_is_free_and_costs_no_claim(self, storage: Storage, other: Storage) -> None:
        """`release` clears the owner, counts one claim less, and leaves log and fence alone."""
        claim = await created(storage)
        await storage.release(claim)
        record = await storage.load("saga-1")
        assert (record.summary.owner, record.summary.claims, record.summary.fence) == (None, 0, 1)
        assert record.entries == claim.record.entries
        assert (await other.claim("saga-1")).record.summary.claims == 1

    async def test_a_release_takes_back_its_own_claim_alone(self, storage: Storage, other: Storage) -> None:
        """The claims of those who died since the last outcome still count after it."""
        await created(storage)
        await self.die(storage)
        await other.release(await other.claim("saga-1"))
        assert (await other.load("saga-1")).summary.claims == 1

    async def test_a_release_takes_back_no_claim_that_had_an_outcome(self, storage: Storage) -> None:
        """An outcome sets the count to zero, and it does not go below."""
        claim = await created(storage)
        await storage.record(write(claim, entry(2, EntryKind.DONE)))
        await storage.release(claim)
        assert (await storage.load("saga-1")).summary.claims == 0

    async def test_a_second_release_does_nothing(self, storage: Storage, other: Storage) -> None:
        """What was given back cannot be given back again, before and after another claim."""
        claim = await created(storage)
        await storage.release(claim)
        kept = await storage.load("saga-1")
        await storage.release(claim, wait=3600.0)
        assert await storage.load("saga-1") == kept
        await other.claim("saga-1")
        kept = await storage.load("saga-1")
        await storage.release(claim)
        assert await storage.load("saga-1") == kept

    async def test_a_claim_holds_until_it_is_given_back(self, storage: Storage) -> None:
        """`confirm` returns while the claim holds, and raises `StaleFence` after a release or a freeing write."""
        claim = await created(storage)
        await storage.confirm(claim)
        await storage.record(write(claim, entry(2, EntryKind.DONE)))
        await storage.confirm(claim)
        await storage.record(write(claim, entry(3, EntryKind.WITHDRAWN), release=True))
        with pytest.raises(StaleFence):
            await storage.confirm(claim)
        again = await storage.claim("saga-1")
        await storage.release(again)
        with pytest.raises(StaleFence):
            await storage.confirm(again)

    async def test_an_older_claim_of_the_same_incarnation_is_stale(self, storage: Storage) -> None:
        """Claimed twice by one incarnation, only the later claim holds."""
        former = await created(storage)
        await storage.release(former)
        claim = await storage.claim("saga-1")
        await storage.confirm(claim)
        with pytest.raises(StaleFence):
            await storage.confirm(former)
        with pytest.raises(StaleFence):
            await storage.record(write(former, entry(2, EntryKind.DONE)))

    async def test_closing_gives_everything_back(self, storage: Storage) -> None:
        """`aclose` releases what the incarnation owns: free at once, no claim counted, and its claims are lost."""
        twin = self.twin(storage)
        claim = await created(twin)
        await freed(twin, "saga-2")
        await twin.aclose()
        await twin.aclose()
        assert claim.lost
        summary = (await storage.load("saga-1")).summary
        assert (summary.owner, summary.claims) == (None, 0)
        assert (await storage.claim("saga-1")).fence == 2

    async def test_a_closed_storage_is_closed(self, storage: Storage) -> None:
        """Every verb after `aclose` raises `StorageClosed`."""
        twin = self.twin(storage)
        claim = await created(twin)
        await twin.aclose()
        for verb in (
            lambda: twin.load("saga-1"),
            lambda: twin.claim("saga-1"),
            lambda: twin.claim_due(["order"], 1),
            lambda: twin.record(write(claim, entry(2))),
            lambda: twin.release(claim),
            twin.find,
            lambda: twin.purge(before=0, states=[SagaState.COMPLETED]),
            twin.open,
        ):
            with pytest.raises(StorageClosed):
                await verb()
