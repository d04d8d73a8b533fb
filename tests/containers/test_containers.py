"""What holds for the containers of every package, on both loops."""

from __future__ import annotations

import logging
from typing import Any

import anyio
import pytest
from container_kits import KITS, Charge, Lost, Meet, Order, Ship, World

from anysaga import (
    ContainerFailed,
    MemoryStorage,
    NotDone,
    NotProvided,
    Saga,
    SagaState,
    Step,
    recover,
)

pytestmark = pytest.mark.anyio


class OrderSaga(Saga[Order]):
    steps = (Charge, Ship)


class MeetSaga(Saga[Order]):
    steps = (Charge, Meet)


class LostSaga(Saga[Order]):
    steps = (Charge, Lost)


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture(params=KITS)
def container(request: pytest.FixtureRequest, world: World, anyio_backend_name: str) -> Any:
    """A container as its package makes it."""
    return KITS[request.param](world, anyio_backend_name)


async def test_resources_close_after_the_last_step(world: World, container: Any) -> None:
    """One bank is opened for the whole saga, also for steps that the container does not know."""
    await OrderSaga(container=container).run(Order())
    assert world.did == ["open", "act Charge", "act Ship", "close"]


async def test_resources_close_after_the_last_undo(world: World, container: Any) -> None:
    """What goes back still has the bank, to the last undo."""
    with pytest.raises(NotDone):
        await OrderSaga(container=container).run(Order(declined=True))
    assert world.did == ["open", "act Charge", "act Ship", "undo Charge", "close"]


async def test_each_saga_has_its_own(world: World, container: Any) -> None:
    """Many sagas at once have as many banks, and all are closed."""
    world.together = 20
    saga = MeetSaga(container=container)
    async with anyio.create_task_group() as group:
        for _ in range(20):
            group.start_soon(saga.run, Order())
    assert len(set(world.met)) == 20
    assert world.opened == 0
    assert world.did.count("close") == 20


async def test_a_cancelled_saga_closes_too(world: World, container: Any) -> None:
    """A cancelled caller's saga is undone with the bank, and then the bank is closed, though closing it waits."""
    world.together = 2
    async with anyio.create_task_group() as group:
        group.start_soon(MeetSaga(container=container).run, Order())
        await world.anybody_came.wait()
        group.cancel_scope.cancel()
    assert world.did == ["open", "act Charge", "undo Meet", "undo Charge", "close"]


async def test_recovery_has_a_scope_for_each_saga(world: World, container: Any) -> None:
    """A saga that was left in the middle is finished with a bank of its own."""
    storage = MemoryStorage()
    saga = OrderSaga(storage=storage, container=container)
    async with saga.transaction(Order()) as transaction:
        await anext(transaction)
        await transaction.suspend()
    (result,) = await recover([OrderSaga], storage=storage, container=container)
    assert result.state is SagaState.COMPLETED
    assert world.did == ["open", "act Charge", "close", "open", "act Ship", "close"]


async def test_what_nobody_provides_is_named(world: World, container: Any) -> None:
    """The error says type, step and saga; what was opened is closed, and no saga was begun."""
    storage = MemoryStorage()
    with pytest.raises(NotProvided, match=r"no Nothing.*Lost.*step 'Lost' of saga 'LostSaga' \(lost-1\)") as caught:
        await LostSaga(storage=storage, container=container).run(Order(), saga_id="lost-1")
    assert caught.value.wanted == "Nothing"
    assert world.did == ["open", "close"]
    assert await storage.find() == []


async def test_what_does_not_open_is_named(world: World, container: Any) -> None:
    """The error says saga and step, and has the package's own as its cause; no saga was begun."""
    world.open_fails = True
    storage = MemoryStorage()
    with pytest.raises(ContainerFailed, match="make the step 'Charge': ConnectionError: the bank") as caught:
        await OrderSaga(storage=storage, container=container).run(Order(), saga_id="order-1")
    assert (caught.value.saga, caught.value.saga_id, caught.value.step) == ("OrderSaga", "order-1", "Charge")
    assert isinstance(caught.value.__cause__, ConnectionError)
    assert await storage.find() == []


async def test_what_does_not_close_hides_no_result(
    world: World, container: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """The saga is completed, and the log tells of the close."""
    world.close_fails = True
    result = await OrderSaga(container=container).run(Order())
    assert result.state is SagaState.COMPLETED
    assert [record.levelno >= logging.WARNING for record in caplog.records] == [True]


async def test_what_does_not_close_hides_no_error(
    world: World, container: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """The step's own error leaves, and the log tells of the close."""
    world.close_fails = True
    with pytest.raises(NotDone, match="declined"):
        await OrderSaga(container=container).run(Order(declined=True))
    assert [record.levelno >= logging.WARNING for record in caplog.records] == [True]


class Plain(Step[Order]):
    """Needs nothing of a container."""

    read_only = True

    async def act(self, order: Order) -> None: ...


class Patient(Plain):
    def __init__(self, tries: int = 3) -> None:
        self.tries = tries

    async def act(self, order: Order) -> None:
        assert self.tries == 3


class PlainSaga(Saga[Order]):
    steps = (Plain, Patient)


async def test_steps_that_need_nothing(world: World, container: Any) -> None:
    """A step without a constructor, or with defaults in it, is made as it is."""
    result = await PlainSaga(container=container).run(Order())
    assert result.state is SagaState.COMPLETED
    assert world.did == []
