"""B5: after a pivot a cancellation only releases the saga to recovery, forward."""

from __future__ import annotations

from functools import partial

import anyio
import pytest
from attrs import define

from anysaga import MemoryStorage, Retry, Saga, SagaState, Step, recover_saga

pytestmark = pytest.mark.anyio


@define
class Order:
    order_id: str = "1"


class Pay(Step[Order]):
    pivot = True

    async def act(self, order: Order) -> None:
        """Take the money."""


class Ship(Step[Order]):
    """Retried after lost connections only, and never done at the first attempt."""

    retry = Retry(attempts=3, delay=0.0, on=ConnectionError)

    def __init__(self) -> None:
        self.began: list[str] = []
        self.waits = anyio.Event()

    async def act(self, order: Order) -> None:
        self.began.append(order.order_id)
        if len(self.began) == 1:
            self.waits.set()
            await anyio.sleep_forever()

    async def compensate(self, order: Order) -> None:
        raise AssertionError


async def test_a_cancelled_attempt_is_acted_again_whatever_errors_the_policy_names() -> None:
    """A cancellation is no failure of the step, so `Retry.on` is not asked about it; the attempt counts."""
    ship, storage = Ship(), MemoryStorage()
    saga = Saga[Order](name="order", steps=[Pay, ship], storage=storage)
    async with anyio.create_task_group() as group:
        group.start_soon(partial(saga.run, Order(), saga_id="1"))
        await ship.waits.wait()
        group.cancel_scope.cancel()

    result = await recover_saga(saga, "1", storage=storage)

    assert result.state is SagaState.COMPLETED
    assert ship.began == ["1", "1"]
    assert result.steps[1].attempts == 2
