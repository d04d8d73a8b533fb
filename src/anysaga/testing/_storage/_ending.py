"""Laws of ends: an ended saga is nobody's, and `purge` forgets only those."""

from __future__ import annotations

import pytest

from anysaga._errors import InvalidArgument, OperationRefused, SagaNotFound
from anysaga._records import LIVE_STATES, EntryKind, SagaState
from anysaga.abc import Storage
from anysaga.testing._storage._harness import StorageHarness, created, entry, write

ENDS = [state for state in SagaState if state.is_end]
OVER = [state for state in ENDS if state is not SagaState.PARKED]
FAR = 2**60


class EndingLaws(StorageHarness):
    """An end frees the saga; what is over may be forgotten."""

    @pytest.mark.parametrize("state", ENDS)
    async def test_an_end_frees_the_saga(self, storage: Storage, other: Storage, state: SagaState) -> None:
        """A write into an end state clears the owner by itself, keeps the fence, and ends the claim."""
        claim = await created(storage)
        await storage.record(write(claim, entry(2, EntryKind.NOTE), state=state))
        summary = (await other.load("saga-1")).summary
        assert (summary.state, summary.owner, summary.fence) == (state, None, 1)
        with pytest.raises(OperationRefused):
            await other.claim("saga-1")

    async def test_the_note_says_why_it_ended(self, storage: Storage) -> None:
        """`find` shows the error text of the entry that ended or parked the saga, and none while it lives."""
        claim = await created(storage)
        await storage.record(write(claim, entry(2, EntryKind.UNKNOWN, error="not yet")))
        assert (await storage.find())[0].note is None
        parked = entry(3, EntryKind.PARKED, error="ask the bank")
        await storage.record(write(claim, parked, state=SagaState.PARKED))
        assert (await storage.find())[0].note == "ask the bank"

    async def test_a_parked_saga_goes_on_after_a_person(self, storage: Storage) -> None:
        """Claimed by its state, it may be written to and live again; then it is due like any other."""
        claim = await created(storage)
        await storage.record(write(claim, entry(2, EntryKind.PARKED, error="?"), state=SagaState.PARKED))
        claim = await storage.claim("saga-1", states=frozenset({SagaState.PARKED}))
        await storage.record(write(claim, entry(3, EntryKind.RETRIED), release=True))
        (due,) = await storage.claim_due(["order"], 1)
        assert (due.record.summary.state, due.record.summary.note) == (SagaState.RUNNING, None)

    @pytest.mark.parametrize("state", OVER)
    async def test_purge_forgets_what_is_over(self, storage: Storage, state: SagaState) -> None:
        """It takes the saga and its log; the id is free for a new saga."""
        await _ended(storage, "saga-1", state)
        assert await storage.purge(before=FAR, states=[state]) == 1
        with pytest.raises(SagaNotFound):
            await storage.load("saga-1")
        assert await storage.find() == []
        assert len((await created(storage)).record.entries) == 1

    async def test_purge_takes_only_the_states_asked_for(self, storage: Storage) -> None:
        """Other ends, parked and live sagas stay."""
        for state in SagaState:
            await _ended(storage, state.value, state)
        assert await storage.purge(before=FAR, states=[]) == 0
        assert await storage.purge(before=FAR, states=[SagaState.COMPLETED, SagaState.ABANDONED]) == 2
        left = {summary.saga_id for summary in await storage.find()}
        assert left == set(SagaState) - {SagaState.COMPLETED, SagaState.ABANDONED}

    @pytest.mark.parametrize("state", [SagaState.PARKED, *sorted(LIVE_STATES)])
    async def test_purge_refuses_states_that_are_needed(self, storage: Storage, state: SagaState) -> None:
        """A live or parked state raises `InvalidArgument`, and nothing is forgotten."""
        await _ended(storage, "saga-1", SagaState.COMPLETED)
        with pytest.raises(InvalidArgument):
            await storage.purge(before=FAR, states=[SagaState.COMPLETED, state])
        assert len(await storage.find()) == 1

    async def test_purge_keeps_what_ended_later(self, storage: Storage) -> None:
        """A saga that ended at or after `before` stays."""
        moment = await _ended(storage, "saga-1", SagaState.COMPLETED)
        assert await storage.purge(before=moment, states=[SagaState.COMPLETED]) == 0
        assert await storage.purge(before=moment + 1, states=[SagaState.COMPLETED]) == 1

    async def test_purge_stops_at_the_limit(self, storage: Storage) -> None:
        """No more than `limit` at once, over all states together."""
        for number in range(5):
            await _ended(storage, f"saga-{number}", OVER[number % len(OVER)])
        assert await storage.purge(before=FAR, states=OVER, limit=3) == 3
        assert await storage.purge(before=FAR, states=OVER, limit=3) == 2
        assert await storage.purge(before=FAR, states=OVER, limit=3) == 0


async def _ended(storage: Storage, saga_id: str, state: SagaState) -> int:
    claim = await created(storage, saga_id)
    return await storage.record(write(claim, entry(2, EntryKind.NOTE), state=state, release=True))
