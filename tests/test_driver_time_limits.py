"""Time limits of steps, of undos and of whole sagas."""

from __future__ import annotations

import math
from typing import Any

import anyio
import pytest
from journeys import AT_ONCE, Journey, Leg, PlainLeg, fails, hangs, hangs_once, kinds_of, raises, saga_of
from virtual_time import in_jumping_time

from anysaga import (
    Fallback,
    MemoryStorage,
    SagaParked,
    SagaState,
    SagaTimeout,
    StepTimeout,
    _lane,
    _threads,
    recover_saga,
)
from anysaga._crossing_threads import LoopLimiter
from anysaga.abc import EntryKind, Storage
from anysaga.storages._clock import ManualClock

pytestmark = [pytest.mark.anyio, in_jumping_time]


@pytest.fixture
def storage() -> MemoryStorage:
    """No law here depends on how a store keeps its sagas."""
    return MemoryStorage()


async def test_a_step_over_its_limit_is_unknown_and_is_itself_undone_first(storage: Storage, did: list[str]) -> None:
    slow = Leg("b", did, act=hangs(anyio.Event()), timeout=1.0)
    with pytest.raises(StepTimeout) as caught:
        await saga_of(storage, Leg("a", did), slow).run(Journey(), saga_id="j")
    assert (caught.value.step, caught.value.seconds) == ("b", 1.0)
    assert did == ["act a", "act b", "undo b", "undo a"]
    assert "UNKNOWN 2" in await kinds_of(storage, "j")


async def test_a_step_over_its_limit_is_acted_again_if_its_retry_allows(storage: Storage, did: list[str]) -> None:
    leg = Leg("a", did, act=hangs_once(anyio.Event()), timeout=10.0, retry=AT_ONCE)
    result = await saga_of(storage, leg).run(Journey())
    assert result.steps[0].attempts == 2


async def test_the_limit_of_a_step_holds_for_each_attempt_anew(storage: Storage, did: list[str]) -> None:
    leg = Leg("a", did, act=hangs(anyio.Event()), timeout=1.0, retry=AT_ONCE)
    with pytest.raises(StepTimeout):
        await saga_of(storage, leg).run(Journey())
    assert did == ["act a"] * 3 + ["undo a"]


async def test_an_undo_over_the_limit_of_its_step_has_failed(storage: Storage, did: list[str]) -> None:
    leg = Leg("a", did, undo=hangs(anyio.Event()), timeout=1.0)
    with pytest.raises(SagaParked, match="StepTimeout"):
        await saga_of(storage, leg, Leg("b", did, act=raises(OSError()))).run(Journey())
    assert did == ["act a", "act b", "undo b", *["undo a"] * 3]


async def test_a_pivot_over_its_limit_is_parked_and_never_undone(storage: Storage, did: list[str]) -> None:
    pivot = Leg("b", did, act=hangs(anyio.Event()), timeout=1.0, pivot=True)
    with pytest.raises(SagaParked, match="'b'") as caught:
        await saga_of(storage, Leg("a", did), pivot).run(Journey())
    assert isinstance(caught.value.__cause__, StepTimeout)
    assert did == ["act a", "act b"]


async def test_a_saga_over_its_limit_ends_the_act_and_is_undone(storage: Storage, did: list[str]) -> None:
    saga = saga_of(storage, Leg("a", did), Leg("b", did, act=hangs(anyio.Event())), timeout=10.0)
    with pytest.raises(SagaTimeout) as caught:
        await saga.run(Journey(), saga_id="j")
    assert (caught.value.saga_id, caught.value.seconds) == ("j", 10.0)
    assert did == ["act a", "act b", "undo b", "undo a"]
    assert (await storage.load("j")).summary.state is SagaState.COMPENSATED


async def test_the_limit_of_a_saga_is_not_stretched_by_the_retry_of_a_step(storage: Storage, did: list[str]) -> None:
    leg = Leg("a", did, act=hangs(anyio.Event()), retry=AT_ONCE)
    with pytest.raises(SagaTimeout):
        await saga_of(storage, leg, timeout=10.0).run(Journey())
    assert did == ["act a", "undo a"]


async def test_the_wait_before_a_retry_ends_with_the_limit_of_the_saga(storage: Storage, did: list[str]) -> None:
    leg = Leg("a", did, act=raises(OSError()), retry=type(AT_ONCE)(attempts=3, delay=60.0))
    with anyio.fail_after(30), pytest.raises(SagaTimeout):
        await saga_of(storage, leg, timeout=10.0).run(Journey())
    assert did == ["act a", "undo a"]


