"""Sagas that a mediator drives: what callers see, and what their going away does."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext, suppress
from contextvars import ContextVar
from typing import Any

import anyio
import pytest
from attrs import define
from drives import eventually_ended
from journeys import Journey, Leg, PlainLeg, cancelled_once, hangs_once, raises, saga_of
from virtual_time import in_jumping_time

from anysaga import (
    InvalidArgument,
    MediatorClosed,
    MemoryStorage,
    NotDone,
    Parallel,
    Retry,
    Saga,
    SagaAlreadyRunning,
    SagaCompensated,
    SagaMap,
    SagaMediator,
    SagaMismatch,
    SagaNotFound,
    SagaState,
    SagaStream,
    SagaWorker,
    Step,
    current_step,
)
from anysaga.abc import Claim, NewSaga, Storage

pytestmark = pytest.mark.anyio

Mediators = Callable[..., SagaMediator]

ASKER: ContextVar[str] = ContextVar("asker", default="nobody")


async def state_of(storage: Storage, saga_id: str) -> SagaState:
    return (await storage.load(saga_id)).summary.state


async def test_run_gives_the_result_and_fills_the_callers_context(mediator_of: Mediators, did: list[str]) -> None:
    journey = Journey()
    async with mediator_of(Leg("a", did), PlainLeg("b", did)) as mediator:
        result = await mediator.run(journey, saga_id="j")
    assert (result.saga_id, result.state) == ("j", SagaState.COMPLETED)
    assert result.context is journey
    assert journey.stops == ["a", "b"]
    assert [step.response for step in result] == ["a reached", "b reached"]


async def test_a_call_from_another_loop_is_refused(mediator_of: Mediators, did: list[str]) -> None:
    """Nothing there may be touched by another thread, and who waited here might never be woken."""
    async with mediator_of(Leg("a", did)) as mediator:
        with pytest.raises(InvalidArgument, match="it is open in another event loop"):
            await anyio.to_thread.run_sync(lambda: anyio.run(mediator.run, Journey()))
    assert did == []


@pytest.mark.parametrize("entered", [True, False])
async def test_stream_gives_each_step_and_then_the_result(
    mediator_of: Mediators, did: list[str], entered: bool
) -> None:
    mediator = mediator_of(Leg("a", did), Leg("b", did))
    async with mediator if entered else nullcontext():
        stream = mediator.stream(Journey(), saga_id="j")
        seen = [step async for step in stream]
        assert stream.saga_id == "j"
        assert tuple(seen) == stream.result.steps
        assert [step async for step in stream] == []


async def test_the_last_step_of_a_stream_comes_when_the_end_is_durable(
    mediator_of: Mediators, storage: Storage, did: list[str]
) -> None:
    async with mediator_of(Leg("a", did)) as mediator:
        states = [await state_of(storage, step.saga_id) async for step in mediator.stream(Journey())]
    assert states == [SagaState.COMPLETED]


async def test_a_stream_begins_with_the_first_step_that_is_asked_for(mediator_of: Mediators, did: list[str]) -> None:
    async with mediator_of(Leg("a", did)) as mediator:
        stream = mediator.stream(Journey(), saga_id="j")
        with pytest.raises(InvalidArgument):
            _ = stream.result
        with pytest.raises(SagaNotFound):
            await mediator.storage.load("j")


@pytest.mark.parametrize("entered", [True, False])
async def test_errors_of_a_saga_come_out_as_they_are(mediator_of: Mediators, did: list[str], entered: bool) -> None:
    """Unwrapped, with the note on what was undone, from `run` and from `stream`, and out of the mediator's block."""
    first, second = ValueError("no"), ValueError("no")
    errors = iter([first, second])

    async def fail(journey: Journey) -> None:
        raise next(errors)

    mediator = mediator_of(Leg("a", did), Leg("b", did, act=fail))
    seen = []
    with pytest.raises(ValueError, match="no") as caught:
        if entered:
            async with mediator:
                await mediator.run(Journey(), saga_id="j")
        else:
            await mediator.run(Journey(), saga_id="j")
    assert caught.value is first
    assert first.__notes__ == ["saga 'journey' (j) went back, undone: b, a"]
    with pytest.raises(ValueError, match="no") as caught:
        if entered:
            async with mediator:
                seen += [step.step_name async for step in mediator.stream(Journey())]
        else:
            async for step in mediator.stream(Journey()):
                seen.append(step.step_name)
    assert caught.value is second
    assert entered or seen == ["a"]


