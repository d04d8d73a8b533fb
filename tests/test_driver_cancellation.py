"""Cancelled sagas: what is durable, what is undone, and what is left to recovery."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Generator
from typing import Any

import anyio
import pytest
from journeys import (
    AT_ONCE,
    Journey,
    Leg,
    PlainLeg,
    WaitingStorage,
    WatchedStorage,
    fails,
    hangs,
    hangs_once,
    kinds_of,
    saga_of,
)
from virtual_time import in_jumping_time

from anysaga import MemoryStorage, Parallel, SagaState, _driver, _threads, current_step, recover_saga
from anysaga._crossing_threads import LoopLimiter
from anysaga.abc import Claim, Storage, Write

pytestmark = pytest.mark.anyio


class Suspended:
    """Waits for nothing, and for ever."""

    def __await__(self) -> Generator[None]:
        yield


Cancelled = Callable[[anyio.Event, Callable[[], Awaitable[Any]]], Awaitable[None]]


async def by_scope(began: anyio.Event, run: Callable[[], Awaitable[Any]]) -> None:
    """Cancel by a scope of AnyIO, which must catch its own cancellation again."""
    with anyio.CancelScope() as scope:
        async with anyio.create_task_group() as group:

            async def cancel() -> None:
                await began.wait()
                scope.cancel()

            group.start_soon(cancel)
            await run()
    assert scope.cancelled_caught


async def by_task(began: anyio.Event, run: Callable[[], Awaitable[Any]]) -> None:
    """Cancel as asyncio does it, once and past every scope; it must come out as CancelledError."""

    async def body() -> None:
        await run()

    task = asyncio.create_task(body())
    await began.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert task.cancelled()


@pytest.fixture(params=["scope", "native"])
def cancelled(request: pytest.FixtureRequest, anyio_backend_name: str) -> Cancelled:
    """How the caller is cancelled."""
    if request.param == "native":
        if anyio_backend_name != "asyncio":
            pytest.skip("only asyncio has native cancellations")
        return by_task
    return by_scope


async def test_a_cancelled_act_is_unknown_and_undone_first_and_the_cancellation_leaves_as_one(
    storage: Storage, did: list[str], cancelled: Cancelled
) -> None:
    began = anyio.Event()
    saga = saga_of(storage, Leg("a", did), Leg("b", did, act=hangs(began)))
    await cancelled(began, lambda: saga.run(Journey(), saga_id="j"))
    assert did == ["act a", "act b", "undo b", "undo a"]
    assert (await storage.load("j")).summary.state is SagaState.COMPENSATED
    assert "UNKNOWN 2" in await kinds_of(storage, "j")


async def test_a_cancelled_act_is_not_retried(storage: Storage, did: list[str], cancelled: Cancelled) -> None:
    began = anyio.Event()
    saga = saga_of(storage, Leg("a", did, act=hangs(began), retry=AT_ONCE))
    await cancelled(began, lambda: saga.run(Journey(), saga_id="j"))
    assert did == ["act a", "undo a"]


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_nothing_is_undone_while_a_thread_acts_however_often_its_task_is_cancelled(
    storage: Storage, did: list[str]
) -> None:
    """I6: a native cancellation passes every shield."""
    began, goes_on = anyio.Event(), threading.Event()

    def act(journey: Journey) -> None:
        anyio.from_thread.run_sync(began.set)
        assert goes_on.wait(20)
        did.append("acted a")

    task = asyncio.ensure_future(saga_of(storage, PlainLeg("a", did, act=act)).run(Journey(), saga_id="j"))
    await began.wait()
    for _ in range(3):
        task.cancel()
        await anyio.wait_all_tasks_blocked()
    goes_on.set()
    with pytest.raises(asyncio.CancelledError):
        await task

    assert did == ["act a", "acted a", "undo a"]
    assert "DONE 1" in await kinds_of(storage, "j")


async def test_an_undo_runs_to_its_end_though_its_caller_was_cancelled(
    storage: Storage, did: list[str], cancelled: Cancelled
) -> None:
    """It awaits, and no cancellation comes into it."""
    began = anyio.Event()

    async def undo(journey: Journey) -> None:
        for _ in range(3):
            await anyio.lowlevel.checkpoint()
        did.append("undone a")

    saga = saga_of(storage, Leg("a", did, undo=undo), Leg("b", did, act=hangs(began)))
    await cancelled(began, lambda: saga.run(Journey(), saga_id="j"))
    assert did == ["act a", "act b", "undo b", "undo a", "undone a"]


async def test_unknown_and_going_back_are_one_commit_before_the_first_undo(
    did: list[str], cancelled: Cancelled
) -> None:
    storage, began = WatchedStorage(), anyio.Event()
    saga = saga_of(storage, Leg("a", did, act=hangs(began)))
    await cancelled(began, lambda: saga.run(Journey()))
    assert storage.commits == [["STARTED"], ["UNKNOWN", "BACK", "UNDO_STARTED"], ["UNDONE", "COMPENSATED"]]


@in_jumping_time
async def test_what_does_not_fit_into_the_grace_is_given_to_recovery_at_once(
    did: list[str], cancelled: Cancelled
) -> None:
    storage, began = MemoryStorage(), anyio.Event()
    legs = [Leg("a", did), Leg("b", did, undo=hangs(anyio.Event())), Leg("c", did, act=hangs(began))]
    saga = saga_of(storage, *legs, grace=10.0)
    await cancelled(began, lambda: saga.run(Journey(), saga_id="j"))
    summary = (await storage.load("j")).summary
    assert (summary.state, summary.owner) == (SagaState.COMPENSATING, None)
    assert did == ["act a", "act b", "act c", "undo c", "undo b"]
    result = await recover_saga(saga_of(storage, *(Leg(name, did) for name in "abc")), "j")
    assert result.state is SagaState.COMPENSATED
    assert did[5:] == ["undo b", "undo a"]


async def test_an_undo_whose_thread_outlasts_the_grace_parks_the_saga(
    storage: Storage, did: list[str], cancelled: Cancelled
) -> None:
    """F, G3: given to recovery, it would be undone again beside the thread."""
    began, ends = anyio.Event(), threading.Event()
    saga = saga_of(
        storage,
        PlainLeg("a", did, undo=lambda _: ends.wait(20)),
        Leg("b", did, act=hangs(began)),
        grace=1.0,  # its thread must have begun by then, also on a busy machine
    )
    await cancelled(began, lambda: saga.run(Journey(), saga_id="j"))
    record = await storage.load("j")
    ends.set()
    assert (record.summary.state, record.summary.owner) == (SagaState.PARKED, None)
    assert "still running" in (record.summary.note or "")
    assert any("within its 1 seconds" in (entry.error or "") for entry in record.entries)


async def test_a_cancelled_pivot_is_never_undone_and_given_to_recovery_forward(
    storage: Storage, did: list[str], cancelled: Cancelled
) -> None:
    """B5."""
    began = anyio.Event()
    saga = saga_of(storage, Leg("a", did), Leg("p", did, act=hangs_once(began), pivot=True, retry=AT_ONCE))
    await cancelled(began, lambda: saga.run(Journey(), saga_id="j"))
    summary = (await storage.load("j")).summary
    assert (summary.state, summary.owner) == (SagaState.RUNNING, None)
    assert (await recover_saga(saga, "j")).state is SagaState.COMPLETED
    assert did == ["act a", "act p", "act p"]


async def test_a_cancelled_pivot_that_cannot_be_retried_waits_for_a_person(
    storage: Storage, did: list[str], cancelled: Cancelled
) -> None:
    began = anyio.Event()
    saga = saga_of(storage, Leg("a", did), Leg("p", did, act=hangs(began), pivot=True))
    await cancelled(began, lambda: saga.run(Journey(), saga_id="j"))
    assert (await recover_saga(saga, "j")).state is SagaState.PARKED
    assert did == ["act a", "act p"]


async def test_after_a_pivot_a_cancellation_only_gives_the_saga_back(
    storage: Storage, did: list[str], cancelled: Cancelled
) -> None:
    """B5."""
    began = anyio.Event()
    saga = saga_of(storage, Leg("p", did, pivot=True), Leg("b", did, act=hangs_once(began), retry=AT_ONCE))
    await cancelled(began, lambda: saga.run(Journey(), saga_id="j"))
    assert (await storage.load("j")).summary.owner is None
    assert (await recover_saga(saga, "j")).state is SagaState.COMPLETED
    assert did == ["act p", "act b", "act b"]


async def test_a_cancellation_in_the_body_between_two_steps_undoes(
    storage: Storage, did: list[str], cancelled: Cancelled
) -> None:
    began = anyio.Event()

    async def run() -> None:
        async with saga_of(storage, Leg("a", did), Leg("b", did)).transaction(Journey(), saga_id="j") as transaction:
            async for _ in transaction:
                began.set()
                await anyio.sleep_forever()

    await cancelled(began, run)
    assert did == ["act a", "undo a"]
    assert "WITHDRAWN 2" in await kinds_of(storage, "j")


async def test_a_cancellation_while_a_retry_waits_undoes(
    storage: Storage, did: list[str], cancelled: Cancelled
) -> None:
    began = anyio.Event()

    async def act(journey: Journey) -> None:
        began.set()
        raise OSError

    saga = saga_of(storage, Leg("a", did, act=act, retry=type(AT_ONCE)(attempts=2, delay=3600)))
    await cancelled(began, lambda: saga.run(Journey(), saga_id="j"))
    assert did == ["act a", "undo a"]


async def test_a_cancellation_while_the_saga_goes_back_already_does_not_stop_it(
    storage: Storage, did: list[str], cancelled: Cancelled
) -> None:
    began, goes_on = anyio.Event(), anyio.Event()
    mine = OSError("mine")

    async def undo(journey: Journey) -> None:
        began.set()
        with anyio.move_on_after(0.02):
            await goes_on.wait()

    saga = saga_of(storage, Leg("a", did), Leg("b", did, act=fails(1, mine), undo=undo))
    await cancelled(began, lambda: saga.run(Journey(), saga_id="j"))
    # A native cancellation tears the undo, which is undone once more; one of AnyIO does not reach it.
    assert list(dict.fromkeys(did)) == ["act a", "act b", "undo b", "undo a"]
    assert len(did) <= 5
    assert (await storage.load("j")).summary.state is SagaState.COMPENSATED
    assert (await kinds_of(storage, "j")).count("BACK") == 1  # why it goes back stays what it was


async def test_a_saga_cancelled_before_it_began_leaves_nothing_or_something_undone(
    storage: Storage, did: list[str]
) -> None:
    """I7 at the very first point."""
    with anyio.CancelScope() as scope:
        scope.cancel()
        await saga_of(storage, Leg("a", did)).run(Journey(), saga_id="j")
    assert scope.cancelled_caught
    states = [summary.state for summary in await storage.find()]
    assert states in ([], [SagaState.COMPENSATED])
    assert did == []


async def test_if_going_back_cannot_be_written_nothing_is_undone(did: list[str]) -> None:
    """B3: recovery decides."""
    storage, began = WatchedStorage(), anyio.Event()
    saga = saga_of(storage, Leg("a", did), Leg("b", did, act=hangs(began)))
    with anyio.CancelScope() as scope:
        async with anyio.create_task_group() as group:

            async def cancel() -> None:
                await began.wait()
                storage.fails = [RuntimeError("the disk is full")]
                scope.cancel()

            group.start_soon(cancel)
            with pytest.raises(RuntimeError, match="disk"):
                await saga.run(Journey(), saga_id="j")
    assert did == ["act a", "act b"]
    assert (await recover_saga(saga_of(storage, Leg("a", did), Leg("b", did)), "j")).state.is_end


async def test_a_saga_whose_coroutine_is_closed_undoes_nothing_and_is_given_back(
    did: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As that of a loop is which ended before it: nobody can wait any more."""
    monkeypatch.setattr(_driver, "TURNS", 10**9)
    storage = MemoryStorage()
    running: Any = saga_of(storage, Leg("a", did, act=lambda _: Suspended())).run(Journey(), saga_id="j")
    running.send(None)
    running.close()
    assert did == ["act a"]
    assert (await storage.load("j")).summary.owner is None


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_a_write_that_hangs_ends_with_the_second_native_cancellation(did: list[str]) -> None:
    writes: list[Write] = []

    class Hanging(MemoryStorage):
        async def record(self, write: Write) -> int:
            writes.append(write)
            await anyio.sleep_forever()
            return 0

    task = asyncio.ensure_future(saga_of(Hanging(), Leg("a", did)).run(Journey()))
    for _ in range(2):
        await anyio.wait_all_tasks_blocked()
        task.cancel()
    await anyio.wait_all_tasks_blocked()
    assert task.cancelled()
    assert (len(writes), did) == (2, ["act a"])


