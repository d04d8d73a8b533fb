"""Forgetting sagas that ended long ago, in bounded batches."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta

import anyio
import pytest
from attrs import define

from anysaga import InvalidArgument, MemoryStorage, Saga, SagaState, Step, purge
from anysaga.abc import Storage

pytestmark = pytest.mark.anyio


@define
class Order:
    fails: bool = False


class Pay(Step[Order]):
    async def act(self, order: Order) -> None:
        if order.fails:
            raise RuntimeError("no")

    async def compensate(self, order: Order) -> None:
        order.fails = True


class OrderSaga(Saga[Order]):
    steps = [Pay]


async def run(storage: Storage, saga_id: str, *, fails: bool = False) -> None:
    try:
        await OrderSaga(storage=storage).run(Order(fails), saga_id=saga_id)
    except RuntimeError:
        assert fails


async def left(storage: Storage) -> list[str]:
    return [summary.saga_id for summary in await storage.find()]


async def test_all_sagas_that_are_over_go_and_live_ones_stay(storage: Storage) -> None:
    await run(storage, "completed")
    await run(storage, "compensated", fails=True)
    await OrderSaga(storage=storage).submit(Order(), saga_id="pending")
    assert await purge(0, storage=storage) == 2
    assert await left(storage) == ["pending"]


async def test_only_chosen_states_go(storage: Storage) -> None:
    await run(storage, "completed")
    await run(storage, "compensated", fails=True)
    assert await purge(0, [SagaState.COMPENSATED], storage=storage) == 1
    assert await left(storage) == ["completed"]


@pytest.mark.parametrize("age", [3600, timedelta(hours=1), timedelta.max, float("inf")])
async def test_those_that_are_not_old_enough_stay(age: timedelta | float) -> None:
    storage = MemoryStorage()
    await run(storage, "completed")
    assert await purge(age, storage=storage) == 0
    assert await left(storage) == ["completed"]


async def test_they_go_in_batches_between_which_others_come_and_a_cancellation_stops() -> None:
    scope = anyio.CancelScope()

    class Noting(MemoryStorage):
        limits: list[int] = []

        async def purge(self, *, before: int, states: Iterable[SagaState], limit: int = 1000) -> int:
            self.limits.append(limit)
            forgotten = await super().purge(before=before, states=states, limit=limit)
            scope.cancel()
            return forgotten

    storage = Noting()
    for number in range(5):
        await run(storage, f"{number}")

    with scope:
        await purge(0, storage=storage, batch=2)
    assert len(await left(storage)) == 3
    assert await purge(0, storage=storage, batch=2) == 3
    assert storage.limits == [2, 2, 2]


@pytest.mark.parametrize("state", [SagaState.RUNNING, SagaState.PARKED])
async def test_a_state_that_still_needs_its_saga_is_refused(state: SagaState) -> None:
    with pytest.raises(InvalidArgument, match="states"):
        await purge(0, [state], storage=MemoryStorage())


@pytest.mark.parametrize(("age", "batch"), [(-1, 1), (float("nan"), 1), (0, 0), (timedelta(days=-1), 1), ("30", 1)])
async def test_numbers_that_make_no_sense_are_refused(age: timedelta | float | str, batch: int) -> None:
    with pytest.raises(InvalidArgument):
        await purge(age, storage=MemoryStorage(), batch=batch)  # type: ignore[arg-type]  # as a wrong caller does