@pytest.mark.parametrize("entered", [True, False])
async def test_a_stream_that_raised_is_over(mediator_of: Mediators, did: list[str], entered: bool) -> None:
    mediator = mediator_of(Leg("a", did), Leg("b", did, act=raises(ValueError("no"))))
    async with mediator if entered else nullcontext():
        stream = mediator.stream(Journey())
        with pytest.raises(ValueError, match="no"):
            async for _ in stream:
                pass
        assert [step async for step in stream] == []
        with pytest.raises(InvalidArgument):
            _ = stream.result


async def test_a_caller_that_is_cancelled_lets_the_saga_go_on(
    mediator_of: Mediators, storage: Storage, did: list[str]
) -> None:
    began, ends = anyio.Event(), anyio.Event()

    async def act(journey: Journey) -> None:
        began.set()
        await ends.wait()

    async with mediator_of(Leg("a", did, act=act), Leg("b", did)) as mediator:
        async with cancelled_once(began, lambda: mediator.run(Journey(), saga_id="j")):
            with pytest.raises(SagaAlreadyRunning):
                await mediator.run(Journey(), saga_id="j")
            ends.set()
        await eventually_ended(mediator)
    assert did == ["act a", "act b"]
    assert await state_of(storage, "j") is SagaState.COMPLETED


async def test_a_cancelled_caller_has_the_saga_undone_where_that_is_wanted(
    mediator_of: Mediators, storage: Storage, did: list[str]
) -> None:
    began = anyio.Event()
    mediator = mediator_of(Leg("a", did), Leg("b", did, act=hangs_once(began)), on_disconnect="compensate")
    async with mediator:
        async with cancelled_once(began, lambda: mediator.run(Journey(), saga_id="j")):
            await eventually_ended(mediator)
        assert did == ["act a", "act b", "undo b", "undo a"]
    assert await state_of(storage, "j") is SagaState.COMPENSATED


class SlowToStore(MemoryStorage):
    """Has stored a saga, and takes its time to say so."""

    waits = True

    def __init__(self) -> None:
        super().__init__()
        self.stored, self.goes_on = anyio.Event(), anyio.Event()

    async def create(self, new: NewSaga) -> Claim | None:
        claim = await super().create(new)
        self.stored.set()
        await self.goes_on.wait()
        return claim


async def test_a_caller_that_is_cancelled_while_its_saga_is_stored_has_it_undone(did: list[str]) -> None:
    """And not given to recovery, which would finish it."""
    storage, sagas = SlowToStore(), SagaMap()
    sagas.bind(Journey, saga_of(None, Leg("a", did)))
    async with SagaMediator(sagas, storage=storage, on_disconnect="compensate") as mediator:
        async with cancelled_once(storage.stored, lambda: mediator.run(Journey(), saga_id="j")):
            pass
        storage.goes_on.set()
        await eventually_ended(mediator)
    assert await state_of(storage, "j") is SagaState.COMPENSATED
    assert did == []