async def test_one_cancelled_saga_of_a_task_group_is_undone_for_its_siblings_failure(
    storage: Storage, did: list[str]
) -> None:
    began = anyio.Event()

    async def sibling() -> None:
        await began.wait()
        raise KeyError

    with pytest.RaisesGroup(KeyError):
        async with anyio.create_task_group() as group:
            group.start_soon(sibling)
            await saga_of(storage, Leg("a", did, act=hangs(began))).run(Journey(), saga_id="j")
    assert did == ["act a", "undo a"]


async def test_a_step_with_a_scope_of_its_own_is_not_taken_for_a_cancelled_saga(
    storage: Storage, did: list[str]
) -> None:
    async def act(journey: Journey) -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(anyio.sleep_forever)
            group.cancel_scope.cancel()

    assert (await saga_of(storage, Leg("a", did, act=act)).run(Journey())).state is SagaState.COMPLETED


async def test_an_owner_that_lost_its_saga_undoes_nothing(did: list[str]) -> None:
    """D1, I3: another one has it now."""
    storage, began = MemoryStorage(), anyio.Event()
    goes_on = anyio.Event()

    async def act(journey: Journey) -> None:
        began.set()
        await goes_on.wait()

    saga = saga_of(storage, Leg("a", did), Leg("b", did, act=act))
    ends: list[str] = []

    async def run() -> None:
        try:
            await saga.run(Journey(), saga_id="j")
        except Exception as error:  # noqa: BLE001 - its name is looked at
            ends.append(type(error).__name__)

    async with anyio.create_task_group() as group:
        group.start_soon(run)
        await began.wait()
        storage.kill()
        other = saga_of(storage.twin(), Leg("a", did), Leg("b", did))
        assert (await recover_saga(other, "j")).state is SagaState.COMPLETED
        goes_on.set()
    assert ends == ["StaleFence"]
    assert did == ["act a", "act b", "act b"]


