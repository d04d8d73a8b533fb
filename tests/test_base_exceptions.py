"""An exception that is no `Exception` and asks nobody to end is a failure as any other; one that does so is not."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import anyio
import pytest
from bystanders import Bank, Other, OtherSaga, Told, recovered_beside, told_to_two
from journeys import AT_ONCE, Journey, Leg, fails, kinds_of, raises, saga_of

from anysaga import (
    MemoryStorage,
    Middleware,
    NextStep,
    Retry,
    SagaMap,
    SagaMediator,
    SagaState,
    StepCall,
    current_step,
    recover,
)
from anysaga.abc import Message, Outbox, Publisher, Storage

pytestmark = pytest.mark.anyio


@pytest.fixture
def storage() -> MemoryStorage:
    """No law here depends on how a store keeps its sagas."""
    return MemoryStorage()


class Panic(BaseException):
    """What extension modules raise, and test runners, too."""


async def test_it_is_unknown_and_the_saga_goes_back(storage: Storage, did: list[str]) -> None:
    panic = Panic()

    with pytest.raises(Panic) as raised:
        await saga_of(storage, Leg("a", did), Leg("b", did, act=raises(panic))).run(Journey(), saga_id="j")

    assert raised.value is panic
    assert did == ["act a", "act b", "undo b", "undo a"]
    assert "UNKNOWN 2" in await kinds_of(storage, "j")


async def test_an_undo_is_tried_again_as_its_policy_says(storage: Storage, did: list[str]) -> None:
    anything = Retry(attempts=2, delay=0.0, on=BaseException)
    undone = Leg("a", did, undo=fails(1, Panic()), compensate_retry=anything)
    saga = saga_of(storage, undone, Leg("b", did, act=raises(OSError())))

    with pytest.raises(OSError):  # noqa: PT011 - it has no text
        await saga.run(Journey())

    assert did == ["act a", "act b", "undo b", "undo a", "undo a"]


async def test_it_is_retried_only_if_the_policy_names_it(storage: Storage, did: list[str]) -> None:
    with pytest.raises(Panic):
        await saga_of(storage, Leg("a", did, act=raises(Panic()), retry=AT_ONCE)).run(Journey())

    assert did == ["act a", "undo a"]


@pytest.mark.parametrize("stop", [KeyboardInterrupt, SystemExit])
async def test_a_group_with_one_that_asks_to_end_goes_back_and_comes_out(
    storage: Storage, did: list[str], stop: type[BaseException]
) -> None:
    group = BaseExceptionGroup("", [OSError(), stop()])

    with pytest.raises(BaseExceptionGroup) as raised:
        await saga_of(storage, Leg("a", did), Leg("b", did, act=raises(group), retry=AT_ONCE)).run(Journey())

    assert raised.value is group
    assert did == ["act a", "act b", "undo b", "undo a"]


@pytest.mark.parametrize("anyio_backend", ["trio"])
async def test_a_cancellation_that_a_nursery_wrapped_goes_back(storage: Storage, did: list[str]) -> None:
    trio = pytest.importorskip("trio")
    began = anyio.Event()

    async def act(journey: Journey) -> None:
        async with trio.open_nursery(strict_exception_groups=True) as nursery:
            nursery.start_soon(anyio.sleep_forever)
            nursery.start_soon(anyio.sleep_forever)
            began.set()

    async with anyio.create_task_group() as group:
        group.start_soon(saga_of(storage, Leg("a", did), Leg("b", did, act=act)).run, Journey())
        await began.wait()
        group.cancel_scope.cancel()

    assert did == ["act a", "act b", "undo b", "undo a"]


async def test_other_sagas_of_a_mediator_go_on(storage: Storage, did: list[str]) -> None:
    sagas = SagaMap()
    sagas.bind(Journey, saga_of(storage, Leg("a", did, act=raises(Panic()))))
    sagas.bind(Other, OtherSaga)
    async with SagaMediator(sagas, storage=storage) as mediator, anyio.create_task_group() as group:
        group.start_soon(mediator.run, Other())
        with pytest.raises(Panic):
            await mediator.run(Journey())

    assert {each.state for each in await storage.find()} == {SagaState.COMPENSATED, SagaState.COMPLETED}


async def test_recovery_goes_on_and_returns_it_as_a_result(storage: Storage, did: list[str]) -> None:
    saga = saga_of(storage, Leg("a", did, act=raises(Panic())))
    await saga.submit(Journey(), saga_id="j")
    await OtherSaga(storage=storage).submit(Other(), saga_id="o")

    results = await recover([saga, OtherSaga], storage=storage)

    assert {result.saga_id: result.state for result in results} == {
        "j": SagaState.COMPENSATED,
        "o": SagaState.COMPLETED,
    }


async def test_of_a_container_it_is_logged_and_recovery_goes_on(
    storage: Storage, caplog: pytest.LogCaptureFixture
) -> None:
    def bank() -> Bank:
        raise Panic

    (result,) = await recovered_beside(bank, storage)

    assert result.saga_id == "o"
    assert "saga n was not recovered" in caplog.text


async def test_of_a_handler_it_is_a_failure_of_that_handler(storage: Storage, did: list[str]) -> None:
    async def hear_badly(event: Told) -> None:
        raise Panic

    relay, heard = await told_to_two(hear_badly, storage, did)

    assert await relay.deliver_due() == 2

    assert heard == [Told()]
    assert [letter.error for letter in await relay.dead_letters()] == ["Panic"]


async def test_of_a_publisher_it_says_that_the_broker_is_away(storage: Storage, did: list[str]) -> None:
    """The event waits, and the mediator goes on, and is left without an error."""

    class Panics(Publisher):
        async def publish(self, messages: Sequence[Message], /) -> Sequence[Exception | None]:
            raise Panic

    async def tell(journey: Journey) -> None:
        current_step().record(Told())

    sagas = SagaMap()
    sagas.bind(Journey, saga_of(None, Leg("a", did, act=tell)))
    async with SagaMediator(sagas, storage=storage, publisher=Panics()) as mediator:
        await mediator.run(Journey())
    assert isinstance(storage, Outbox)
    assert [waiting.error for waiting in await storage.lease_events("broker", 1, 0)] == ["Panic"]


@pytest.mark.parametrize(("after", "kind"), [(False, "NOT_DONE 1"), (True, "UNKNOWN 1")])
async def test_of_a_middleware_it_counts_by_whether_the_step_returned(
    storage: Storage,
    did: list[str],
    after: bool,
    kind: str,
) -> None:
    """Whatever the step says of its own errors."""

    class Panics(Middleware):
        async def step(self, call: StepCall, call_next: NextStep) -> Any:
            if call.verb == "undo":
                return await call_next()
            if after:
                await call_next()
            raise Panic

    saga = saga_of(storage, Leg("a", did, atomic=after), middlewares=[Panics()])
    with pytest.raises(Panic):
        await saga.run(Journey(), saga_id="j")

    assert kind in await kinds_of(storage, "j")
    assert did == (["act a", "undo a"] if after else [])


async def test_a_middleware_may_catch_that_of_a_step(storage: Storage, did: list[str]) -> None:
    class Catches(Middleware):
        async def step(self, call: StepCall, call_next: NextStep) -> Any:
            try:
                return await call_next()
            except Panic:
                return "caught"

    saga = saga_of(storage, Leg("a", did, act=raises(Panic())), middlewares=[Catches()])

    assert [step.response for step in await saga.run(Journey())] == ["caught"]
