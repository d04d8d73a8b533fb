"""A cancellation that comes out of what a step awaits, though nobody cancelled the saga, is a failure as any other."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import anyio
import pytest
from bystanders import Bank, Other, OtherSaga, Told, recovered_beside, told_to_two
from journeys import AT_ONCE, Deed, Journey, Leg, kinds_of, raises, saga_of

from anysaga import (
    EventMap,
    Fallback,
    MemoryStorage,
    Middleware,
    NextStep,
    NotDone,
    Parallel,
    Saga,
    SagaMap,
    SagaMediator,
    SagaResult,
    SagaState,
    SagaWorker,
    StepCall,
    StrayCancellation,
    current_step,
)
from anysaga.abc import Message, Publisher
from anysaga.events import EventRelay, current_message

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.parametrize("anyio_backend", ["asyncio"]),  # on Trio nothing that was cancelled can be awaited
]


async def stray(journey: object) -> None:
    """Await something that somebody cancels."""
    task = asyncio.ensure_future(anyio.sleep_forever())
    asyncio.get_running_loop().call_soon(task.cancel)
    await task


async def stray_in_group(journey: object) -> None:
    """Raise together what went wrong in several tasks, one of which somebody cancelled."""
    gone_wrong = await asyncio.gather(stray(journey), raises(OSError())(Journey()), return_exceptions=True)
    raise BaseExceptionGroup("several failed", [each for each in gone_wrong if isinstance(each, BaseException)])


each_stray = pytest.mark.parametrize("stray", [stray, stray_in_group])


def cancel_this_task() -> None:
    """As somebody who sees the task would; it learns of that where it waits next."""
    task = asyncio.current_task()
    assert task is not None
    task.cancel()


def once(deed: Callable[[object], Awaitable[None]]) -> Callable[[object], Awaitable[None]]:
    left = [deed]

    async def act(journey: object) -> None:
        if left:
            await left.pop()(journey)

    return act


@pytest.fixture
def storage() -> MemoryStorage:
    return MemoryStorage()


@each_stray
async def test_it_is_unknown_and_the_saga_goes_back(storage: MemoryStorage, did: list[str], stray: Deed) -> None:
    saga = saga_of(storage, Leg("a", did), Leg("b", did, act=stray))

    with pytest.raises(StrayCancellation, match="step 'b' of saga") as raised:
        await saga.run(Journey(), saga_id="j")

    cause = raised.value.__cause__
    assert isinstance(cause.exceptions[0] if isinstance(cause, BaseExceptionGroup) else cause, asyncio.CancelledError)
    assert did == ["act a", "act b", "undo b", "undo a"]
    assert "UNKNOWN 2" in await kinds_of(storage, "j")


async def test_it_is_retried(storage: MemoryStorage, did: list[str]) -> None:
    await saga_of(storage, Leg("a", did, act=once(stray), retry=AT_ONCE)).run(Journey())

    assert did == ["act a", "act a"]


async def test_it_falls_back(storage: MemoryStorage, did: list[str]) -> None:
    await saga_of(storage, Fallback(Leg("a", did, act=stray), Leg("b", did))).run(Journey())

    assert did == ["act a", "undo a", "act b"]


async def test_its_siblings_are_cancelled_and_it_is_what_the_caller_sees(
    storage: MemoryStorage, did: list[str]
) -> None:
    async def wait(journey: object) -> None:
        await anyio.sleep_forever()

    with pytest.raises(StrayCancellation, match="step 'b'"):
        await saga_of(storage, Parallel(Leg("a", did, act=wait), Leg("b", did, act=stray))).run(Journey())


async def test_an_undo_is_tried_again(storage: MemoryStorage, did: list[str]) -> None:
    async def fail(journey: object) -> None:
        raise OSError

    with pytest.raises(OSError):  # noqa: PT011 - it has no text
        await saga_of(storage, Leg("a", did, undo=once(stray)), Leg("b", did, act=fail)).run(Journey())

    assert did == ["act a", "act b", "undo b", "undo a", "undo a"]


async def test_before_the_step_is_reached_it_is_not_done(storage: MemoryStorage, did: list[str]) -> None:
    class Waits(Middleware):
        async def step(self, call: StepCall, call_next: NextStep) -> Any:
            await stray(call)

    saga = Saga[Journey](name="s", steps=[Leg("a", did)], storage=storage, middlewares=[Waits()])
    with pytest.raises(StrayCancellation):
        await saga.run(Journey(), saga_id="j")

    assert did == []
    assert "NOT_DONE 1" in await kinds_of(storage, "j")


async def test_a_cancelled_caller_leaves_cancelled(storage: MemoryStorage, did: list[str]) -> None:
    async def stray_when_cancelled(journey: object) -> None:
        scope.cancel()
        try:
            await anyio.sleep_forever()
        finally:
            await stray(journey)

    with anyio.CancelScope() as scope:
        await saga_of(storage, Leg("a", did, act=stray_when_cancelled)).run(Journey())

    assert scope.cancelled_caught
    assert did == ["act a", "undo a"]


async def test_one_that_a_step_swallowed_is_not_meant_for_the_next_step(storage: MemoryStorage, did: list[str]) -> None:
    async def swallow(journey: object) -> None:
        cancel_this_task()
        with contextlib.suppress(asyncio.CancelledError):
            await anyio.sleep_forever()

    async def refuse(journey: object) -> None:
        raise NotDone

    saga = saga_of(storage, Leg("a", did, act=swallow), Leg("b", did, act=refuse, pivot=True))
    with pytest.raises(NotDone):
        await asyncio.ensure_future(saga.run(Journey(), saga_id="j"))

    assert "NOT_DONE 2" in await kinds_of(storage, "j")
    assert did == ["act a", "act b", "undo a"]


async def test_of_an_undo_it_is_tried_again_though_the_caller_was_cancelled(
    storage: MemoryStorage, did: list[str]
) -> None:
    async def wait(journey: object) -> None:
        cancel_this_task()
        await anyio.sleep_forever()

    saga = saga_of(storage, Leg("a", did, act=wait, undo=once(stray)))
    with pytest.raises(asyncio.CancelledError):
        await asyncio.ensure_future(saga.run(Journey()))

    assert did == ["act a", "undo a", "undo a"]


async def test_one_that_was_asked_for_before_the_saga_began_cancels_it(storage: MemoryStorage, did: list[str]) -> None:
    async def wait(journey: object) -> None:
        await anyio.sleep_forever()

    async def run() -> None:
        cancel_this_task()
        await saga_of(storage, Leg("a", did, act=wait)).run(Journey())

    with pytest.raises(asyncio.CancelledError):
        await asyncio.ensure_future(run())


@each_stray
async def test_other_sagas_of_a_mediator_go_on(storage: MemoryStorage, did: list[str], stray: Deed) -> None:
    sagas = SagaMap()
    sagas.bind(Journey, saga_of(storage, Leg("a", did, act=stray)))
    sagas.bind(Other, OtherSaga)
    async with SagaMediator(sagas, storage=storage) as mediator, anyio.create_task_group() as group:
        group.start_soon(mediator.run, Other())
        with pytest.raises(StrayCancellation):
            await mediator.run(Journey())
    assert [each.state for each in await storage.find()].count(SagaState.COMPLETED) == 1


@each_stray
async def test_a_worker_goes_on(storage: MemoryStorage, did: list[str], stray: Deed) -> None:
    saga = saga_of(storage, Leg("a", did, act=stray))
    await saga.submit(Journey(), saga_id="j")
    await OtherSaga(storage=storage).submit(Other(), saga_id="o")
    ended: dict[str, SagaState] = {}

    worker = SagaWorker([saga, OtherSaga], storage=storage, on_result=lambda result: tell(result.saga_id, result.state))

    def tell(saga_id: str, state: SagaState) -> None:
        ended[saga_id] = state
        if len(ended) == 2:
            worker.drain()

    with anyio.fail_after(10):
        await worker.run()
    assert ended == {"j": SagaState.COMPENSATED, "o": SagaState.COMPLETED}


async def test_of_a_container_it_is_logged_and_recovery_goes_on(
    storage: MemoryStorage, caplog: pytest.LogCaptureFixture
) -> None:
    async def bank() -> Bank:
        await stray(None)
        raise AssertionError

    (result,) = await recovered_beside(bank, storage)

    assert result.saga_id == "o"
    assert "saga n was not recovered" in caplog.text


@each_stray
async def test_of_a_handler_it_is_a_failure_of_that_handler(
    storage: MemoryStorage, did: list[str], stray: Callable[[object], Awaitable[None]]
) -> None:
    relay, heard = await told_to_two(stray, storage, did)

    assert await relay.deliver_due() == 2

    assert heard == [Told()]
    assert (await relay.lag()).waiting == 1


async def test_of_a_publisher_it_is_a_failure_of_that_publisher(storage: MemoryStorage, did: list[str]) -> None:
    class Careless(Publisher):
        async def publish(self, messages: Sequence[Message], /) -> list[Exception | None]:
            await stray(None)
            return []

    async def tell(_: Journey) -> None:
        current_step().record(Told())

    await saga_of(storage, Leg("a", did, act=tell)).run(Journey())
    relay = EventRelay(storage, publisher=Careless())

    assert await relay.deliver_due() == 0

    assert (await relay.lag()).waiting == 1


async def cancel_own_task(_: object) -> None:
    cancel_this_task()
    await anyio.lowlevel.checkpoint()


async def test_a_step_that_cancels_its_task_ends_no_mediator(storage: MemoryStorage, did: list[str]) -> None:
    """The saga is given back, its caller is told, and the next one runs; events are delivered as before."""
    told = anyio.Event()

    async def hear(event: Told) -> None:
        told.set()

    async def tell(journey: Journey) -> None:
        current_step().record(Told())

    sagas = SagaMap()
    sagas.bind(Journey, saga_of(None, Leg("a", did, act=once(cancel_own_task)), Leg("b", did, act=tell)))
    events = EventMap(publish=False).bind(Told, hear)
    async with SagaMediator(sagas, storage=storage, events=events) as mediator:
        with pytest.raises(StrayCancellation, match=r"saga 'journey' \(j\)"):
            await mediator.run(Journey(), saga_id="j")
        assert (await mediator.resume("j")).state is SagaState.COMPLETED
        await told.wait()


async def test_a_step_that_cancels_its_task_ends_no_worker(storage: MemoryStorage, did: list[str]) -> None:
    """The saga is given back, and taken up again as the others are."""
    saga = saga_of(storage, Leg("a", did, act=once(cancel_own_task)))
    await saga.submit(Journey(), saga_id="j")
    ended: list[str] = []

    def tell(result: SagaResult[Any]) -> None:
        ended.append(result.saga_id)
        worker.drain()

    worker = SagaWorker([saga], storage=storage, poll=0.01, on_result=tell)
    with anyio.fail_after(30):
        await worker.run()
    assert ended == ["j"]


async def test_a_handler_that_cancels_its_task_has_failed_alone(storage: MemoryStorage, did: list[str]) -> None:
    relay, heard = await told_to_two(cancel_own_task, storage, did)

    with anyio.fail_after(30):
        assert await relay.deliver_due() == 2

    assert heard == [Told()]
    assert (await relay.lag()).waiting == 1


async def test_a_handler_that_cancels_its_task_stops_none_that_runs_beside_it(
    storage: MemoryStorage, did: list[str]
) -> None:
    heard: list[str] = []
    begun, cancelled = anyio.Event(), anyio.Event()

    async def tell(_: Journey) -> None:
        current_step().record(Told())

    async def handle(event: Told) -> None:
        if begun.is_set():
            cancelled.set()
            await cancel_own_task(event)
        begun.set()
        await cancelled.wait()
        for _ in range(10):  # the other one's end is heard of meanwhile
            await anyio.lowlevel.checkpoint()
        heard.append(current_message().saga_id)

    events = EventMap(publish=False).bind(Told, handle)
    for saga_id in "ab":
        await saga_of(storage, Leg(saga_id, did, act=tell), events=events).run(Journey(), saga_id=saga_id)

    relay = EventRelay(storage, events=events, max_concurrent=2)
    assert await relay.deliver_due() == 2

    assert heard == ["a"]