@pytest.mark.parametrize("entered", [False, True])
async def test_a_stream_gives_each_step_once_whoever_asks_beside(
    mediator_of: Mediators,
    did: list[str],
    entered: bool,
) -> None:
    seen: list[str] = []

    async def act(journey: Journey) -> None:
        await goes_on.wait()

    async def watch() -> None:
        seen.extend([step.step_name async for step in stream])

    mediator = mediator_of(Leg("a", did, act=act), Leg("b", did))
    goes_on, stream = anyio.Event(), mediator.stream(Journey())
    async with mediator if entered else nullcontext(), anyio.create_task_group() as group:
        group.start_soon(watch)
        await anyio.wait_all_tasks_blocked()
        with pytest.raises(InvalidArgument, match="one task at a time"):
            await anext(stream)
        goes_on.set()
    assert seen == ["a", "b"]


@pytest.mark.parametrize("leaving", ["break", "dropped", "closed", "cancelled"])
@pytest.mark.parametrize("policy", ["continue", "compensate"])
async def test_a_stream_that_is_left_disconnects(
    mediator_of: Mediators, storage: Storage, did: list[str], leaving: str, policy: str
) -> None:
    """Whichever way it is left; the saga goes on, or is undone, as was chosen."""
    seen, ends, kept = anyio.Event(), anyio.Event(), list[object]()

    async def act(journey: Journey) -> None:
        await ends.wait()

    async def watch() -> None:
        stream = mediator.stream(Journey(), saga_id="j")
        kept.append(None if leaving == "dropped" else stream)
        if leaving == "break":
            async with stream:
                async for _ in stream:
                    break
        elif leaving == "dropped":
            async for _ in stream:
                break
        elif leaving == "closed":
            await anext(stream)
            await stream.aclose()
            assert [step async for step in stream] == []
        else:
            async for _ in stream:
                seen.set()

    mediator = mediator_of(Leg("a", did), Leg("b", did, act=act), on_disconnect=policy)
    async with mediator:
        if leaving == "cancelled":
            async with cancelled_once(seen, watch):
                pass
        else:
            await watch()
        await anyio.wait_all_tasks_blocked()
        ends.set()
        await eventually_ended(mediator)
    state = SagaState.COMPLETED if policy == "continue" else SagaState.COMPENSATED
    assert await state_of(storage, "j") is state


async def test_leaving_the_mediator_stops_between_two_steps(
    mediator_of: Mediators, storage: Storage, did: list[str]
) -> None:
    """The running step is waited for, nothing is undone, callers are told, and the saga can be resumed at once."""
    began, ends = [anyio.Event(), anyio.Event()], anyio.Event()

    async def act(journey: Journey) -> None:
        began[len(did) - 1].set()
        await ends.wait()

    told: list[str] = []

    async def run(saga_id: str) -> None:
        try:
            await mediator.run(Journey(), saga_id=saga_id)
        except MediatorClosed as error:
            told.append(error.saga_id)

    async def watch(saga_id: str) -> None:
        try:
            async for step in mediator.stream(Journey(), saga_id=saga_id):
                told.append(step.step_name)  # noqa: PERF401 - kept although the loop fails
        except MediatorClosed as error:
            told.append(error.saga_id)

    mediator = mediator_of(Leg("a", did, act=act), Leg("b", did))
    async with anyio.create_task_group() as group:
        async with mediator:
            group.start_soon(run, "j")
            await began[0].wait()
            group.start_soon(watch, "s")
            await began[1].wait()
            group.start_soon(_set_later, ends)
        with pytest.raises(MediatorClosed):
            await mediator.run(Journey())
    assert sorted(told) == ["a", "j", "s"]
    assert did == ["act a", "act a"]
    assert await state_of(storage, "j") is SagaState.RUNNING
    async with mediator:
        assert (await mediator.resume("j")).state is SagaState.COMPLETED
        assert (await mediator.resume("s")).state is SagaState.COMPLETED
    assert did == ["act a", "act a", "act b", "act b"]