async def test_a_saga_that_must_wait_for_a_person_does_so_though_its_caller_was_cancelled(
    storage: Storage, did: list[str], cancelled: Cancelled
) -> None:
    """Or it would be ours for as long as this process lives, and nobody could say anything about it."""
    began, goes_on = anyio.Event(), threading.Event()

    def act(journey: Journey) -> None:
        anyio.from_thread.run_sync(began.set)
        while not current_step().cancelled:
            goes_on.wait(0.01)
        journey.stops.append(object())  # type: ignore[arg-type]  # so that it cannot be stored

    saga = saga_of(storage, Leg("a", did, pivot=True), PlainLeg("b", did, act=act, retry=AT_ONCE))
    await cancelled(began, lambda: saga.run(Journey(), saga_id="j"))
    summary = (await storage.load("j")).summary
    assert (summary.state, summary.owner, did) == (SagaState.PARKED, None, ["act a", "act b"])


async def test_an_act_whose_claim_is_lost_is_cancelled_at_once(did: list[str]) -> None:
    """D1. The heartbeat's thread learns of it, while an act waits for something that may never come."""

    class Leased(MemoryStorage):
        waits = True

    storage, began = Leased(), anyio.Event()

    async def act(journey: Journey) -> None:
        began.set()
        await anyio.sleep_forever()

    ends: list[str] = []

    async def run() -> None:
        try:
            await saga_of(storage, Leg("a", did), Leg("b", did, act=act)).run(Journey(), saga_id="j")
        except Exception as error:  # noqa: BLE001 - its name is looked at
            ends.append(type(error).__name__)

    with anyio.fail_after(30):
        async with anyio.create_task_group() as group:
            group.start_soon(run)
            await began.wait()
            await anyio.to_thread.run_sync(storage.kill)
    assert (ends, did) == (["StaleFence"], ["act a", "act b"])


