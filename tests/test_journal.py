"""A store that fails for good: the owner is told so, stops, and keeps the saga from nobody."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import anyio.lowlevel
import pytest
from journeys import AT_ONCE, Deed, Journey, Leg, WatchedStorage, kinds_of, saga_of
from trips import Book, Trip, trip_of

from anysaga import (
    MemoryStorage,
    NotDone,
    Parallel,
    SagaState,
    SagaTransaction,
    StorageUnavailable,
    checkpoint,
    current_step,
    recover_saga,
)
from anysaga._journal import Journal
from anysaga._progress import Progress
from anysaga.abc import Claim, EntryKind, NewSaga, StoredEvent, Write

pytestmark = pytest.mark.anyio


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have a write sent once."""
    monkeypatch.setattr("anysaga._journal.RESEND_PAUSES", ())


def failing(storage: WatchedStorage) -> Deed:
    """A deed whose checkpoint the store does not keep."""

    async def deed(journey: Journey) -> None:
        storage.fails.append(StorageUnavailable("the store", "it does not answer"))
        await checkpoint()

    return deed


@pytest.mark.parametrize("options", [{}, {"retry": AT_ONCE}], ids=["once", "retried"])
async def test_a_checkpoint_that_fails_is_what_the_caller_is_told_and_the_saga_is_given_back(
    did: list[str], options: dict[str, Any]
) -> None:
    storage = WatchedStorage()
    with pytest.raises(StorageUnavailable):
        await saga_of(storage, Leg("a", did, act=failing(storage), **options)).run(Journey(), saga_id="j")
    assert (await storage.load("j")).summary.owner is None
    assert (await recover_saga(saga_of(storage, Leg("a", did, **options)), "j")).state is SagaState.COMPLETED
    assert did == ["act a", "act a"]


async def test_a_saga_whose_write_was_torn_away_is_given_back(did: list[str]) -> None:
    storage = WatchedStorage()

    async def act(journey: Journey) -> None:
        storage.fails.append(KeyboardInterrupt())

    with pytest.raises(KeyboardInterrupt):
        await saga_of(storage, Leg("a", did, act=act)).run(Journey(), saga_id="j")
    assert (await storage.load("j")).summary.owner is None


async def test_a_step_that_goes_on_in_spite_of_a_failed_checkpoint_is_in_doubt(did: list[str]) -> None:
    storage = WatchedStorage()

    async def act(journey: Journey) -> None:
        with pytest.raises(StorageUnavailable):
            await failing(storage)(journey)

    with pytest.raises(StorageUnavailable):
        await saga_of(storage, Leg("a", did, act=act)).run(Journey(), saga_id="j")
    assert (await kinds_of(storage, "j"), (await storage.load("j")).summary.owner) == (["STARTED 1"], None)


async def leave(transaction: SagaTransaction[Journey]) -> None:
    """Do nothing more."""


@pytest.mark.filterwarnings("ignore::anysaga.UnfinishedSagaWarning")
@pytest.mark.parametrize("end", [leave, SagaTransaction.suspend], ids=["left", "suspended"])
async def test_a_release_that_fails_is_repeated_with_what_it_withdraws(
    did: list[str], end: Callable[[SagaTransaction[Journey]], Awaitable[None]]
) -> None:
    """D5: or the saga would be ours for as long as this process lives."""
    storage = WatchedStorage()
    with pytest.raises(StorageUnavailable):
        async with saga_of(storage, Leg("a", did), Leg("b", did)).transaction(Journey(), saga_id="j") as transaction:
            await anext(transaction)
            storage.fails.append(StorageUnavailable("the store", "it does not answer"))
            await end(transaction)
    assert (await storage.load("j")).summary.owner is None
    assert await kinds_of(storage, "j") == ["STARTED 1", "DONE 1", "STARTED 2", "WITHDRAWN 2"]


async def test_an_abort_that_the_store_does_not_keep_undoes_nothing_and_gives_the_saga_back(did: list[str]) -> None:
    """B3."""
    storage = WatchedStorage()
    async with saga_of(storage, Leg("a", did), Leg("b", did)).transaction(Journey(), saga_id="j") as transaction:
        await anext(transaction)
        storage.fails.append(StorageUnavailable("the store", "it does not answer"))
        with pytest.raises(StorageUnavailable):
            await transaction.abort()
    assert ((await storage.load("j")).summary.owner, did) == (None, ["act a"])