@pytest.mark.parametrize("watched", [False, True])
async def test_a_saga_that_is_stored_while_its_mediator_is_left_is_given_back_as_it_was(
    did: list[str], watched: bool
) -> None:
    async def run() -> None:
        with pytest.raises(MediatorClosed):
            if watched:
                await anext(mediator.stream(Journey(), saga_id="j"))
            else:
                await mediator.run(Journey(), saga_id="j")

    storage, sagas = SlowToStore(), SagaMap()
    sagas.bind(Journey, saga_of(None, Leg("a", did)))
    async with anyio.create_task_group() as group, SagaMediator(sagas, storage=storage) as mediator:
        group.start_soon(run)
        await storage.stored.wait()
        group.start_soon(_set_later, storage.goes_on)
    summary = (await storage.load("j")).summary
    assert (did, summary.state, summary.owner) == ([], SagaState.RUNNING, None)


async def _set_later(event: anyio.Event) -> None:
    await anyio.wait_all_tasks_blocked()
    event.set()


async def test_a_step_that_does_not_end_in_time_is_cancelled_and_nothing_is_undone(
    mediator_of: Mediators, storage: Storage, did: list[str]
) -> None:
    began = anyio.Event()
    mediator = mediator_of(Leg("a", did), Leg("b", did, act=hangs_once(began)), grace=0.01, drain_timeout=0.01)
    with anyio.fail_after(30):
        async with anyio.create_task_group() as group:

            async def run() -> None:
                with pytest.raises(MediatorClosed):
                    await mediator.run(Journey(), saga_id="j")

            async with mediator:
                group.start_soon(run)
                await began.wait()
    assert did == ["act a", "act b"]
    async with mediator:
        await mediator.resume("j")
    assert did == ["act a", "act b", "act b"]


@define
class Errand:
    """Another context."""


async def test_every_saga_has_the_time_to_end_its_step_however_soon_another_one_stops(did: list[str]) -> None:
    leaves, stopped = anyio.Event(), anyio.Event()

    async def act(journey: Journey) -> None:
        if current_step().saga_id == "first":
            await leaves.wait()
            return
        await stopped.wait()
        await anyio.wait_all_tasks_blocked()
        did.append("acted")

    async def run(saga_id: str) -> None:
        with pytest.raises(MediatorClosed):
            await mediator.run(Journey(), saga_id=saga_id)
        stopped.set()

    sagas = SagaMap()
    sagas.bind(Journey, saga_of(None, Leg("a", did, act=act), Leg("b", did), grace=1e-6))
    async with anyio.create_task_group() as callers, SagaMediator(sagas) as mediator:
        for saga_id in ("first", "second"):
            callers.start_soon(run, saga_id)
            await anyio.wait_all_tasks_blocked()
        leaves.set()
    assert did == ["act a", "act a", "acted"]


async def test_a_step_has_the_grace_of_its_saga_to_end_when_the_time_is_up(storage: Storage, did: list[str]) -> None:
    """It is done then, and is not called again."""
    both, ends = anyio.Event(), anyio.Event()
    began: list[str] = []

    def begin(name: str) -> None:
        began.append(name)
        if len(began) == 2:
            both.set()

    class Impatient(Step[Errand]):
        read_only = True

        async def act(self, errand: Errand) -> None:
            begin("errand")
            try:
                await anyio.sleep_forever()
            finally:
                ends.set()  # the time is up, for both

    async def act(journey: Journey) -> None:
        begin("journey")
        await ends.wait()

    async def run(context: Journey | Errand, saga_id: str) -> None:
        with pytest.raises(MediatorClosed):
            await mediator.run(context, saga_id=saga_id)

    sagas = SagaMap()
    sagas.bind(Journey, saga_of(None, Leg("a", did, act=act), Leg("b", did), grace=30.0))
    sagas.bind(Errand, Saga[Errand](name="errand", steps=[Impatient], grace=0.01))
    mediator = SagaMediator(sagas, storage=storage, drain_timeout=0.01)
    with anyio.fail_after(20):
        async with anyio.create_task_group() as group, mediator:
            group.start_soon(run, Journey(), "j")
            group.start_soon(run, Errand(), "e")
            await both.wait()
        async with mediator:
            await mediator.resume("j")
    assert did == ["act a", "act b"]