async def test_a_step_whose_saga_ran_out_of_its_time_between_two_steps_is_not_called(
    did: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Though its intent is durable since the step before."""
    saga = saga_of(MemoryStorage(), Leg("a", did), Leg("b", did), timeout=3600)
    async with saga.transaction(Journey()) as transaction:
        await anext(transaction)
        monkeypatch.setattr(_lane, "current_time", lambda: math.inf)
        with pytest.raises(SagaTimeout):
            await anext(transaction)
    assert did == ["act a", "undo a"]


async def test_the_limit_of_a_saga_never_ends_an_undo(did: list[str]) -> None:
    """B6."""
    clock = ManualClock()
    storage = MemoryStorage(clock=clock)

    async def undo(journey: Journey) -> None:
        clock.advance(3600)
        await anyio.lowlevel.checkpoint()
        did.append("undone")

    saga = saga_of(storage, Leg("a", did, undo=undo), Leg("b", did, act=hangs(anyio.Event())), timeout=10.0)
    with pytest.raises(SagaTimeout):
        await saga.run(Journey())
    assert did[2:] == ["undo b", "undo a", "undone"]


async def test_the_limit_of_a_saga_is_stored_and_holds_across_processes(did: list[str]) -> None:
    clock = ManualClock()
    storage = MemoryStorage(clock=clock)
    saga = saga_of(storage, Leg("a", did), Leg("b", did), timeout=60.0)
    async with saga.transaction(Journey(), saga_id="j") as transaction:
        await anext(transaction)
        await transaction.suspend()
    clock.advance(61)
    result = await recover_saga(saga_of(storage, Leg("a", did), Leg("b", did)), "j")
    assert result.state is SagaState.COMPENSATED
    assert did == ["act a", "undo a"]


async def test_a_resumed_saga_has_only_the_rest_of_its_time(did: list[str]) -> None:
    clock = ManualClock()
    storage = MemoryStorage(clock=clock)
    saga = saga_of(storage, Leg("a", did), Leg("b", did, act=hangs(anyio.Event())), timeout=60.0)
    async with saga.transaction(Journey(), saga_id="j") as transaction:
        await anext(transaction)
        await transaction.suspend()
    clock.advance(59.9)
    with anyio.fail_after(30), pytest.raises(SagaTimeout):
        await saga.run(saga_id="j")
    assert did == ["act a", "act b", "undo b", "undo a"]


@pytest.mark.parametrize("now", [None, 600.0], ids=["none", "longer"])
async def test_the_limit_that_a_saga_began_with_is_the_one_that_counts(did: list[str], now: float | None) -> None:
    """It is the limit of the saga that ran out, not of its step, whatever the code says by now: it never falls back."""
    clock = ManualClock()
    storage = MemoryStorage(clock=clock)
    steps = Leg("a", did), Fallback(Leg("b", did, act=hangs(anyio.Event())), Leg("c", did))
    async with saga_of(storage, *steps, timeout=60.0).transaction(Journey(), saga_id="j") as transaction:
        await anext(transaction)
        await transaction.suspend()
    clock.advance(59.9)
    with anyio.fail_after(30), pytest.raises(SagaTimeout, match="within its 60 seconds"):
        await saga_of(storage, *steps, timeout=now).run(saga_id="j")
    assert did == ["act a", "act b", "undo b", "undo a"]
    assert "BACK 2/primary" not in await kinds_of(storage, "j")


async def test_the_limit_of_a_saga_is_ignored_after_a_pivot(did: list[str]) -> None:
    """B6."""
    clock = ManualClock()
    storage = MemoryStorage(clock=clock)
    saga = saga_of(storage, Leg("a", did, pivot=True), Leg("b", did, retry=AT_ONCE), timeout=60.0)
    async with saga.transaction(Journey(), saga_id="j") as transaction:
        await anext(transaction)
        await transaction.suspend()
    clock.advance(3600)
    assert (await saga.run(saga_id="j")).state is SagaState.COMPLETED


async def test_the_limit_of_a_saga_ends_no_act_after_a_pivot(did: list[str]) -> None:
    """B6."""
    clock = ManualClock()

    async def act(journey: Journey) -> None:
        await anyio.lowlevel.checkpoint()
        did.append("not cut short")

    whole = Leg("b", did, act=act, retry=AT_ONCE)
    saga = saga_of(MemoryStorage(clock=clock), Leg("a", did, pivot=True), whole, timeout=60.0)
    async with saga.transaction(Journey(), saga_id="j") as transaction:
        await anext(transaction)
        await transaction.suspend()
    clock.advance(61)
    await saga.run(saga_id="j")
    assert did == ["act a", "act b", "not cut short"]


async def test_the_limit_of_a_saga_cuts_no_wait_short_after_a_pivot(did: list[str]) -> None:
    """B6: all attempts would be spent at once."""
    clock = ManualClock()
    saga = saga_of(
        MemoryStorage(clock=clock),
        Leg("a", did, pivot=True),
        Leg("b", did, act=raises(OSError()), retry=type(AT_ONCE)(attempts=3, delay=60.0)),
        timeout=60.0,
    )
    async with saga.transaction(Journey(), saga_id="j") as transaction:
        await anext(transaction)
        await transaction.suspend()
    clock.advance(61)
    with anyio.move_on_after(59) as scope:
        await recover_saga(saga, "j")
    assert scope.cancelled_caught
    assert did == ["act a", "act b"]


async def test_a_step_over_its_limit_after_a_pivot_is_no_saga_over_its_own(did: list[str]) -> None:
    """B6: it went back beyond the pivot."""
    clock = ManualClock()
    slow = Leg("c", did, act=hangs_once(anyio.Event()), timeout=1.0, retry=AT_ONCE)
    saga = saga_of(MemoryStorage(clock=clock), Leg("a", did), Leg("b", did, pivot=True), slow, timeout=60.0)
    async with saga.transaction(Journey(), saga_id="j") as transaction:
        await anext(transaction)
        await anext(transaction)
        await transaction.suspend()
    clock.advance(61)
    assert (await saga.run(saga_id="j")).state is SagaState.COMPLETED
    assert did == ["act a", "act b", "act c", "act c"]


@pytest.mark.parametrize("first", [{}, {"pivot": True}], ids=["step", "pivot"])
async def test_another_saga_over_its_limit_is_a_failure_of_the_step_that_ran_it(
    storage: Storage, did: list[str], first: dict[str, Any]
) -> None:
    """It went back at once, beyond a pivot too, without a retry and without its fallback."""
    act = fails(2, SagaTimeout("other", "o", 1.0))
    last = Leg("c", did, act=raises(SagaTimeout("other", "o", 1.0)), retry=AT_ONCE)
    legs = Leg("a", did, **first), Leg("b", did, act=act, retry=AT_ONCE), Fallback(last, Leg("d", did, retry=AT_ONCE))
    assert (await saga_of(storage, *legs).run(Journey())).state is SagaState.COMPLETED
    assert did == ["act a", *["act b"] * 3, *["act c"] * 3, "undo c", "act d"]


async def test_a_pivot_over_its_limit_is_no_saga_over_its_own(storage: Storage, did: list[str]) -> None:
    pivot = Leg("b", did, act=hangs_once(anyio.Event()), pivot=True, timeout=20.0, retry=AT_ONCE)
    result = await saga_of(storage, Leg("a", did), pivot, timeout=10.0).run(Journey())
    assert result.state is SagaState.COMPLETED
    assert did == ["act a", "act b", "act b"]


async def test_the_limit_of_a_saga_does_not_end_a_pivot_that_acts(storage: Storage, did: list[str]) -> None:
    """It would only leave it in doubt."""
    began = anyio.Event()

    async def act(journey: Journey) -> None:
        began.set()
        with anyio.CancelScope() as scope:
            with anyio.move_on_after(20.0):
                await anyio.sleep_forever()
        did.append(f"cancelled: {scope.cancel_called}")

    result = await saga_of(storage, Leg("a", did, act=act, pivot=True), timeout=10.0).run(Journey())
    assert result.state is SagaState.COMPLETED
    assert did == ["act a", "cancelled: False"]


async def test_a_saga_that_expired_while_pending_ends_compensated_with_nothing_undone(did: list[str]) -> None:
    """B6: a pivot at the start, of which not even the intent was written."""
    clock = ManualClock()
    storage = MemoryStorage(clock=clock)
    saga = saga_of(storage, Leg("a", did, pivot=True), timeout=60.0)
    async with saga.transaction(Journey(), saga_id="j") as transaction:
        assert (await storage.load("j")).summary.state is SagaState.PENDING
        await transaction.suspend()
    clock.advance(61)
    result = await recover_saga(saga, "j")
    assert (result.state, did) == (SagaState.COMPENSATED, [])
    assert "60 seconds" in (result.reason or "")


async def test_a_saga_that_expired_before_its_next_step_does_not_begin_it(did: list[str]) -> None:
    clock = ManualClock()
    storage = MemoryStorage(clock=clock)
    saga = saga_of(storage, Leg("a", did), Leg("b", did), timeout=60.0)
    async with saga.transaction(Journey(), saga_id="j") as transaction:
        await anext(transaction)
        await transaction.suspend()
    clock.advance(61)
    with pytest.raises(SagaTimeout) as caught:
        await saga.run(saga_id="j")
    assert caught.value.__notes__ == ["saga 'journey' (j) went back, undone: a"]
    assert did == ["act a", "undo a"]
    backs = [entry.error for entry in (await storage.load("j")).entries if entry.kind is EntryKind.BACK]
    assert len(backs) == 1


async def test_an_act_that_got_no_thread_within_its_limit_had_no_effect(
    storage: Storage, did: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It counts as an attempt all the same, or it would wait for a thread for ever."""
    monkeypatch.setattr(_threads, "_LIMITER", LoopLimiter(1))
    _threads._LIMITER.get().acquire_on_behalf_of_nowait("somebody else")
    with anyio.fail_after(5), pytest.raises(StepTimeout):
        await saga_of(storage, PlainLeg("a", did, timeout=1.0)).run(Journey(), saga_id="j")
    assert did == []
    assert "NOT_DONE 1" in await kinds_of(storage, "j")