@in_jumping_time
async def out_of_reach(met: anyio.Event) -> None:
    """Tell that a cancellation may come, and let it come, but not in."""
    met.set()
    with anyio.CancelScope(shield=True):
        await anyio.wait_all_tasks_blocked()


@pytest.mark.parametrize("limit", [1, 2])
async def test_no_branch_begins_once_the_saga_was_cancelled(storage: Storage, did: list[str], limit: int) -> None:
    """As no step does: its act would have been in doubt."""
    began = anyio.Event()

    async def act(journey: Journey) -> None:
        await out_of_reach(began)

    saga = saga_of(storage, Leg("a", did, act=act), Parallel(Leg("b", did), Leg("c", did), limit=limit))
    await by_scope(began, lambda: saga.run(Journey(), saga_id="j"))
    assert did == ["act a", "undo a"]


async def test_no_step_begins_once_the_saga_was_cancelled_while_its_claim_was_confirmed(did: list[str]) -> None:
    """A pivot would have been in doubt, and waited for a person."""
    began = anyio.Event()

    class Confirming(WaitingStorage):
        async def confirm(self, claim: Claim) -> None:
            await out_of_reach(began)
            await super().confirm(claim)

    storage = Confirming()
    saga = saga_of(storage, Leg("a", did, pivot=True))
    await by_scope(began, lambda: saga.run(Journey(), saga_id="j"))
    assert (did, (await storage.load("j")).summary.state) == ([], SagaState.COMPENSATED)


async def test_an_act_that_waits_for_a_thread_when_its_caller_is_cancelled_never_was(
    did: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """B4."""
    monkeypatch.setattr(_threads, "_LIMITER", LoopLimiter(1))
    _threads._LIMITER.get().acquire_on_behalf_of_nowait("somebody else")
    storage = MemoryStorage()
    with anyio.move_on_after(10) as scope:
        await saga_of(storage, PlainLeg("a", did)).run(Journey(), saga_id="j")
    assert scope.cancelled_caught
    assert (did, await kinds_of(storage, "j")) == ([], ["STARTED 1", "WITHDRAWN 1", "BACK", "COMPENSATED"])