@in_jumping_time
async def test_an_undo_that_does_not_end_has_the_grace_of_its_saga_once(did: list[str]) -> None:
    began = anyio.Event()
    assert await _seconds_to_leave(began, Leg("a", did, act=raises(OSError()), undo=hangs_once(began))) == 5 + 10


@in_jumping_time
async def test_a_saga_that_the_store_keeps_waiting_has_no_grace_when_the_time_is_up(did: list[str]) -> None:
    """It ends no step meanwhile."""
    began = anyio.Event()

    class Stuck(MemoryStorage):
        async def create(self, new: NewSaga) -> Claim | None:
            began.set()
            await anyio.sleep_forever()
            return None

    assert await _seconds_to_leave(began, Leg("a", did), storage=Stuck()) == 5


async def _seconds_to_leave(began: anyio.Event, *steps: Step[Any, Any], storage: Storage | None = None) -> float:
    """How long a mediator drains that is left once a saga of these steps has come to something that never ends."""
    sagas = SagaMap()
    sagas.bind(Journey, saga_of(None, *steps, grace=10.0))
    mediator, left_at = SagaMediator(sagas, storage=storage, drain_timeout=5.0), 0.0

    async def run() -> None:
        with suppress(MediatorClosed, OSError):
            await mediator.run(Journey())

    async with anyio.create_task_group() as group, mediator:
        group.start_soon(run)
        await began.wait()
        left_at = anyio.current_time()
    return round(anyio.current_time() - left_at, 3)


async def test_leaving_without_entering_is_refused(mediator_of: Mediators, did: list[str]) -> None:
    with pytest.raises(InvalidArgument, match="it is not open"):
        await mediator_of(Leg("a", did)).__aexit__(None, None, None)


async def test_leaving_gives_a_saga_back_that_waits_for_a_retry(
    mediator_of: Mediators, storage: Storage, did: list[str]
) -> None:
    """At once, and not when the time is up."""
    failed = anyio.Event()

    async def fails(journey: Journey) -> None:
        failed.set()
        raise NotDone

    leg = Leg("a", did, act=fails, retry=Retry(2, delay=3600.0, max_delay=3600.0))
    with anyio.fail_after(30):
        async with anyio.create_task_group() as group:

            async def run() -> None:
                with pytest.raises(MediatorClosed):
                    await mediator.run(Journey(), saga_id="j")

            async with mediator_of(leg, drain_timeout=3600.0) as mediator:
                group.start_soon(run)
                await failed.wait()
    summary = (await storage.load("j")).summary
    assert (summary.state, summary.owner, did) == (SagaState.RUNNING, None, ["act a"])


@pytest.mark.parametrize("beside", [False, True])
async def test_leaving_gives_a_saga_back_whose_retry_comes_in_that_moment(
    did: list[str], monkeypatch: pytest.MonkeyPatch, beside: bool
) -> None:
    """Its step acted again all the same, and was cancelled at once."""
    waits, turn = anyio.Event(), anyio.Event()

    async def sleep_until(moment: float) -> None:
        waits.set()
        await turn.wait()

    async def run() -> None:
        with pytest.raises(MediatorClosed):
            await mediator.run(Journey(), saga_id="j")

    monkeypatch.setattr("anysaga._lane.sleep_until", sleep_until)
    leg = Leg("a", did, act=raises(NotDone()), retry=Retry(2, delay=1.0))
    storage, sagas = MemoryStorage(), SagaMap()
    sagas.bind(Journey, saga_of(None, Parallel(leg, Leg("b", did)) if beside else leg))
    async with anyio.create_task_group() as group, SagaMediator(sagas, storage=storage) as mediator:
        group.start_soon(run)
        await waits.wait()
        turn.set()
    assert (did.count("act a"), await state_of(storage, "j")) == (1, SagaState.RUNNING)


