"""Laws of `record` and `defer`: what is eligible is appended once, and nothing else ever is."""

from __future__ import annotations

import threading
from typing import Any

import anyio
import anyio.lowlevel
import attrs
import pytest

from anysaga._errors import SagaAlreadyRunning, StaleFence
from anysaga._records import EntryKind, SagaState
from anysaga.abc import Storage
from anysaga.testing._storage._harness import StorageHarness, created, entry, write


class WritingLaws(StorageHarness):
    """A write needs the current fence and the next seq."""

    async def test_a_write_appends_and_sets_the_state(self, storage: Storage) -> None:
        """Entries, state and seq change in one commit."""
        claim = await created(storage)
        await storage.record(write(claim, entry(2, EntryKind.UNKNOWN), entry(3, EntryKind.BACK), state=_BACK))
        record = await storage.load("saga-1")
        assert [each.seq for each in record.entries] == [1, 2, 3]
        assert (record.summary.state, record.summary.seq, record.summary.fence) == (_BACK, 3, 1)

    async def test_a_long_log_keeps_its_order(self, storage: Storage) -> None:
        """Entries come back by seq, however many there are."""
        claim = await created(storage)
        for first in range(2, 130, 16):
            await storage.record(write(claim, *(entry(seq, EntryKind.CHECKPOINT) for seq in range(first, first + 16))))
        assert [each.seq for each in (await storage.load("saga-1")).entries] == list(range(1, 130))

    async def test_the_next_attempt_is_due_after_the_wait(self, storage: Storage) -> None:
        """`next_attempt_at` is the moment of the write + `wait`."""
        claim = await created(storage)
        moment = await storage.record(write(claim, entry(2, EntryKind.NOT_DONE), wait=2.5))
        assert (await storage.load("saga-1")).summary.next_attempt_at == moment + 2_500_000

    async def test_an_outcome_sets_the_count_of_claims_to_zero(self, storage: Storage) -> None:
        """`claims` goes to 0 with an outcome, and stays with anything else."""
        claim = await created(storage)
        await storage.record(write(claim, entry(2, EntryKind.CHECKPOINT)))
        assert (await storage.load("saga-1")).summary.claims == 1
        await storage.record(write(claim, entry(3, EntryKind.DONE)))
        assert (await storage.load("saga-1")).summary.claims == 0

    async def test_a_stale_fence_is_refused_and_changes_nothing(self, storage: Storage, other: Storage) -> None:
        """After another claim, writes of the former owner raise `StaleFence`."""
        former = await created(storage)
        await self.die(storage)
        await other.claim("saga-1")
        kept = await other.load("saga-1")
        with pytest.raises(StaleFence):
            await storage.record(write(former, entry(2, EntryKind.DONE)))
        assert await other.load("saga-1") == kept

    async def test_a_fence_of_the_future_is_refused(self, storage: Storage) -> None:
        """Only the current fence writes, no greater one either."""
        claim = await created(storage)
        with pytest.raises(StaleFence):
            await storage.record(write(claim, entry(2, EntryKind.DONE), fence=2))
        assert (await storage.load("saga-1")).summary.seq == 1

    @pytest.mark.parametrize("seq", [3, 4, 100])
    async def test_a_gap_in_the_seq_is_refused(self, storage: Storage, seq: int) -> None:
        """A write whose `before` is not the saga's seq raises `StaleFence` and changes nothing."""
        claim = await created(storage)
        kept = await storage.load("saga-1")
        with pytest.raises(StaleFence):
            await storage.record(write(claim, entry(seq, EntryKind.DONE)))
        assert await storage.load("saga-1") == kept

    async def test_a_write_sent_again_succeeds_once(self, storage: Storage) -> None:
        """The same write again is success with the same moment, and appends nothing."""
        claim = await created(storage)
        sent = write(claim, entry(2, EntryKind.DONE, response="1"), entry(3, EntryKind.STARTED))
        moment = await storage.record(sent)
        kept = await storage.load("saga-1")
        assert await storage.record(sent) == moment
        assert await storage.load("saga-1") == kept

    async def test_a_write_that_freed_the_saga_may_be_sent_again(self, storage: Storage, other: Storage) -> None:
        """A lost answer to the last write is asked for again, even when another owner has claimed the saga since."""
        claim = await created(storage)
        sent = write(claim, entry(2, EntryKind.WITHDRAWN), release=True)
        moment = await storage.record(sent)
        assert await storage.record(sent) == moment
        await other.claim("saga-1")
        assert await storage.record(sent) == moment

    @pytest.mark.parametrize(
        "changes", [{"response": "2"}, {"attempt": 2}, {"kind": EntryKind.NOT_DONE}, {"path": "1"}, {"error": ""}]
    )
    async def test_a_write_of_other_content_is_refused(self, storage: Storage, changes: dict[str, Any]) -> None:
        """At a seq that is taken, a write that says something else raises `StaleFence`."""
        claim = await created(storage)
        sent = write(claim, entry(2, EntryKind.DONE, response="1"))
        await storage.record(sent)
        kept = await storage.load("saga-1")
        with pytest.raises(StaleFence):
            await storage.record(attrs.evolve(sent, entries=(attrs.evolve(sent.entries[0], **changes),)))
        assert await storage.load("saga-1") == kept

    async def test_an_old_write_sent_again_is_refused(self, storage: Storage) -> None:
        """Once the log has gone on, an earlier write raises `StaleFence`."""
        claim = await created(storage)
        first = write(claim, entry(2, EntryKind.DONE))
        await storage.record(first)
        await storage.record(write(claim, entry(3)))
        with pytest.raises(StaleFence):
            await storage.record(first)

    async def test_a_write_with_release_frees_the_saga(self, storage: Storage, other: Storage) -> None:
        """`release` clears the owner in the same commit; the fence stays, and the next claim raises it."""
        claim = await created(storage)
        await storage.record(write(claim, entry(2, EntryKind.WITHDRAWN), release=True))
        summary = (await storage.load("saga-1")).summary
        assert (summary.owner, summary.fence) == (None, 1)
        assert (await other.claim("saga-1")).fence == 2

    async def test_a_write_without_release_keeps_the_owner(self, storage: Storage, other: Storage) -> None:
        """While it is driven, a saga belongs to its owner."""
        claim = await created(storage)
        await storage.record(write(claim, entry(2, EntryKind.DONE)))
        with pytest.raises(SagaAlreadyRunning):
            await other.claim("saga-1")

    async def test_deferred_work_is_done_soon(self, storage: Storage) -> None:
        """`defer` has a write recorded, or a claim released, from any thread and without a loop."""
        first, second = await created(storage, "saga-1"), await created(storage, "saga-2")
        thread = threading.Thread(target=storage.defer, args=[write(first, entry(2), release=True)])
        thread.start()
        thread.join()
        storage.defer(second)
        await _until_free(storage, "saga-1", "saga-2")
        assert [summary.seq for summary in await storage.find()] == [2, 1]

    async def test_deferred_work_that_is_no_longer_eligible_is_forgotten(self, storage: Storage) -> None:
        """Stale work changes nothing and does not hold up what comes after it."""
        former = await created(storage)
        await storage.release(former)
        claim = await storage.claim("saga-1")
        storage.defer(write(former, entry(2, EntryKind.DONE)))
        storage.defer(write(former, entry(2), saga_id="nobody"))
        storage.defer(former)
        storage.defer(write(claim, entry(2, EntryKind.WITHDRAWN), release=True))
        await _until_free(storage, "saga-1")
        assert (await storage.load("saga-1")).entries[-1].kind is EntryKind.WITHDRAWN


_BACK = SagaState.COMPENSATING


async def _until_free(storage: Storage, *saga_ids: str) -> None:
    with anyio.fail_after(30):
        while any([(await storage.load(saga_id)).summary.owner for saga_id in saga_ids]):  # noqa: ASYNC110 - the heartbeat has no event
            await anyio.lowlevel.checkpoint()
