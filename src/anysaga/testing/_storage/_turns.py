"""Laws of `claim_due`: who is next."""

from __future__ import annotations

import pytest

from anysaga._records import EntryKind, SagaState
from anysaga.abc import Storage
from anysaga.testing._storage._harness import StorageHarness, created, entry, freed, ids, write


class TurnLaws(StorageHarness):
    """The longest due goes first, nobody starves, and nobody is taken who must not be."""

    async def test_the_longest_due_comes_first(self, storage: Storage) -> None:
        """Claims come by `next_attempt_at`, equal ones by id."""
        for saga_id in ("d", "b", "c", "a"):
            await freed(storage, saga_id)
        waiting = sorted(await storage.find(), key=lambda summary: (summary.next_attempt_at, summary.saga_id))
        claims = await storage.claim_due(["order"], 10)
        assert ids(claims) == [summary.saga_id for summary in waiting]

    async def test_no_more_than_the_limit(self, storage: Storage) -> None:
        """`limit` bounds one call; the next call takes the next ones."""
        for number in range(5):
            await freed(storage, f"saga-{number}")
        first, second, third = [await storage.claim_due(["order"], 2) for _ in range(3)]
        assert [len(first), len(second), len(third)] == [2, 2, 1]
        assert len({*ids(first), *ids(second), *ids(third)}) == 5
        assert await storage.claim_due(["order"], 0) == []

    async def test_only_the_names_asked_for(self, storage: Storage) -> None:
        """Sagas of other names stay; no name, no saga."""
        await freed(storage, "saga-1", name="order")
        await freed(storage, "saga-2", name="refund")
        await freed(storage, "saga-3", name="Order")
        assert await storage.claim_due([], 10) == []
        assert await storage.claim_due(["invoice"], 10) == []
        assert ids(await storage.claim_due(["refund", "invoice"], 10)) == ["saga-2"]
        assert ids(await storage.claim_due(iter(["order"]), 10)) == ["saga-1"]

    async def test_only_what_is_due(self, storage: Storage) -> None:
        """A saga that waits for its next attempt is not taken before."""
        await storage.release(await created(storage, "later"), wait=3600.0)
        claim = await created(storage, "retrying")
        await storage.record(write(claim, entry(2, EntryKind.NOT_DONE), wait=3600.0, release=True))
        await storage.release(await created(storage, "now"), wait=0.0)
        assert ids(await storage.claim_due(["order"], 10)) == ["now"]

    async def test_only_what_is_free(self, storage: Storage, other: Storage) -> None:
        """A living owner keeps its sagas, this incarnation too."""
        await created(storage, "mine")
        await created(other, "theirs")
        await freed(other, "nobody's")
        assert ids(await storage.claim_due(["order"], 10)) == ["nobody's"]
        assert await storage.claim_due(["order"], 10) == []

    @pytest.mark.parametrize("state", list(SagaState))
    async def test_only_what_is_live(self, storage: Storage, state: SagaState) -> None:
        """PENDING, RUNNING and COMPENSATING are taken; what has ended or is parked is not."""
        claim = await created(storage)
        await storage.record(write(claim, entry(2, EntryKind.NOTE), state=state, release=True))
        assert ids(await storage.claim_due(["order"], 10)) == ([] if state.is_end else ["saga-1"])

    async def test_each_saga_counts_its_own_claims(self, storage: Storage, other: Storage) -> None:
        """Sagas that were claimed a different number of times before are claimed once each."""
        await created(other, "lost")
        await self.die(other)
        await freed(storage, "new")
        claims = await storage.claim_due(["order"], 10)
        found = {claim.record.summary.saga_id: (claim.fence, claim.record.summary.claims) for claim in claims}
        assert found == {"lost": (2, 2), "new": (2, 1)}

    async def test_a_claim_is_whole(self, storage: Storage) -> None:
        """Each claim carries the record as it is after the claim, its log included."""
        claim = await created(storage, context='{"é": 1}')
        await storage.record(write(claim, entry(2, EntryKind.DONE, context='{"é": 2}'), release=True))
        (due,) = await storage.claim_due(["order"], 1)
        assert due.record == await storage.load("saga-1")
        assert (due.fence, due.record.summary.claims, len(due.record.entries)) == (2, 1, 2)
        await storage.confirm(due)

    async def test_a_saga_that_kills_its_workers_gives_way(self, storage: Storage) -> None:
        """With every claim without an outcome the next one is due later, until others come first."""
        await freed(storage, "poison")
        moments: list[int] = []
        for _ in range(12):
            due = await storage.claim_due(["order"], 1)
            if not due:
                return
            summary = due[0].record.summary
            moments.append(summary.next_attempt_at - due[0].now)
            assert moments == sorted(moments)
            assert summary.claims == len(moments)
            await self.die(storage)
        pytest.fail("twelve claims without an outcome, and still the first in the queue")

    async def test_release_makes_due_again(self, storage: Storage) -> None:
        """Given back, a saga is due in `wait` seconds whatever moved it on before."""
        await freed(storage, "saga-1")
        for _ in range(12):
            (claim,) = await storage.claim_due(["order"], 1)
            assert claim.record.summary.claims == 1
            await storage.release(claim)
