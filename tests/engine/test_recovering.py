"""What recovery says of the sagas that it finishes."""

from __future__ import annotations

from functools import partial

import anyio
import pytest
from tours import Hotel, Tour, TourSaga, Train

from anysaga import (
    MemoryStorage,
    Saga,
    SagaMismatch,
    SagaState,
    StaleFence,
    Step,
    StorageUnavailable,
    recover,
    recover_saga,
    retry,
)
from anysaga.abc import Claim, SagaRecord, Storage, Write

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize(("fail", "end"), [("", SagaState.COMPLETED), ("museum clean", SagaState.COMPENSATED)])
@pytest.mark.parametrize("fault", [StorageUnavailable("orders.db", "it is away"), StaleFence("t", 2)], ids=type)
async def test_an_end_that_was_not_stored_is_no_result(
    storage: Storage, monkeypatch: pytest.MonkeyPatch, fail: str, end: SagaState, fault: Exception
) -> None:
    """What recovery returns is durable: a saga whose last write failed goes on later, perhaps to another end."""
    await TourSaga(storage=storage).submit(Tour(fail), saga_id="t")
    record = storage.record

    async def fails_at_the_end(write: Write) -> int:
        if write.state is end:
            raise fault
        return await record(write)

    with monkeypatch.context() as patched:
        patched.setattr(storage, "record", fails_at_the_end)
        patched.setattr("anysaga._journal.RESEND_PAUSES", ())
        assert await recover([TourSaga], storage=storage, limit=1) == []
    assert not (await storage.load("t")).summary.state.is_end
    if isinstance(fault, StorageUnavailable):
        with anyio.fail_after(60):
            while (await storage.load("t")).summary.owner is not None:  # noqa: ASYNC110 - the store's thread gives it back
                await anyio.sleep(0.01)
        assert (await recover_saga(TourSaga, "t", storage=storage)).state is end


class Bank:
    """What a step needs; there is one for each country."""

    def __init__(self, country: str) -> None:
        self.country = country


class Pay(Step[Tour, str]):
    read_only = True

    def __init__(self, bank: Bank) -> None:
        self.bank = bank

    async def act(self, tour: Tour) -> str:
        return self.bank.country


async def test_each_saga_has_its_own_container_unless_one_is_given_for_all(storage: Storage) -> None:
    """Sagas that were made with containers of their own are recovered with these."""
    for given, expected in ((None, ["at", "de"]), ({Bank: lambda: Bank("ch")}, ["ch", "ch"])):
        sagas = [
            Saga[Tour](name=country, steps=[Pay], storage=storage, container={Bank: partial(Bank, country)})
            for country in ("at", "de")
        ]
        for saga in sagas:
            await saga.submit(Tour())
        results = await recover(sagas, storage=storage, container=given)
        assert sorted(result[Pay].response for result in results) == expected