async def test_an_end_that_is_left_to_the_store_frees_the_events_that_waited_for_it(did: list[str]) -> None:
    """A task that is torn out while it waits for its turn to write has noted the end, and nobody else writes it."""
    storage = MemoryStorage()
    claim = await storage.create(NewSaga("j", "journey", 1, "[]", "", "{}", SagaState.RUNNING))
    progress = Progress(saga_of(storage, Leg("a", did)).definition, base="{}", current="{}", fence=1)
    journal = Journal(storage, progress, "j", claim=claim)
    event = StoredEvent("j/1/act/1", "Arrived", "{}", "journey", "a", ("broker",), held=True)
    journal.note(EntryKind.STARTED, "1", attempt=1)
    journal.note(EntryKind.DONE, "1", attempt=1, events=(event,))
    journal.note(EntryKind.COMPLETED)
    journal.drop()
    (delivery,) = await storage.lease_events("broker", 10, 30.0)
    assert delivery.message.id == event.id


class DoubtfulStorage(WatchedStorage):
    """Cannot say any more whose a saga is, once it `doubts`."""

    doubts = False

    async def confirm(self, claim: Claim) -> None:
        if self.doubts:
            raise StorageUnavailable("the store", "it does not answer")
        await super().confirm(claim)


async def test_an_act_whose_claim_the_store_cannot_confirm_undoes_nothing_and_gives_the_saga_back(
    did: list[str],
) -> None:
    """D3."""
    storage = DoubtfulStorage()
    saga = saga_of(storage, Leg("a", did), Leg("b", did))
    with pytest.raises(StorageUnavailable):
        async with saga.transaction(Journey(), saga_id="j") as transaction:
            await anext(transaction)
            storage.doubts = True
            await anext(transaction)
    summary = (await storage.load("j")).summary
    assert (summary.state, summary.owner, did) == (SagaState.RUNNING, None, ["act a"])
    assert await kinds_of(storage, "j") == ["STARTED 1", "DONE 1", "STARTED 2", "WITHDRAWN 2"]


async def test_an_undo_whose_claim_the_store_cannot_confirm_is_left_to_recovery(did: list[str]) -> None:
    """D3."""
    storage = DoubtfulStorage()

    async def act(journey: Journey) -> None:
        storage.doubts = True
        raise NotDone

    with pytest.raises(StorageUnavailable):
        await saga_of(storage, Leg("a", did), Leg("b", did, act=act)).run(Journey(), saga_id="j")
    summary = (await storage.load("j")).summary
    assert (summary.state, summary.owner, did) == (SagaState.COMPENSATING, None, ["act a", "act b"])
    storage.doubts = False
    assert (await recover_saga(saga_of(storage, Leg("a", did), Leg("b", did)), "j")).state is SagaState.COMPENSATED
    assert did == ["act a", "act b", "undo a"]


class SlowStorage(WatchedStorage):
    """Takes its time for each write, and knows how many it was given at once."""

    waits = True
    writing = most = 0

    async def record(self, write: Write) -> int:
        self.writing += 1
        self.most = max(self.most, self.writing)
        for _ in range(5):
            await anyio.lowlevel.checkpoint()
        try:
            return await super().record(write)
        finally:
            self.writing -= 1


async def test_writes_of_branches_are_serial_and_each_is_durable_when_its_checkpoint_returns(did: list[str]) -> None:
    """E1."""
    storage, all_began, saw = SlowStorage(), anyio.Event(), []

    async def save(trip: Trip) -> None:
        if len(did) == 3:
            all_began.set()
        await all_began.wait()
        await checkpoint()
        path = current_step().path
        saw.append((path, f"CHECKPOINT {path}" in await kinds_of(storage, "t")))

    await trip_of(storage, Parallel(*(Book(name, did, act=save) for name in "abc"))).run(Trip(), saga_id="t")
    assert sorted(saw) == [("1/1", True), ("1/2", True), ("1/3", True)]
    assert storage.most == 1
