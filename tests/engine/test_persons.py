"""Recovery, and what a person can do with a parked saga."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

import anyio
import pytest
from attrs import define
from tours import FixedTour, Guide, Hotel, Ticket, Tour, TourSaga, Train

from anysaga import (
    MemoryStorage,
    OperationRefused,
    Parallel,
    Saga,
    SagaAbandoned,
    SagaMismatch,
    SagaParked,
    SagaState,
    Step,
    StorageUnavailable,
    abandon,
    compensate,
    recover,
    recover_saga,
    resolve,
    retry,
)
from anysaga.abc import NewSaga, Storage, Write

pytestmark = pytest.mark.anyio


async def parked_pivot(storage: Storage) -> None:
    """A saga whose pivot is in doubt."""
    with pytest.raises(SagaParked, match="ticket") as caught:
        await FixedTour(storage=storage).run(Tour("ticket dirty"), saga_id="t")
    assert isinstance(caught.value.__cause__, ConnectionError)


async def test_a_pivot_in_doubt_waits_for_a_person_who_says_done(storage: Storage, done: list[str]) -> None:
    await parked_pivot(storage)
    assert await resolve("t", "ticket", "done", storage=storage) is SagaState.RUNNING
    assert (await recover_saga(FixedTour, "t", storage=storage)).state is SagaState.COMPLETED
    assert done == ["act hotel", "act ticket", "act guide"]


async def test_a_person_who_says_not_done_sends_it_back(storage: Storage, done: list[str]) -> None:
    await parked_pivot(storage)
    await resolve("t", "ticket", "not-done", storage=storage)
    assert (await recover_saga(FixedTour, "t", storage=storage)).state is SagaState.COMPENSATED
    assert done == ["act hotel", "act ticket", "undo hotel"]


async def test_a_retry_acts_again(storage: Storage, done: list[str]) -> None:
    await parked_pivot(storage)
    await retry("t", storage=storage)
    result = await recover_saga(FixedTour, "t", storage=storage)
    assert result.state is SagaState.PARKED
    assert done == ["act hotel", "act ticket", "act ticket"]


async def test_a_pivot_in_doubt_cannot_be_compensated(storage: Storage) -> None:
    await parked_pivot(storage)
    with pytest.raises(OperationRefused, match="ticket"):
        await compensate("t", storage=storage)
    assert (await storage.load("t")).summary.state is SagaState.PARKED


async def test_an_abandoned_saga_stays_as_it_is(storage: Storage, done: list[str]) -> None:
    await parked_pivot(storage)
    assert await abandon("t", storage=storage, reason="settled by phone") is SagaState.ABANDONED
    with pytest.raises(SagaAbandoned, match="phone"):
        await FixedTour(storage=storage).run(saga_id="t")
    assert await recover([FixedTour], storage=storage) == []
    assert done == ["act hotel", "act ticket"]


async def test_operations_refuse_what_does_not_fit(storage: Storage) -> None:
    await TourSaga(storage=storage).run(Tour(), saga_id="ended")
    for call in (retry("ended", storage=storage), compensate("ended", storage=storage)):
        with pytest.raises(OperationRefused, match="COMPLETED"):
            await call
    await parked_pivot(storage)
    with pytest.raises(OperationRefused, match="no step 'boat'"):
        await resolve("t", "boat", "done", storage=storage)
    with pytest.raises(OperationRefused, match="never began"):
        await resolve("t", "guide", "done", storage=storage)
    with pytest.raises(OperationRefused, match="no answer"):
        await resolve("t", "ticket", "perhaps", storage=storage)  # type: ignore[arg-type]


class Boat(Guide):
    name = "boat"


@pytest.mark.parametrize("last", [Boat, Parallel(Guide, Boat)], ids=["after", "beside"])
async def test_a_step_after_which_the_saga_went_on_cannot_be_taken_back(storage: Storage, last: Any) -> None:
    """It would not be acted again, and once it were, count for a step beside it that is not done."""
    steps: list[Any] = [Ticket, last] if isinstance(last, Parallel) else [Ticket, Guide, last]
    saga = Saga[Tour](name="tour", steps=steps, storage=storage)
    with pytest.raises(SagaParked, match="boat"):
        await saga.run(Tour("boat dirty"), saga_id="t")
    with pytest.raises(OperationRefused, match="'guide' was done, and the saga went on"):
        await resolve("t", "guide", "not-done", storage=storage)
    assert (await storage.load("t")).summary.state is SagaState.PARKED
    await resolve("t", "boat", "done", storage=storage)
    assert (await recover_saga(saga, "t")).state is SagaState.COMPLETED


@pytest.mark.parametrize(
    ("refused", "words"),
    [
        (lambda storage: retry("t", storage=storage), "cannot retry.*it is not parked, it is COMPLETED"),
        (lambda storage: abandon("t", storage=storage, reason="lost"), "cannot abandon.*it has ended, it is COMPLETED"),
    ],
)
async def test_a_refusal_says_what_was_asked_and_how_the_saga_stands(
    storage: Storage, refused: Callable[[Storage], Awaitable[SagaState]], words: str
) -> None:
    await TourSaga(storage=storage).run(Tour(), saga_id="t")
    with pytest.raises(OperationRefused, match=words):
        await refused(storage)


async def test_a_saga_whose_list_of_steps_is_damaged_is_refused_as_such(storage: Storage) -> None:
    claim = await storage.create(NewSaga("t", "tour", 1, "[[", "", "{}", SagaState.PARKED))
    assert claim is not None
    await storage.release(claim)
    with pytest.raises(OperationRefused, match="abandon"):
        await resolve("t", "ticket", "done", storage=storage)


async def test_the_note_of_a_resolution_is_kept(storage: Storage) -> None:
    await parked_pivot(storage)
    await resolve("t", "ticket", "done", storage=storage, note="the bank said so")
    assert (await storage.load("t")).entries[-1].error == "the bank said so"


async def test_a_step_whose_intent_was_withdrawn_never_began(storage: Storage, done: list[str]) -> None:
    with pytest.raises(SagaParked):
        async with TourSaga(storage=storage).transaction(Tour("undo hotel"), saga_id="t") as transaction:
            await anext(transaction)
            await transaction.abort()
    with pytest.raises(OperationRefused, match="never began"):
        await resolve("t", "train", "done", storage=storage)


async def test_a_failed_undo_that_a_person_did_goes_on(storage: Storage, done: list[str]) -> None:
    with pytest.raises(SagaParked):
        async with TourSaga(storage=storage).transaction(Tour("undo train"), saga_id="t") as transaction:
            await anext(transaction)
            await anext(transaction)
            await transaction.abort()
    await resolve("t", "train", "not-done", storage=storage)
    assert (await recover_saga(TourSaga, "t", storage=storage)).state is SagaState.COMPENSATED
    assert done[-1] == "undo hotel"


@pytest.mark.parametrize("fault", ["error", "cancellation"])
async def test_an_operation_that_fails_can_be_repeated(
    storage: Storage, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    """It keeps no claim: else nobody could say anything about the saga for as long as this process lives."""
    await parked_pivot(storage)

    async def fails(_: Write) -> int:
        if fault == "cancellation":
            scope.cancel()
            await anyio.sleep_forever()
        raise StorageUnavailable("orders.db", "the disk is full")

    with monkeypatch.context() as patched:
        patched.setattr(storage, "record", fails)
        with anyio.CancelScope() as scope, suppress(StorageUnavailable):
            await retry("t", storage=storage)
    assert (await storage.load("t")).summary.owner is None
    assert await retry("t", storage=storage) is SagaState.RUNNING


async def suspended(storage: Storage, saga: type[Saga[Tour]], saga_id: str) -> None:
    async with saga(storage=storage).transaction(Tour(), saga_id=saga_id) as transaction:
        await anext(transaction)
        await transaction.suspend()


async def test_recover_finishes_what_was_interrupted(storage: Storage) -> None:
    for number in range(5):
        await suspended(storage, TourSaga, f"t{number}")
    results = await recover([TourSaga], storage=storage, concurrency=2)
    assert sorted(result.saga_id for result in results) == [f"t{number}" for number in range(5)]
    assert {result.state for result in results} == {SagaState.COMPLETED}


async def test_a_changed_definition_parks_with_the_difference(storage: Storage) -> None:
    await suspended(storage, TourSaga, "t")
    (result,) = await recover([_shorter()], storage=storage)
    assert result.state is SagaState.PARKED
    assert "museum" in (result.reason or "")


def _shorter() -> type[Saga[Tour]]:
    class Shorter(Saga[Tour]):
        name = "TourSaga"
        steps = [Hotel, Train]

    return Shorter


@define
class Guest:
    name: str = "Ann"


@define
class GuestNow:
    room: int
    name: str = "Ann"


@define
class GuestLater(Guest):
    breakfast: bool = True


class Greet(Step[Guest]):
    read_only = True

    async def act(self, guest: Guest) -> None: ...


class GreetNow(Step[GuestNow]):
    name = "Greet"
    read_only = True

    async def act(self, guest: GuestNow) -> None: ...


async def test_a_context_that_cannot_be_read_parks_however_often_it_is_recovered(storage: Storage) -> None:
    """A saga that is parked is a result, and no error, also where the code cannot read it."""
    await Saga[Guest](name="greeting", steps=[Greet], storage=storage).submit(Guest(), saga_id="g")
    now = Saga[GuestNow](name="greeting", steps=[GreetNow], storage=storage)
    results = [await recover_saga(now, "g") for _ in range(2)]
    assert [result.state for result in results] == [SagaState.PARKED] * 2
    assert all("room" in (result.reason or "") for result in results)


class GreetLater(Step[GuestLater]):
    name = "Greet"
    read_only = True

    async def act(self, guest: GuestLater) -> None: ...


async def test_the_same_context_with_a_new_field_is_the_same_work(storage: Storage) -> None:
    """A request that is repeated after a deployment finds its saga, if what was added has its default."""
    await Saga[Guest](name="greeting", steps=[Greet], storage=storage).submit(Guest(), saga_id="g")
    later = Saga[GuestLater](name="greeting", steps=[GreetLater], storage=storage)
    with pytest.raises(SagaMismatch, match="another context"):
        await later.submit(GuestLater(breakfast=False), saga_id="g")
    assert await later.submit(GuestLater(), saga_id="g") == "g"
    assert (await later.run(GuestLater(), saga_id="g")).context == GuestLater()


async def with_dead_claims(number: int) -> MemoryStorage:
    """A store with the saga "t", whose owners died so many times without any outcome."""
    storage = MemoryStorage()
    await suspended(storage, TourSaga, "t")
    for _ in range(number):
        twin = storage.twin()
        await twin.claim("t")
        twin.kill()
    return storage


async def test_a_saga_that_kills_its_workers_is_parked_and_a_person_can_have_it_undone() -> None:
    """Its claims are counted anew: else it would be parked again before anything is undone."""
    storage = await with_dead_claims(10)
    result = await recover_saga(TourSaga, "t", storage=storage)
    assert result.state is SagaState.PARKED
    assert "killing its workers" in (result.reason or "")
    await compensate("t", storage=storage)
    assert (await recover_saga(TourSaga, "t", storage=storage)).state is SagaState.COMPENSATED


async def test_the_tenth_claim_without_an_outcome_still_drives_it() -> None:
    storage = await with_dead_claims(9)
    assert (await recover_saga(TourSaga, "t", storage=storage)).state is SagaState.COMPLETED
