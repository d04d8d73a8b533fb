"""Plain functions that hand over a coroutine: what they return is awaited, and until then nothing is done."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import anyio
import pytest
from attrs import define
from journeys import errors_of, kinds_of

from anysaga import MemoryStorage, Saga, SagaState, Step
from anysaga.abc import EntryKind

pytestmark = pytest.mark.anyio


@define
class Order:
    order_id: str = "1"


class HandsOver(Step[Order]):
    """Calls `cancel` in the loop, once, before its first act or its first undo hands over the work."""

    def __init__(self, did: list[str], cancel: Callable[[], object], *, while_undone: bool = False) -> None:
        self.did = did
        self.cancels = [cancel]
        self.while_undone = while_undone

    def act(self, order: Order) -> Awaitable[None]:
        return self._hand_over("act", cancels=not self.while_undone)

    def compensate(self, order: Order) -> Awaitable[None]:
        return self._hand_over("undo", cancels=self.while_undone)

    def _hand_over(self, what: str, *, cancels: bool) -> Awaitable[None]:
        async def work() -> None:
            self.did.append(what)

        if cancels and self.cancels:
            anyio.from_thread.run_sync(self.cancels.pop())
        return work()


class Fails(Step[Order]):
    read_only = True

    async def act(self, order: Order) -> None:
        raise OSError


async def test_an_act_that_is_cancelled_before_it_is_awaited_is_in_doubt(did: list[str]) -> None:
    storage = MemoryStorage()
    with anyio.CancelScope() as scope:
        steps = [HandsOver(did, scope.cancel)]
        await Saga[Order](name="order", steps=steps, storage=storage).run(Order(), saga_id="1")

    assert scope.cancelled_caught
    assert did == ["undo"]
    assert "UNKNOWN 1" in await kinds_of(storage, "1")
    assert "cannot be stored" not in str(await errors_of(storage, "1", EntryKind.UNKNOWN))


@pytest.mark.parametrize("anyio_backend", ["asyncio"])  # whose own cancellations pass the shield of an undo
async def test_an_undo_that_is_cancelled_before_it_is_awaited_is_not_undone(did: list[str]) -> None:
    def cancel() -> None:
        task.cancel()

    storage = MemoryStorage()
    steps = [HandsOver(did, cancel, while_undone=True), Fails()]
    run = Saga[Order](name="order", steps=steps, storage=storage).run(Order(), saga_id="1")
    task = asyncio.ensure_future(run)
    with pytest.raises(asyncio.CancelledError):
        await task

    assert (await storage.load("1")).summary.state is SagaState.COMPENSATED
    assert did == ["act", "undo"]