async def test_a_cancelled_owner_cancels_its_sagas_without_undoing_them(
    mediator_of: Mediators, storage: Storage, did: list[str]
) -> None:
    began = anyio.Event()
    mediator = mediator_of(Leg("a", did), Leg("b", did, act=hangs_once(began)), grace=0.01)

    async def own() -> None:
        async with mediator:
            await mediator.run(Journey(), saga_id="j")

    async with cancelled_once(began, own):
        pass
    assert did == ["act a", "act b"]
    await mediator_of(Leg("a", did), Leg("b", did)).resume("j")
    assert did == ["act a", "act b", "act b"]


async def test_resume_uses_the_stored_context_and_the_saga_of_that_name(
    mediator_of: Mediators, storage: Storage, did: list[str]
) -> None:
    steps = [Leg("a", did), Leg("b", did)]
    async with saga_of(storage, *steps).transaction(Journey(["home"]), saga_id="j") as transaction:
        await anext(transaction)
        await transaction.suspend()
    async with mediator_of(*steps) as mediator:
        result = await mediator.resume("j")
        assert result.context.stops == ["home", "a", "b"]
        assert (await mediator.resume("j")).context == result.context
        with pytest.raises(SagaNotFound):
            await mediator.resume("k")


async def test_resume_raises_what_became_of_an_ended_saga(mediator_of: Mediators, did: list[str]) -> None:
    async with mediator_of(Leg("a", did, act=raises(OSError()))) as mediator:
        with pytest.raises(OSError):  # noqa: PT011 - this very one
            await mediator.run(Journey(), saga_id="j")
        with pytest.raises(SagaCompensated):
            await mediator.resume("j")


async def test_resume_refuses_a_saga_that_is_not_in_the_map(
    mediator_of: Mediators, storage: Storage, did: list[str]
) -> None:
    await Saga[Journey](name="other", steps=[Leg("a", did)], storage=storage).submit(Journey(), saga_id="o")
    async with mediator_of(Leg("a", did)) as mediator:
        with pytest.raises(SagaMismatch, match="'other', and the map has 'journey'"):
            await mediator.resume("o")


async def test_what_is_submitted_is_run_by_a_worker(mediator_of: Mediators, storage: Storage, did: list[str]) -> None:
    steps = [Leg("a", did)]
    async with mediator_of(*steps) as mediator:
        assert await mediator.submit(Journey(), saga_id="j") == "j"
        assert await mediator.submit(Journey(), saga_id="j") == "j"
    assert did == []
    worker = SagaWorker([saga_of(storage, *steps)], storage=storage, on_result=lambda _: worker.drain())
    await worker.run(handle_signals=False)
    assert await state_of(storage, "j") is SagaState.COMPLETED


async def test_a_saga_runs_with_the_context_variables_of_its_caller(mediator_of: Mediators, did: list[str]) -> None:
    async def act(journey: Journey) -> None:
        did.append(ASKER.get())

    async with mediator_of(Leg("a", did, act=act)) as mediator:
        token = ASKER.set("ann")
        await mediator.run(Journey())
        ASKER.reset(token)
    assert did == ["act a", "ann"]


async def test_sagas_of_one_mediator_run_side_by_side(mediator_of: Mediators, did: list[str]) -> None:
    met: list[anyio.Event] = [anyio.Event(), anyio.Event()]

    async def meet(journey: Journey) -> None:
        mine, other = (0, 1) if current_step().saga_id == "j0" else (1, 0)
        met[mine].set()
        await met[other].wait()

    async with mediator_of(Leg("a", did, act=meet)) as mediator, anyio.create_task_group() as group:
        for number in range(2):
            group.start_soon(lambda number: mediator.run(Journey(), saga_id=f"j{number}"), number)


