"""What is done once before the first saga."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import anyio
import pytest
from drives import eventually_ended
from journeys import Journey, Leg, saga_of

from anysaga import InvalidArgument, MemoryStorage, SagaMediator, SagaState, StrayCancellation
from anysaga.abc import Storage

pytestmark = pytest.mark.anyio


@pytest.fixture
def storage() -> MemoryStorage:
    """No law here depends on how a store keeps its sagas."""
    return MemoryStorage()


Mediators = Callable[..., SagaMediator]


async def test_plain_and_async_functions_are_called_in_order_before_the_block(
    mediator_of: Mediators, did: list[str]
) -> None:
    async def second() -> None:
        await anyio.lowlevel.checkpoint()
        did.append("second")

    async with mediator_of(Leg("a", did), on_startup=[lambda: did.append("first"), second]) as mediator:
        assert did == ["first", "second"]
        await mediator.run(Journey())
    assert did == ["first", "second", "act a"]


async def test_making_a_mediator_calls_nothing(mediator_of: Mediators, did: list[str]) -> None:
    mediator_of(Leg("a", did), on_startup=[lambda: did.append("started")])
    assert did == []


@pytest.mark.parametrize("first", ["run", "stream", "submit"])
async def test_without_a_block_they_are_called_before_the_first_saga_and_only_once(
    mediator_of: Mediators, did: list[str], first: str
) -> None:
    mediator = mediator_of(Leg("a", did), on_startup=[lambda: did.append("started")])
    if first == "run":
        await mediator.run(Journey())
    elif first == "stream":
        assert [step.step_name async for step in mediator.stream(Journey())] == ["a"]
    else:
        await mediator.submit(Journey())
    await mediator.run(Journey())
    assert did[0] == "started"
    assert did.count("started") == 1


async def test_who_comes_second_waits_for_the_first_start(mediator_of: Mediators, did: list[str]) -> None:
    goes_on = anyio.Event()

    async def start() -> None:
        did.append("starting")
        await goes_on.wait()
        did.append("started")

    mediator = mediator_of(Leg("a", did), on_startup=[start])
    async with anyio.create_task_group() as group:
        group.start_soon(mediator.run, Journey())
        group.start_soon(mediator.run, Journey())
        await anyio.wait_all_tasks_blocked()
        assert did == ["starting"]
        goes_on.set()
    assert did == ["starting", "started", "act a", "act a"]


async def test_a_run_that_waits_for_the_block_to_open_is_driven_by_the_mediator(
    mediator_of: Mediators, did: list[str]
) -> None:
    """So its caller may go away as any other."""
    goes_on, ends = anyio.Event(), anyio.Event()

    async def act(journey: Journey) -> None:
        scope.cancel()
        await ends.wait()

    mediator = mediator_of(Leg("a", did, act=act), Leg("b", did), on_startup=[goes_on.wait])
    scope = anyio.CancelScope()

    async def early() -> None:
        with scope:
            await mediator.run(Journey(), saga_id="j")
        ends.set()

    async def own() -> None:
        async with mediator:
            await ends.wait()
            await eventually_ended(mediator)
            assert (await mediator.resume("j")).state is SagaState.COMPLETED

    async with anyio.create_task_group() as group:
        group.start_soon(own)
        await anyio.wait_all_tasks_blocked()
        group.start_soon(early)
        await anyio.wait_all_tasks_blocked()
        goes_on.set()
    assert did == ["act a", "act b"]


async def test_one_that_fails_raises_and_is_tried_again_by_the_next(mediator_of: Mediators, did: list[str]) -> None:
    errors = [OSError("no broker yet")]

    def connect() -> None:
        did.append("connect")
        if errors:
            raise errors.pop()

    mediator = mediator_of(Leg("a", did), on_startup=[lambda: did.append("before"), connect])
    with pytest.raises(OSError, match="no broker yet"):
        async with mediator:
            raise AssertionError
    async with mediator:
        await mediator.run(Journey())
    assert did == ["before", "connect", "connect", "act a"]


async def test_a_start_that_is_cancelled_is_begun_again_by_who_waits(mediator_of: Mediators, did: list[str]) -> None:
    scope = anyio.CancelScope()

    async def start() -> None:
        did.append("starting")
        if len(did) == 1:
            await anyio.sleep_forever()

    async def first() -> None:
        with scope:
            await mediator.run(Journey())

    mediator = mediator_of(Leg("a", did), on_startup=[start])
    async with anyio.create_task_group() as group:
        group.start_soon(first)
        await anyio.wait_all_tasks_blocked()
        group.start_soon(mediator.run, Journey())
        await anyio.wait_all_tasks_blocked()
        scope.cancel()
    assert did == ["starting", "starting", "act a"]


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_a_cancelled_task_that_one_awaits_cancels_nobody(mediator_of: Mediators, did: list[str]) -> None:
    async def connect() -> None:
        connecting = asyncio.ensure_future(anyio.sleep_forever())
        connecting.cancel()
        await connecting

    mediator = mediator_of(Leg("a", did), on_startup=[connect])
    with pytest.raises(StrayCancellation, match="on_startup"):
        await mediator.run(Journey())
    assert did == []


async def test_a_function_that_uses_the_mediator_is_refused_and_does_not_wait_for_itself(
    mediator_of: Mediators, did: list[str]
) -> None:
    async def start() -> None:
        await mediator.run(Journey())

    mediator = mediator_of(Leg("a", did), on_startup=[start])
    with pytest.raises(InvalidArgument, match=r"start.*use the mediator when it has returned"):
        await mediator.run(Journey())
    assert did == []


async def test_they_are_called_before_a_stored_saga_is_looked_for(
    mediator_of: Mediators, storage: Storage, did: list[str]
) -> None:
    """The store may need them: one that makes the tables, say."""
    saga = saga_of(storage, Leg("a", did))
    mediator = mediator_of(Leg("a", did), on_startup=[lambda: saga.submit(Journey(), saga_id="j")])
    assert (await mediator.resume("j")).state is SagaState.COMPLETED
