"""Leaving sagas to workers."""

from __future__ import annotations

import anyio
import pytest
from attrs import define

from anysaga import (
    BlockingRunner,
    InvalidArgument,
    MemoryStorage,
    NotStorable,
    Saga,
    SagaCompensated,
    SagaMismatch,
    SagaState,
    Step,
    recover,
)
from anysaga.abc import Storage
from anysaga.storages._clock import ManualClock

pytestmark = pytest.mark.anyio


@define
class Order:
    number: int = 1


class Reserve(Step[Order]):
    def __init__(self, did: list[str]) -> None:
        self.did = did

    async def act(self, order: Order) -> None:
        self.did.append(f"reserve {order.number}")

    async def compensate(self, order: Order) -> None:
        self.did.append(f"release {order.number}")


def saga_of(storage: Storage, did: list[str], **options: float) -> Saga[Order]:
    return Saga[Order](name="order", steps=[Reserve(did)], storage=storage, **options)  # type: ignore[arg-type]


async def test_a_submitted_saga_is_stored_and_nothing_of_it_runs(storage: Storage, did: list[str]) -> None:
    await saga_of(storage, did).submit(Order(7), saga_id="one")
    record = await storage.load("one")
    assert (record.summary.state, record.summary.owner, record.summary.claims) == (SagaState.PENDING, None, 0)
    assert record.entries == ()
    assert did == []


async def test_recovery_takes_it_up_at_once(storage: Storage, did: list[str]) -> None:
    saga = saga_of(storage, did)
    saga_id = await saga.submit(Order(7))
    (result,) = await recover([saga], storage=storage)
    assert (result.saga_id, result.state, did) == (saga_id, SagaState.COMPLETED, ["reserve 7"])


async def test_the_same_submission_again_changes_nothing(storage: Storage, did: list[str]) -> None:
    saga = saga_of(storage, did)
    for _ in range(2):
        assert await saga.submit(Order(7), saga_id="one") == "one"
    await recover([saga], storage=storage)
    assert await saga.submit(Order(7), saga_id="one") == "one"
    assert did == ["reserve 7"]
    assert (await storage.load("one")).summary.state is SagaState.COMPLETED


async def test_many_submissions_at_once_are_one_saga(storage: Storage, did: list[str]) -> None:
    saga = saga_of(storage, did)
    async with anyio.create_task_group() as group:
        for _ in range(5):
            group.start_soon(lambda: saga.submit(Order(7), saga_id="one"))
    assert len(await recover([saga], storage=storage)) == 1


async def test_another_context_under_the_same_id_is_refused(storage: Storage, did: list[str]) -> None:
    saga = saga_of(storage, did)
    await saga.submit(Order(7), saga_id="one")
    with pytest.raises(SagaMismatch, match="another context"):
        await saga.submit(Order(8), saga_id="one")


async def test_who_submitted_it_can_run_it_too(storage: Storage, did: list[str]) -> None:
    saga = saga_of(storage, did)
    await saga.submit(Order(7), saga_id="one")
    assert (await saga.run(Order(7), saga_id="one")).state is SagaState.COMPLETED


async def test_what_cannot_be_stored_is_refused_before_anything_is_written(storage: Storage, did: list[str]) -> None:
    saga = saga_of(storage, did)
    with pytest.raises(NotStorable):
        await saga.submit(Order("\ud800"), saga_id="one")  # type: ignore[arg-type]
    with pytest.raises(InvalidArgument):
        await saga.submit(Order(), saga_id="")
    assert await storage.find() == []


async def test_the_time_limit_runs_from_the_submission(did: list[str]) -> None:
    clock = ManualClock()
    storage = MemoryStorage(clock=clock)
    saga = saga_of(storage, did, timeout=60.0)
    await saga.submit(Order(7), saga_id="one")
    clock.advance(61)
    (result,) = await recover([saga], storage=storage)
    assert (result.state, did) == (SagaState.COMPENSATED, [])
    with pytest.raises(SagaCompensated):
        await saga.run(Order(7), saga_id="one")


def test_blocking_code_submits_too(did: list[str], anyio_backend_name: str) -> None:
    storage = MemoryStorage()
    with BlockingRunner(storage=storage, backend=anyio_backend_name) as runner:
        saga_id = runner.submit(saga_of(storage, did), Order(7))
        summaries = runner.call(storage.find)
    assert [(one.saga_id, one.state) for one in summaries] == [(saga_id, SagaState.PENDING)]