async def test_without_async_with_a_saga_is_driven_by_its_caller(
    mediator_of: Mediators, storage: Storage, did: list[str]
) -> None:
    """A cancelled caller undoes it, and a stream waits for the one who looks."""
    began = anyio.Event()
    mediator = mediator_of(Leg("a", did), Leg("b", did, act=hangs_once(began)))
    async with cancelled_once(began, lambda: mediator.run(Journey(), saga_id="j")):
        pass
    assert await state_of(storage, "j") is SagaState.COMPENSATED
    del did[:]
    async for step in mediator.stream(Journey()):
        did.append(f"see {step.step_name}")  # noqa: PERF401 - what is seen in between is the point
    assert did == ["act a", "see a", "act b", "see b"]


async def test_without_async_with_a_stream_that_is_closed_suspends(
    mediator_of: Mediators, storage: Storage, did: list[str]
) -> None:
    mediator = mediator_of(Leg("a", did), Leg("b", did))
    async with mediator.stream(Journey(), saga_id="j") as stream:
        await anext(stream)
    assert await state_of(storage, "j") is SagaState.RUNNING
    assert (await mediator.resume("j")).state is SagaState.COMPLETED


async def _watch(stream: SagaStream[Journey], seen: list[str]) -> None:
    seen.extend([step.step_name async for step in stream])


async def test_a_stream_that_is_closed_while_the_mediator_starts_begins_nothing(
    mediator_of: Mediators, storage: Storage, did: list[str]
) -> None:
    starts, goes_on = anyio.Event(), anyio.Event()

    async def start() -> None:
        starts.set()
        await goes_on.wait()

    stream = mediator_of(Leg("a", did), on_startup=[start]).stream(Journey())
    async with anyio.create_task_group() as group:
        group.start_soon(_watch, stream, did)
        await starts.wait()
        await stream.aclose()
        goes_on.set()
    assert (did, await storage.find()) == ([], [])


async def test_without_async_with_a_stream_that_is_closed_while_its_saga_is_stored_suspends(did: list[str]) -> None:
    storage, sagas = SlowToStore(), SagaMap()
    sagas.bind(Journey, saga_of(None, Leg("a", did)))
    stream = SagaMediator(sagas, storage=storage).stream(Journey(), saga_id="j")
    async with anyio.create_task_group() as group:
        group.start_soon(_watch, stream, did)
        await storage.stored.wait()
        await stream.aclose()
        storage.goes_on.set()
    assert (did, (await storage.load("j")).summary.owner) == ([], None)


async def test_without_async_with_a_stream_that_is_left_with_an_error_undoes(
    mediator_of: Mediators, storage: Storage, did: list[str]
) -> None:
    mediator = mediator_of(Leg("a", did), Leg("b", did))
    with pytest.raises(KeyError):
        async with mediator.stream(Journey(), saga_id="j") as stream:
            await anext(stream)
            raise KeyError
    assert await state_of(storage, "j") is SagaState.COMPENSATED


async def test_an_open_mediator_is_not_entered_again(mediator_of: Mediators, did: list[str]) -> None:
    async with mediator_of(Leg("a", did)) as mediator:
        with pytest.raises(InvalidArgument):
            await mediator.__aenter__()
        assert (await mediator.run(Journey())).state is SagaState.COMPLETED


@pytest.mark.parametrize(
    "options",
    [{"on_disconnect": "forget"}, {"drain_timeout": 0}, {"on_startup": [1]}, {"max_concurrent_event_handlers": 0}],
)
def test_options_that_make_no_sense_are_refused(options: dict[str, object], did: list[str]) -> None:
    sagas = SagaMap()
    sagas.bind(Journey, saga_of(None, Leg("a", did)))
    with pytest.raises(InvalidArgument):
        SagaMediator(sagas, **options)  # type: ignore[arg-type]
