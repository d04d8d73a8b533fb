"""Retries of acts: how often, after which errors, and what is stored of the waits."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable
from contextlib import suppress

import anyio
import pytest
from journeys import (
    AT_ONCE,
    Journey,
    Leg,
    PlainLeg,
    WatchedStorage,
    fails,
    kinds_of,
    lost_in,
    raises,
    saga_of,
)
from virtual_time import in_jumping_time

from anysaga import (
    CircuitBreaker,
    Fallback,
    MemoryStorage,
    NotDone,
    Outcome,
    Retry,
    SagaParked,
    SagaState,
    current_step,
    recover,
    recover_saga,
)
from anysaga.abc import Storage
from anysaga.storages._clock import ManualClock

pytestmark = pytest.mark.anyio


@pytest.fixture
def storage() -> MemoryStorage:
    """No law here depends on how a store keeps its sagas."""
    return MemoryStorage()


Node = Leg | PlainLeg | Fallback


@pytest.mark.parametrize("attempts", [1, 5])
async def test_an_act_is_called_at_most_as_often_as_its_retry_says(
    storage: Storage, did: list[str], attempts: int
) -> None:
    leg = Leg("a", did, act=raises(OSError()), retry=Retry(attempts=attempts, delay=0))
    with pytest.raises(OSError):  # noqa: PT011 - it has no text
        await saga_of(storage, leg).run(Journey())
    assert did == ["act a"] * attempts + ["undo a"]


async def test_an_act_that_works_in_the_end_is_done_and_its_attempts_are_told(storage: Storage, did: list[str]) -> None:
    result = await saga_of(storage, Leg("a", did, act=fails(2, OSError()), retry=AT_ONCE)).run(Journey())
    assert (result.state, result.steps[0].attempts) == (SagaState.COMPLETED, 3)


async def test_an_act_can_see_that_an_earlier_attempt_is_in_doubt(storage: Storage, did: list[str]) -> None:
    outcomes: list[Outcome | None] = []
    errors = [NotDone(), OSError()]

    async def act(journey: Journey) -> None:
        outcomes.append(current_step().outcome)
        if errors:
            raise errors.pop(0)

    await saga_of(storage, Leg("a", did, act=act, retry=AT_ONCE)).run(Journey())
    assert outcomes == [None, None, Outcome.UNKNOWN]


class Watched(Exception):
    """An error that tells whether it is still there."""


class Trouble:
    """Two errors, one for each call, of which it keeps nothing; then none."""

    def __init__(self) -> None:
        self.raised: list[weakref.ref[Watched]] = []

    def plain(self, journey: Journey) -> None:
        if len(self.raised) < 2:
            error = Watched()
            self.raised.append(weakref.ref(error))
            try:
                raise error
            finally:
                del error

    async def __call__(self, journey: Journey) -> None:
        self.plain(journey)


def _act(did: list[str], trouble: Trouble) -> Node:
    return Leg("a", did, act=trouble, retry=AT_ONCE)


def _act_in_a_thread(did: list[str], trouble: Trouble) -> Node:
    return PlainLeg("a", did, act=trouble.plain, retry=AT_ONCE)


def _act_and_undo(did: list[str], trouble: Trouble) -> Node:
    return Fallback(Leg("a", did, act=trouble, undo=trouble), Leg("b", did))


def _act_and_undo_behind_a_breaker(did: list[str], trouble: Trouble) -> Node:
    return Fallback(Leg("a", did, act=trouble, undo=trouble), Leg("b", did), circuit_breaker=CircuitBreaker())


@pytest.mark.parametrize("troubled", [_act, _act_in_a_thread, _act_and_undo, _act_and_undo_behind_a_breaker])
@pytest.mark.parametrize("recovers", [False, True], ids=["run", "recovered"])
async def test_errors_of_a_completed_saga_do_not_wait_for_the_garbage_collector(
    storage: Storage, did: list[str], troubled: Callable[[list[str], Trouble], Node], *, recovers: bool
) -> None:
    """Their tracebacks hold the frames of the saga, and whatever its steps had in hand."""
    trouble = Trouble()
    saga = saga_of(storage, troubled(did, trouble))
    gc.disable()
    try:
        if recovers:
            await saga.submit(Journey(), saga_id="saga-1")
            await recover_saga(saga, "saga-1", storage=storage)
        else:
            await saga.run(Journey())
        assert [error() for error in trouble.raised] == [None, None]
    finally:
        gc.enable()


@pytest.mark.parametrize("parks", [False, True], ids=["undone", "parked"])
async def test_the_error_of_a_saga_that_went_back_is_its_caller_s_alone(
    storage: Storage, did: list[str], *, parks: bool
) -> None:
    """It goes when the caller lets go of it, though its traceback holds the frames of the saga."""
    trouble = Trouble()

    async def undo(journey: Journey) -> None:
        if parks:
            raise OSError

    saga = saga_of(storage, Leg("a", did, undo=undo), Leg("b", did, act=trouble))
    gc.disable()
    try:
        with suppress(Watched, SagaParked):
            await saga.run(Journey())
        assert [error() for error in trouble.raised] == [None]
    finally:
        gc.enable()


async def test_only_the_errors_that_the_retry_names_are_retried(storage: Storage, did: list[str]) -> None:
    retry = Retry(attempts=3, delay=0, on=OSError)
    await saga_of(storage, Leg("a", did, act=fails(1, ConnectionError()), retry=retry)).run(Journey())
    assert did == ["act a", "act a"]
    did.clear()
    with pytest.raises(KeyError):
        await saga_of(storage, Leg("a", did, act=raises(KeyError()), retry=retry)).run(Journey())
    assert did == ["act a", "undo a"]


async def test_a_judge_of_errors_that_fails_itself_allows_no_retry_and_is_told_in_a_note(
    storage: Storage, did: list[str]
) -> None:
    def judge(error: BaseException) -> bool:
        raise RuntimeError("out of order")

    leg = Leg("a", did, act=raises(OSError("mine")), retry=Retry(attempts=3, delay=0, on=judge))
    with pytest.raises(OSError, match="mine") as caught:
        await saga_of(storage, leg).run(Journey())
    assert "RuntimeError: out of order" in caught.value.__notes__[0]
    assert did == ["act a", "undo a"]


async def test_the_wait_before_an_attempt_is_stored_with_the_failure() -> None:
    storage, did = WatchedStorage(), list[str]()
    leg = Leg("a", did, act=fails(2, OSError()), retry=Retry(attempts=3, delay=0.002, backoff=3.0))
    await saga_of(storage, leg).run(Journey(), saga_id="j")
    failed = [entry.wait for entry in (await storage.load("j")).entries if entry.kind == "UNKNOWN"]
    assert failed == [0.002, pytest.approx(0.006)]


async def test_while_a_saga_waits_nobody_needs_to_look_at_it(did: list[str]) -> None:
    """`next_attempt_at` is after the wait."""
    clock = ManualClock()
    storage = MemoryStorage(clock=clock)
    saga = saga_of(storage, Leg("a", did, act=raises(OSError()), retry=Retry(attempts=3, delay=50)))
    async with anyio.create_task_group() as group:
        group.start_soon(lambda: saga.run(Journey(), saga_id="j"))
        await _logged(storage, "UNKNOWN 1")
        storage.kill()
        group.cancel_scope.cancel()
    summary = (await storage.twin().load("j")).summary
    assert summary.next_attempt_at == pytest.approx(clock.now() + 50_000_000, abs=5_000_000)


async def test_a_saga_whose_time_runs_out_while_it_waits_is_due_when_it_does(did: list[str]) -> None:
    """I0: else one that was lost in a crash would go back only when the turn of an attempt came that it has not."""
    clock = ManualClock()
    storage = MemoryStorage(clock=clock)
    leg = Leg("a", did, act=raises(OSError()), retry=Retry(attempts=3, delay=500, max_delay=500))
    saga = saga_of(storage, leg, timeout=50.0)
    async with anyio.create_task_group() as group:
        group.start_soon(lambda: saga.run(Journey(), saga_id="j"))
        await _logged(storage, "UNKNOWN 1")
        storage.kill()
        group.cancel_scope.cancel()
    clock.advance(51)
    (result,) = await recover([saga], storage=storage.twin())
    assert result.state is SagaState.COMPENSATED
    assert did == ["act a", "undo a"]


@in_jumping_time
async def test_a_wait_goes_on_where_it_was_after_a_crash(did: list[str]) -> None:
    """The next attempt is not before the stored moment, and not a whole wait later."""
    clock = ManualClock()
    storage = MemoryStorage(clock=clock)
    first = saga_of(storage, Leg("a", did, act=raises(OSError()), retry=Retry(attempts=2, delay=50)))
    async with anyio.create_task_group() as group:
        group.start_soon(lambda: first.run(Journey(), saga_id="j"))
        await _logged(storage, "UNKNOWN 1")
        storage.kill()
        group.cancel_scope.cancel()
    again = saga_of(storage, Leg("a", did, retry=Retry(attempts=2, delay=50)))
    with anyio.move_on_after(49) as scope:
        await recover_saga(again, "j")
    assert scope.cancelled_caught
    assert did == ["act a"]
    clock.advance(51)
    with anyio.fail_after(10):
        assert (await recover_saga(again, "j")).state is SagaState.COMPLETED
    assert did == ["act a", "act a"]


async def _logged(storage: Storage, line: str) -> None:
    """Wait until the log has this line."""
    with anyio.fail_after(10):
        while not await storage.find() or line not in await kinds_of(storage, "j"):
            await anyio.lowlevel.checkpoint()


async def test_attempts_are_counted_across_processes(did: list[str]) -> None:
    """A3: two were made before the crash, so one is left."""
    storage, began = MemoryStorage(), anyio.Event()
    fail = fails(1, OSError())

    async def act(journey: Journey) -> None:
        await fail(journey)
        began.set()
        await anyio.sleep_forever()

    saga = saga_of(storage, Leg("a", did, act=act, retry=AT_ONCE))
    await lost_in(began, storage, lambda: saga.run(Journey(), saga_id="j"))
    again = saga_of(storage, Leg("a", did, act=raises(OSError()), retry=AT_ONCE))
    assert (await recover_saga(again, "j")).state is SagaState.COMPENSATED
    assert did == ["act a"] * 3 + ["undo a"]


async def test_an_attempt_lost_in_a_crash_is_acted_again_once_without_any_retry(did: list[str]) -> None:
    """A3. Twice lost, it is undone."""
    storage = MemoryStorage()
    for _ in range(2):
        began = anyio.Event()

        async def act(journey: Journey, began: anyio.Event = began) -> None:
            began.set()
            await anyio.sleep_forever()

        saga = saga_of(storage, Leg("a", did, act=act), grace=0.01)
        await lost_in(began, storage, lambda saga=saga: saga.run(Journey(), saga_id="j"))  # type: ignore[misc]
    result = await recover_saga(saga_of(storage, Leg("a", did)), "j")
    assert result.state is SagaState.COMPENSATED
    assert did == ["act a", "act a", "undo a"]


async def test_a_withdrawn_intent_is_no_attempt(storage: Storage, did: list[str]) -> None:
    saga = saga_of(storage, Leg("a", did, act=fails(1, OSError()), retry=Retry(attempts=2, delay=0)))
    for _ in range(5):
        async with saga.transaction(Journey(), saga_id="j") as transaction:
            await transaction.suspend()
    assert (await saga.run(Journey(), saga_id="j")).state is SagaState.COMPLETED
    assert did == ["act a", "act a"]


async def test_after_a_pivot_a_step_that_used_up_its_retries_parks_the_saga(storage: Storage, did: list[str]) -> None:
    with pytest.raises(Exception, match="comes after the pivot 'p'"):
        await saga_of(storage, Leg("p", did, pivot=True), Leg("b", did, act=raises(OSError()), retry=AT_ONCE)).run(
            Journey()
        )
    assert did == ["act p"] + ["act b"] * 3


async def test_a_pivot_is_retried_like_any_step(storage: Storage, did: list[str]) -> None:
    saga = saga_of(storage, Leg("p", did, act=fails(2, OSError()), retry=AT_ONCE, pivot=True))
    assert (await saga.run(Journey())).state is SagaState.COMPLETED


async def test_a_pivot_that_was_cleanly_not_done_lets_the_saga_go_back(storage: Storage, did: list[str]) -> None:
    with pytest.raises(NotDone):
        await saga_of(storage, Leg("a", did), Leg("p", did, act=raises(NotDone()), pivot=True)).run(Journey())
    assert did == ["act a", "act p", "undo a"]