async def test_a_saga_that_ends_while_it_is_looked_at_is_a_result(
    storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another worker may finish it between two looks; that is no error of who asked for its end."""
    saga = TourSaga(storage=storage)
    await saga.submit(Tour(), saga_id="t")
    load = storage.load

    async def loads_what_ends_just_then(saga_id: str) -> SagaRecord:
        record = await load(saga_id)
        monkeypatch.undo()
        await saga.run(saga_id=saga_id)
        return record

    monkeypatch.setattr(storage, "load", loads_what_ends_just_then)
    assert (await recover_saga(saga, "t")).state is SagaState.COMPLETED


class Unreleasing(MemoryStorage):
    """Gives a saga back later than it was asked to."""

    async def release(self, claim: Claim, *, wait: float = 0.0) -> None:
        self.defer(claim)
        raise StorageUnavailable("orders.db", "it is away")


class Hangs(Hotel):
    def __init__(self, bank: Bank) -> None: ...


async def test_who_is_cancelled_hears_of_that_and_not_of_a_store_that_takes_nothing_back() -> None:
    storage, begun = Unreleasing(), anyio.Event()

    async def hangs() -> Bank:
        begun.set()
        await anyio.sleep_forever()
        raise AssertionError

    saga = Saga[Tour](name="tour", steps=[Hangs], storage=storage, container={Bank: hangs})
    with pytest.raises(StorageUnavailable):
        await saga.submit(Tour(), saga_id="t")
    async with anyio.create_task_group() as group:
        group.start_soon(partial(recover_saga, saga, "t"))
        await begun.wait()
        group.cancel_scope.cancel()
    assert (await storage.load("t")).summary.owner is None


class Broken(Step[Tour]):
    read_only = True

    def __init__(self) -> None:
        raise OSError("what it needs is not there")

    async def act(self, tour: Tour) -> None: ...


@pytest.mark.parametrize(("begun_with", "claims"), [(Hotel, 0), (Broken, 10)], ids=["changed", "poison"])
async def test_what_nobody_can_drive_is_parked_though_its_steps_cannot_be_made(
    begun_with: type[Step[Tour]], claims: int
) -> None:
    """To make the steps may be what kills a process; and a saga that is parked needs none of them."""
    storage = MemoryStorage()
    await Saga[Tour](name="tour", steps=[begun_with], storage=storage).submit(Tour(), saga_id="t")
    for _ in range(claims):
        twin = storage.twin()
        await twin.claim("t")
        twin.kill()
    result = await recover_saga(Saga[Tour](name="tour", steps=[Broken], storage=storage), "t")
    assert result.state is SagaState.PARKED
    assert (await storage.load("t")).summary.state is SagaState.PARKED


class LaterTourSaga(TourSaga):
    name = "TourSaga"
    version = 2


async def test_what_a_later_version_of_the_code_began_is_left_to_whoever_has_it(storage: Storage) -> None:
    """While a fleet is brought forward, its old workers meet such sagas: parked, each would need a person."""
    await LaterTourSaga(storage=storage).submit(Tour(), saga_id="t")
    assert await recover([TourSaga], storage=storage) == []
    with pytest.raises(SagaMismatch, match="begun by version 2, and this code has version 1"):
        await recover_saga(TourSaga, "t", storage=storage)
    record = await storage.load("t")
    assert (record.summary.state, record.summary.owner, record.summary.claims) == (SagaState.PENDING, None, 0)
    assert (await recover_saga(LaterTourSaga, "t", storage=storage)).state is SagaState.COMPLETED


async def test_what_an_earlier_version_began_is_parked_by_the_latest_that_is_known(storage: Storage) -> None:
    await TourSaga(storage=storage).submit(Tour(), saga_id="t")

    class Latest(TourSaga):
        name = "TourSaga"
        version = 3

    (result,) = await recover([Latest, LaterTourSaga], storage=storage)
    assert result.state is SagaState.PARKED
    assert "version 1, and the code is version 3" in str((await storage.load("t")).summary.note)


class HotelNumber(Step[Tour, int]):
    """The step "hotel" as another version of the code has it."""

    name = "hotel"

    async def act(self, tour: Tour) -> int:
        return 1

    async def compensate(self, tour: Tour) -> None: ...


async def test_a_response_that_does_not_fit_its_step_any_more_parks_the_saga(storage: Storage) -> None:
    """Before anything more is done: the result of a saga has the responses of all its steps."""
    old = Saga[Tour](name="tour", steps=[Hotel, Train], storage=storage)
    async with old.transaction(Tour(), saga_id="t") as transaction:
        await anext(transaction)
        await transaction.suspend()
    (result,) = await recover([Saga[Tour](name="tour", steps=[HotelNumber, Train])], storage=storage)
    assert result.state is SagaState.PARKED
    assert "the response of step 'hotel'" in (result.reason or "")
    await retry("t", storage=storage)
    assert (await recover_saga(old, "t")).state is SagaState.COMPLETED
