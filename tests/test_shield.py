"""What is shielded goes on when it is cancelled, for its grace."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import anyio
import pytest
from anyio import CancelScope, create_task_group, get_cancelled_exc_class
from attrs import define

from anysaga import (
    MemoryStorage,
    Middleware,
    NextSaga,
    Parallel,
    Saga,
    SagaCall,
    SagaResult,
    SagaState,
    Step,
    recover,
    recover_saga,
)
from anysaga._shield import run_shielded
from anysaga.abc import Claim

pytestmark = pytest.mark.anyio


async def test_work_goes_on_in_spite_of_a_cancellation() -> None:
    done = False

    async def work() -> None:
        nonlocal done
        scope.cancel()
        for _ in range(3):
            await anyio.lowlevel.checkpoint()
        done = True

    in_time = False
    with CancelScope() as scope:
        in_time = await run_shielded(work, 60)
    assert (done, in_time) == (True, True)  # who waits for it is told: what has ended is to be recorded


async def test_work_that_outlasts_its_grace_is_cancelled() -> None:
    cancelled = False

    async def work() -> None:
        nonlocal cancelled
        scope.cancel()
        try:
            await anyio.sleep_forever()
        except get_cancelled_exc_class():
            cancelled = True
            raise

    in_time = True
    with CancelScope() as scope:
        in_time = await run_shielded(work, 0)
    assert (in_time, cancelled) == (False, True)


async def test_a_cancellation_may_be_let_in_at_once() -> None:
    async def work() -> None:
        scope.cancel()
        await anyio.sleep_forever()

    with CancelScope() as scope:
        assert not await run_shielded(work, 3600, ask=lambda: True)


async def test_work_that_nobody_cancels_is_not_asked_about() -> None:
    def ask() -> bool:
        raise AssertionError

    assert await run_shielded(anyio.lowlevel.checkpoint, 3600, ask=ask)


async def test_the_grace_runs_from_a_cancellation_that_came_before() -> None:
    async def work() -> None:
        await anyio.sleep_forever()

    assert not await run_shielded(work, 0, cancelled=True)


@pytest.mark.parametrize("waits", [False, True])
async def test_errors_come_out_as_they_are(*, waits: bool) -> None:
    async def work() -> None:
        if waits:
            await anyio.lowlevel.checkpoint()
        raise LookupError("gone")

    with pytest.raises(LookupError, match="gone"):
        await run_shielded(work, 1)


async def test_work_that_never_waits_has_no_task_beside_it() -> None:
    """So that to shield it costs a fraction."""

    async def work() -> None:
        beside.append(len(anyio.get_running_tasks()))

    beside: list[int] = [len(anyio.get_running_tasks())]
    await run_shielded(work, 1)
    assert beside[0] == beside[1]


async def test_work_that_begins_after_the_cancellation_has_no_more_than_its_grace() -> None:
    """Also where the cancellation came while nothing could be reached: the task was in a shield."""
    began, let_go, ended = anyio.Event(), anyio.Event(), list[str]()

    async def first() -> None:
        began.set()
        await let_go.wait()
        ended.append("first")

    async def second() -> None:
        await anyio.sleep_forever()

    async def both() -> None:
        await run_shielded(first, 3600)
        await run_shielded(second, 0)

    async with create_task_group() as group:
        group.start_soon(both)
        await began.wait()
        group.cancel_scope.cancel()
        with CancelScope(shield=True):
            await anyio.wait_all_tasks_blocked()
        let_go.set()
    assert ended == ["first"]


@define
class Order:
    """A context."""


class Charge(Step[Order]):
    """A step that does as it is told."""

    def __init__(self, name: str, during: Callable[[], Awaitable[None]]) -> None:
        self.name, self.during = name, during

    async def act(self, order: Order) -> None:
        await self.during()

    async def compensate(self, order: Order) -> None:
        """Nothing to undo."""


async def test_a_branch_ends_when_another_one_fails() -> None:
    began = anyio.Event()

    async def fail() -> None:
        await began.wait()
        raise ValueError

    async def wait() -> None:
        began.set()
        await anyio.sleep_forever()

    storage = MemoryStorage()
    saga = Saga[Order](name="order", steps=[Parallel(Charge("a", fail), Charge("b", wait))], storage=storage)
    await saga.submit(Order())
    with anyio.fail_after(30):
        (result,) = await recover([saga], storage=storage)
    assert result.state is SagaState.COMPENSATED


async def test_a_middleware_that_gives_up_leaves_an_act_its_grace_and_no_more() -> None:
    scope = CancelScope()

    class Limit(Middleware):
        async def saga(self, call: SagaCall, call_next: NextSaga) -> SagaResult[object]:
            with scope:
                return await call_next()
            raise TimeoutError

    async def wait() -> None:
        scope.cancel()
        await anyio.sleep_forever()

    storage = MemoryStorage()
    saga = Saga[Order](name="order", steps=[Charge("a", wait)], storage=storage, grace=0.01, middlewares=[Limit()])
    await saga.submit(Order(), saga_id="o")
    with anyio.fail_after(30):
        assert await recover([saga], storage=storage) == []
    assert (await storage.load("o")).summary.state is SagaState.RUNNING


@pytest.mark.parametrize("anyio_backend", ["asyncio"], indirect=True)
@pytest.mark.parametrize("door", ["submit", "recover_saga"])
async def test_a_claim_is_given_back_though_its_owner_is_torn_out_meanwhile(door: str) -> None:
    """By asyncio itself, which no shield holds off. Nobody would take the saga up while this process lives."""

    class Slow(MemoryStorage):
        async def release(self, claim: Claim, *, wait: float = 0.0) -> None:
            releases.set()
            await goes_on.wait()
            await super().release(claim, wait=wait)

    async def nothing() -> None: ...

    releases, goes_on, storage = anyio.Event(), anyio.Event(), Slow()
    mine, other = (Saga[Order](name=name, steps=[Charge("a", nothing)], storage=storage) for name in ("mine", "other"))
    call = mine.submit(Order(), saga_id="o")
    if door == "recover_saga":
        goes_on.set()
        await call
        releases, goes_on = anyio.Event(), anyio.Event()
        call = recover_saga(other, "o")  # type: ignore[assignment]  # which is given back, since it is another saga
    task = asyncio.ensure_future(call)
    await releases.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (await storage.load("o")).summary.owner is None
