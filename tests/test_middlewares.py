"""What stands around sagas and steps: that it runs, in which order, and what its own doings mean."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any

import anyio
import pytest
from journeys import (
    AT_ONCE,
    CARD,
    Deed,
    Journey,
    Leg,
    PlainLeg,
    ProbedLeg,
    WaitingStorage,
    WatchedStorage,
    cancelled_once,
    fails,
    hangs,
    hangs_once,
    kinds_of,
    lost_in,
    raises,
    saga_of,
)
from virtual_time import in_still_time, jump

from anysaga import (
    CallSkipped,
    InvalidArgument,
    LoggingMiddleware,
    MemoryStorage,
    Middleware,
    MiddlewareMisused,
    NextSaga,
    NextStep,
    NotDone,
    Outcome,
    Parallel,
    Saga,
    SagaCall,
    SagaMap,
    SagaMediator,
    SagaParked,
    SagaResult,
    SagaState,
    SagaWorker,
    StepCall,
    StorageRefused,
    StrayCancellation,
    current_step,
    recover,
    recover_saga,
)
from anysaga.abc import Storage

pytestmark = pytest.mark.anyio


@pytest.fixture(params=[MemoryStorage, WaitingStorage])
def storage(request: pytest.FixtureRequest) -> MemoryStorage:
    """Of all that a store is, only whether it is waited for counts here."""
    made: MemoryStorage = request.param()
    return made


class Tells(Middleware):
    """Writes down what it stands around, and how that ended."""

    def __init__(self, name: str, did: list[str]) -> None:
        self.name = name
        self.did = did

    async def saga(self, call: SagaCall, call_next: NextSaga) -> SagaResult[Any]:
        self.did.append(f"{self.name}({'recovers' if call.recovers else 'saga'}")
        try:
            result = await call_next()
        except BaseException as error:
            self.did.append(f"){self.name} {type(error).__name__}")
            raise
        self.did.append(f"){self.name} {result.state}")
        return result

    async def step(self, call: StepCall, call_next: NextStep) -> Any:
        self.did.append(f"{self.name}[{call.verb}")
        try:
            return await call_next()
        finally:
            self.did.append(f"]{self.name}")


Around = Callable[[StepCall, NextStep], Any]


class Does(Middleware):
    """Does around each step what it is told."""

    def __init__(self, around: Around) -> None:
        self._around = around

    async def step(self, call: StepCall, call_next: NextStep) -> Any:
        return await self._around(call, call_next)


class DoesAround(Middleware):
    """Does around each saga what it is told."""

    def __init__(self, around: Callable[[SagaCall, NextSaga], Any]) -> None:
        self._around = around

    async def saga(self, call: SagaCall, call_next: NextSaga) -> SagaResult[Any]:
        result: SagaResult[Any] = await self._around(call, call_next)
        return result


async def on(call: object, call_next: Callable[[], Any]) -> Any:
    return await call_next()


async def state_of(storage: Storage, saga_id: str) -> SagaState:
    return (await storage.load(saga_id)).summary.state


# Order, and everywhere


async def test_the_first_is_the_outermost_around_saga_act_and_undo(storage: Storage, did: list[str]) -> None:
    middlewares = [Tells("1", did), Tells("2", did)]
    saga = saga_of(storage, Leg("a", did), Leg("b", did, act=raises(OSError())), middlewares=middlewares)
    with pytest.raises(OSError):  # noqa: PT011 - this very one
        await saga.run(Journey())
    assert did == [
        *["1(saga", "2(saga"],
        *["1[act", "2[act", "act a", "]2", "]1"],
        *["1[act", "2[act", "act b", "]2", "]1"],
        *["1[undo", "2[undo", "undo b", "]2", "]1"],
        *["1[undo", "2[undo", "undo a", "]2", "]1"],
        *[")2 OSError", ")1 OSError"],
    ]


async def test_they_stand_around_what_is_watched_step_by_step(storage: Storage, did: list[str]) -> None:
    saga = saga_of(storage, Leg("a", did), middlewares=[Tells("1", did)])
    async with saga.transaction(Journey()) as transaction:
        async for step in transaction:
            did.append(f"see {step.step_name}")  # noqa: PERF401 - what is seen in between is the point
    assert did == ["1(saga", "1[act", "act a", "]1", "see a", ")1 COMPLETED"]


async def test_they_stand_around_what_recovery_finishes(did: list[str]) -> None:
    storage, began = MemoryStorage(), anyio.Event()
    saga = saga_of(storage, Leg("a", did, act=hangs_once(began)), middlewares=[Tells("1", did)])
    await lost_in(began, storage, partial(saga.run, Journey(), saga_id="j"))
    del did[:]
    await recover([saga], storage=storage)
    assert did == ["1(recovers", "1[act", "act a", "]1", ")1 COMPLETED"]


async def test_a_recovered_saga_that_is_undone_is_a_result(did: list[str]) -> None:
    storage, began = MemoryStorage(), anyio.Event()
    once = hangs_once(began)

    async def act(journey: Journey) -> None:
        await once(journey)
        raise OSError

    saga = saga_of(storage, Leg("a", did, act=act), middlewares=[Tells("1", did)])
    await lost_in(began, storage, partial(saga.run, Journey(), saga_id="j"))
    del did[:]
    await recover_saga(saga, "j")
    assert did == ["1(recovers", "1[act", "act a", "]1", "1[undo", "undo a", "]1", ")1 COMPENSATED"]


async def test_they_stand_around_what_a_worker_runs(storage: Storage, did: list[str]) -> None:
    saga = saga_of(storage, Leg("a", did), middlewares=[Tells("1", did)])
    await saga.submit(Journey())
    assert did == []
    worker = SagaWorker([saga], storage=storage, on_result=lambda _: worker.drain())
    await worker.run(handle_signals=False)
    assert did == ["1(recovers", "1[act", "act a", "]1", ")1 COMPLETED"]


async def test_they_stand_around_what_is_resumed(storage: Storage, did: list[str]) -> None:
    saga = saga_of(storage, Leg("a", did), Leg("b", did), middlewares=[Tells("1", did)])
    async with saga.transaction(Journey(), saga_id="j") as transaction:
        await anext(transaction)
        await transaction.suspend()
    await saga.run(saga_id="j")
    assert did[4:] == [")1 RUNNING", "1(saga", "1[act", "act b", "]1", ")1 COMPLETED"]


async def test_the_end_of_a_stream_that_cannot_be_given_back_reaches_what_stands_around(did: list[str]) -> None:
    storage = WatchedStorage()
    sagas = SagaMap()
    sagas.bind(Journey, saga_of(None, Leg("a", did), Leg("b", did)))
    mediator = SagaMediator(sagas, storage=storage, middlewares=[Tells("1", did)])
    with pytest.raises(StorageRefused):
        async with mediator.stream(Journey()) as stream:
            await anext(stream)
            storage.fails.append(StorageRefused("its store", "it is full"))
    assert did[-1] == ")1 StorageRefused"


@pytest.mark.parametrize("entered", [True, False])
async def test_those_of_a_mediator_are_outside_of_those_of_its_sagas(
    storage: Storage,
    did: list[str],
    entered: bool,
) -> None:
    sagas = SagaMap()
    sagas.bind(Journey, saga_of(None, Leg("a", did), middlewares=[Tells("2", did)]))
    mediator = SagaMediator(sagas, storage=storage, middlewares=[Tells("1", did)])
    around = ["1(saga", "2(saga", "1[act", "2[act", "act a", "]2", "]1", ")2 COMPLETED", ")1 COMPLETED"]
    if entered:
        async with mediator:
            await mediator.run(Journey())
    else:
        async for _ in mediator.stream(Journey()):
            pass
    assert did == around


async def test_a_saga_class_may_name_them(storage: Storage, did: list[str]) -> None:
    class JourneySaga(Saga[Journey]):
        steps = (Leg("a", did),)
        middlewares = (Tells("1", did),)

    await JourneySaga(storage=storage).run(Journey())
    assert did == ["1(saga", "1[act", "act a", "]1", ")1 COMPLETED"]


async def test_they_stand_around_each_branch_of_a_parallel(storage: Storage, did: list[str]) -> None:
    seen: list[tuple[str, str]] = []

    async def note(call: StepCall, call_next: NextStep) -> Any:
        seen.append((call.step, call.path))
        return await call_next()

    steps = [Parallel(Leg("a", did, act=no_stop), Leg("b", did, act=no_stop))]
    await Saga[Journey](name="j", steps=steps, storage=storage, middlewares=[Does(note)]).run(Journey())
    assert sorted(seen) == [("a", "1/1"), ("b", "1/2")]


async def no_stop(journey: Journey) -> None:
    journey.stops.clear()


async def test_a_probe_is_asked_past_them(storage: Storage, did: list[str]) -> None:
    leg = ProbedLeg("a", did, act=raises(OSError()), answer=lambda: Outcome.DONE)
    await saga_of(storage, leg, middlewares=[Tells("1", did)]).run(Journey())
    assert did == ["1(saga", "1[act", "act a", "]1", "probe a", ")1 COMPLETED"]


async def test_what_a_call_says(storage: Storage, did: list[str]) -> None:
    """Its attempt too; and `current_step` is that of the step."""
    calls: list[StepCall] = []
    journey = Journey()

    async def note(call: StepCall, call_next: NextStep) -> Any:
        calls.append(call)
        did.append(current_step().key)
        return await call_next()

    leg = Leg("a", did, act=fails(1, OSError()), retry=AT_ONCE)
    await saga_of(storage, leg, middlewares=[Does(note)]).run(journey, saga_id="j")
    assert [(call.saga_id, call.saga, call.step, call.path, call.attempt, call.verb) for call in calls] == [
        ("j", "journey", "a", "1", 1, "act"),
        ("j", "journey", "a", "1", 2, "act"),
    ]
    assert all(call.context is journey for call in calls)
    assert did == ["j:1:act", "act a"] * 2


async def test_no_context_is_in_the_repr_of_a_call(storage: Storage, did: list[str]) -> None:
    calls: list[object] = []

    async def note(call: object, call_next: Callable[[], Any]) -> Any:
        calls.append(call)
        return await call_next()

    await saga_of(storage, Leg("a", did), middlewares=[Does(note), DoesAround(note)]).run(Journey(["here"]))
    assert len(calls) == 2
    assert "here" not in repr(calls)
    assert CARD not in repr(calls)


def test_what_is_no_middleware_is_refused(did: list[str]) -> None:
    with pytest.raises(InvalidArgument):
        saga_of(None, Leg("a", did), middlewares=[Tells])


class Yields(Middleware):
    async def step(self, call: StepCall, call_next: NextStep) -> Any:
        yield await call_next()


class Short(Middleware):
    async def saga(self, call_next: NextSaga) -> Any:  # type: ignore[override]  # that is the mistake
        return await call_next()


class Loose(Middleware):
    async def saga(self, *given: Any, **named: Any) -> Any:
        return await given[1]()

    @staticmethod
    async def step(call: StepCall, call_next: NextStep) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        return await call_next()


@pytest.mark.parametrize(("wrong", "words"), [(Yields(), "has a `yield`"), (Short(), r"`saga\(call, call_next\)`")])
def test_what_would_fail_each_saga_is_refused_before_one_begins(wrong: Middleware, words: str, did: list[str]) -> None:
    with pytest.raises(InvalidArgument, match=words):
        saga_of(None, Leg("a", did), middlewares=[wrong])


async def test_what_can_be_called_in_another_way_too_is_none_of_that(did: list[str]) -> None:
    await saga_of(None, Leg("a", did), middlewares=[Loose()]).run(Journey())
    assert did == ["act a"]


# Around a step


async def test_a_plain_step_runs_in_its_thread(storage: Storage, did: list[str]) -> None:
    threads: list[threading.Thread] = []
    leg = PlainLeg("a", did, act=lambda _: threads.append(threading.current_thread()))
    result = await saga_of(storage, leg, middlewares=[Tells("1", did)]).run(Journey())
    assert threads[0] is not threading.current_thread()
    assert did == ["1(saga", "1[act", "act a", "]1", ")1 COMPLETED"]
    assert [step.response for step in result] == ["a reached"]


async def test_what_it_returns_is_the_response(storage: Storage, did: list[str]) -> None:
    async def shout(call: StepCall, call_next: NextStep) -> Any:
        return (await call_next()).upper()

    saga = saga_of(storage, Leg("a", did), middlewares=[Does(shout)])
    await saga.run(Journey(), saga_id="j")
    assert [step.response for step in await saga.run(saga_id="j")] == ["A REACHED"]


async def test_to_catch_an_error_and_return_makes_the_step_done(storage: Storage, did: list[str]) -> None:
    async def catch(call: StepCall, call_next: NextStep) -> Any:
        try:
            return await call_next()
        except OSError:
            return "no matter"

    saga = saga_of(storage, Leg("a", did, act=raises(OSError())), middlewares=[Does(catch)])
    result = await saga.run(Journey(), saga_id="j")
    assert [step.response for step in result] == ["no matter"]


@pytest.mark.parametrize("plain", [False, True])
async def test_an_act_that_was_not_called_is_not_done(storage: Storage, did: list[str], plain: bool) -> None:
    async def skip(call: StepCall, call_next: NextStep) -> Any:
        return "done, I say" if call.step == "b" else await call_next()

    leg = PlainLeg("b", did) if plain else Leg("b", did)
    saga = saga_of(storage, Leg("a", did), leg, middlewares=[Does(skip)])
    with pytest.raises(CallSkipped) as caught:
        await saga.run(Journey(), saga_id="j")
    assert (caught.value.step, caught.value.saga_id) == ("b", "j")
    assert did == ["act a", "undo a"]
    assert "NOT_DONE 2" in await kinds_of(storage, "j")


async def test_an_undo_that_was_not_called_has_failed(storage: Storage, did: list[str]) -> None:
    async def skip(call: StepCall, call_next: NextStep) -> Any:
        return None if call.verb == "undo" else await call_next()

    saga = saga_of(storage, Leg("a", did, act=raises(OSError())), middlewares=[Does(skip)])
    with pytest.raises(SagaParked, match="CallSkipped"):
        await saga.run(Journey())


async def test_an_error_before_the_step_leaves_it_not_done(storage: Storage, did: list[str]) -> None:
    """Whatever the type: even a pivot needs no person then."""

    async def refuse(call: StepCall, call_next: NextStep) -> Any:
        if call.step == "b":
            raise PermissionError
        return await call_next()

    saga = saga_of(storage, Leg("a", did), Leg("b", did, pivot=True), middlewares=[Does(refuse)])
    with pytest.raises(PermissionError):
        await saga.run(Journey(), saga_id="j")
    assert did == ["act a", "undo a"]
    assert await state_of(storage, "j") is SagaState.COMPENSATED


async def test_an_error_before_the_step_is_retried_as_any(storage: Storage, did: list[str]) -> None:
    refusals = [PermissionError()]

    async def refuse(call: StepCall, call_next: NextStep) -> Any:
        if refusals:
            raise refusals.pop()
        return await call_next()

    await saga_of(storage, Leg("a", did, retry=AT_ONCE), middlewares=[Does(refuse)]).run(Journey(), saga_id="j")
    assert did == ["act a"]
    assert "NOT_DONE 1" in await kinds_of(storage, "j")


@pytest.mark.parametrize("options", [{}, {"atomic": True}, {"not_done_on": (NotDone, PermissionError)}])
@pytest.mark.parametrize("error", [PermissionError(), NotDone()])
async def test_an_error_after_the_step_returned_leaves_it_unknown(
    storage: Storage, did: list[str], options: dict[str, Any], error: Exception
) -> None:
    """Whatever the step says of its own errors: it took effect."""

    async def spoil(call: StepCall, call_next: NextStep) -> Any:
        value = await call_next()
        if call.verb == "act":
            raise error
        return value

    saga = saga_of(storage, Leg("a", did, **options), middlewares=[Does(spoil)])
    with pytest.raises(type(error)) as caught:
        await saga.run(Journey(), saga_id="j")
    assert caught.value is error
    assert did == ["act a", "undo a"]
    assert "UNKNOWN 1" in await kinds_of(storage, "j")


async def test_an_error_in_the_place_of_the_steps_own_is_judged_by_its_type(storage: Storage, did: list[str]) -> None:
    async def translate(call: StepCall, call_next: NextStep) -> Any:
        try:
            return await call_next()
        except ConnectionRefusedError as error:
            raise NotDone from error

    saga = saga_of(storage, Leg("a", did, act=raises(ConnectionRefusedError())), middlewares=[Does(translate)])
    with pytest.raises(NotDone):
        await saga.run(Journey(), saga_id="j")
    assert did == ["act a"]


async def test_the_steps_time_limit_holds_for_them_too(storage: Storage, did: list[str]) -> None:
    """And a step that was not reached in time is not done."""

    async def wait(call: StepCall, call_next: NextStep) -> Any:
        await anyio.sleep_forever()

    saga = saga_of(storage, Leg("a", did, timeout=0.01), middlewares=[Does(wait)])
    with pytest.raises(TimeoutError):
        await saga.run(Journey(), saga_id="j")
    assert did == []
    assert "NOT_DONE 1" in await kinds_of(storage, "j")


async def test_a_step_that_is_cut_short_by_its_limit_is_unknown(storage: Storage, did: list[str]) -> None:
    """Also if a middleware makes another error of it."""

    async def translate(call: StepCall, call_next: NextStep) -> Any:
        try:
            return await call_next()
        except anyio.get_cancelled_exc_class():
            raise NotDone from None

    saga = saga_of(storage, Leg("a", did, act=hangs(anyio.Event()), timeout=0.01), middlewares=[Does(translate)])
    with pytest.raises(TimeoutError):
        await saga.run(Journey(), saga_id="j")
    assert did == ["act a", "undo a"]


@pytest.mark.parametrize("plain", [False, True])
@pytest.mark.parametrize("quiet", [False, True])
async def test_a_step_that_a_middleware_cuts_short_is_unknown(
    storage: Storage,
    did: list[str],
    plain: bool,
    quiet: bool,
) -> None:
    """Whether it raises or gives a result of its own."""
    scope = anyio.CancelScope()

    async def limit(call: StepCall, call_next: NextStep) -> Any:
        if call.verb == "undo":
            return await call_next()
        with scope:
            return await call_next()
        if quiet:
            return "well"
        raise TimeoutError

    async def act(journey: Journey) -> None:
        scope.cancel()
        await anyio.sleep_forever()

    def work(journey: Journey) -> None:
        anyio.from_thread.run_sync(scope.cancel)
        while not current_step().cancelled:
            time.sleep(0.001)
        raise OSError

    leg = PlainLeg("a", did, act=work) if plain else Leg("a", did, act=act)
    saga = saga_of(storage, leg, middlewares=[Does(limit)])
    with pytest.raises(MiddlewareMisused if quiet else TimeoutError):
        await saga.run(Journey(), saga_id="j")
    assert did == ["act a", "undo a"]
    assert "UNKNOWN 1" in await kinds_of(storage, "j")


@pytest.mark.parametrize("way", ["returns", "raises", "passes"])
async def test_a_thread_that_still_runs_parks_the_saga_whatever_a_middleware_says(did: list[str], way: str) -> None:
    scope, ends = anyio.CancelScope(), threading.Event()

    async def hush(call: StepCall, call_next: NextStep) -> Any:
        with scope:
            return await call_next()
        if way == "raises":
            raise OSError
        return "well"

    def work(journey: Journey) -> None:
        if way != "passes":
            anyio.from_thread.run_sync(scope.cancel)
        ends.wait()

    # Its thread must have begun by then, also on a busy machine.
    leg = PlainLeg("a", did, act=work, timeout=1.0 if way == "passes" else None)
    saga = saga_of(MemoryStorage(), leg, middlewares=[Does(hush)], grace=0.01)
    try:
        with pytest.raises(SagaParked, match="thread is still running"):
            await saga.run(Journey(), saga_id="j")
    finally:
        ends.set()


@in_still_time
async def test_a_thread_that_returns_although_its_time_is_up_has_done_its_step(did: list[str]) -> None:
    def work(journey: Journey) -> None:
        anyio.from_thread.run(jump, 1.0)
        while not current_step().cancelled:
            time.sleep(0.001)

    saga = saga_of(MemoryStorage(), PlainLeg("a", did, act=work, timeout=1.0), middlewares=[Does(on)])
    assert (await saga.run(Journey())).state is SagaState.COMPLETED


async def test_a_cancellation_passes_through_them_and_undoes(storage: Storage, did: list[str]) -> None:
    began = anyio.Event()
    saga = saga_of(storage, Leg("a", did, act=hangs(began)), middlewares=[Tells("1", did)])
    async with cancelled_once(began, lambda: saga.run(Journey(), saga_id="j")):
        pass
    assert did[:5] == ["1(saga", "1[act", "act a", "]1", "1[undo"]
    assert did[-1].startswith(")1 Cancelled")
    assert await state_of(storage, "j") is SagaState.COMPENSATED


async def test_a_step_is_called_once_in_each_attempt(storage: Storage, did: list[str]) -> None:
    """A second call would hide that the first one may have taken effect; that is what `retry` is for."""

    async def again(call: StepCall, call_next: NextStep) -> Any:
        try:
            return await call_next()
        except OSError:
            return await call_next()

    saga = saga_of(storage, Leg("a", did, act=raises(OSError())), middlewares=[Does(again)])
    with pytest.raises(MiddlewareMisused):
        await saga.run(Journey())
    assert did == ["act a", "undo a"]


async def test_a_step_is_not_called_after_its_attempt(storage: Storage, did: list[str]) -> None:
    late: list[NextStep] = []

    async def keep(call: StepCall, call_next: NextStep) -> Any:
        late.append(call_next)
        raise NotDone

    with pytest.raises(NotDone):
        await saga_of(storage, Leg("a", did), middlewares=[Does(keep)]).run(Journey())
    with pytest.raises(MiddlewareMisused):
        await late[0]()
    assert did == []


# Around a saga


async def test_an_error_before_the_saga_leaves_nothing_of_it(storage: Storage, did: list[str]) -> None:
    async def refuse(call: SagaCall, call_next: NextSaga) -> Any:
        raise PermissionError

    with pytest.raises(PermissionError):
        await saga_of(storage, Leg("a", did), middlewares=[DoesAround(refuse)]).run(Journey())
    assert (did, await storage.find()) == ([], [])


async def test_a_saga_that_was_not_called_on_does_not_run(storage: Storage, did: list[str]) -> None:
    async def skip(call: SagaCall, call_next: NextSaga) -> Any:
        return None

    with pytest.raises(CallSkipped):
        await saga_of(storage, Leg("a", did), middlewares=[DoesAround(skip)]).run(Journey())
    assert (did, await storage.find()) == ([], [])


async def test_a_saga_that_recovery_may_not_run_stays_for_others(did: list[str]) -> None:
    storage, began = MemoryStorage(), anyio.Event()
    leg = Leg("a", did, act=hangs_once(began))
    await lost_in(began, storage, partial(saga_of(storage, leg).run, Journey(), saga_id="j"))

    async def refuse(call: SagaCall, call_next: NextSaga) -> Any:
        raise PermissionError

    with pytest.raises(PermissionError):
        await recover_saga(saga_of(storage, leg, middlewares=[DoesAround(refuse)]), "j")
    assert (await recover_saga(saga_of(storage, leg), "j")).state is SagaState.COMPLETED


async def test_an_error_after_the_saga_goes_to_the_caller_and_changes_nothing(storage: Storage, did: list[str]) -> None:
    async def spoil(call: SagaCall, call_next: NextSaga) -> Any:
        await call_next()
        raise PermissionError

    with pytest.raises(PermissionError):
        await saga_of(storage, Leg("a", did), middlewares=[DoesAround(spoil)]).run(Journey(), saga_id="j")
    assert await state_of(storage, "j") is SagaState.COMPLETED


async def test_an_error_in_the_place_of_the_sagas_own_goes_to_the_caller(storage: Storage, did: list[str]) -> None:
    async def translate(call: SagaCall, call_next: NextSaga) -> Any:
        try:
            return await call_next()
        except OSError as error:
            raise PermissionError from error

    saga = saga_of(storage, Leg("a", did, act=raises(OSError())), middlewares=[DoesAround(translate)])
    with pytest.raises(PermissionError):
        await saga.run(Journey(), saga_id="j")
    assert await state_of(storage, "j") is SagaState.COMPENSATED


async def test_an_error_of_the_saga_is_not_swallowed(storage: Storage, did: list[str]) -> None:
    async def swallow(call: SagaCall, call_next: NextSaga) -> Any:
        try:
            return await call_next()
        except OSError:
            return None

    mine = OSError()
    saga = saga_of(storage, Leg("a", did, act=raises(mine)), middlewares=[DoesAround(swallow)])
    with pytest.raises(OSError) as caught:  # noqa: PT011 - this very one
        await saga.run(Journey())
    assert caught.value is mine


async def test_a_parked_saga_is_seen_as_parked(storage: Storage, did: list[str]) -> None:
    leg = Leg("a", did, undo=raises(OSError()))
    saga = saga_of(storage, leg, Leg("b", did), middlewares=[Tells("1", did)])
    with pytest.raises(SagaParked):
        async with saga.transaction(Journey()) as transaction:
            await anext(transaction)
            raise KeyError
    assert did[-1] == ")1 SagaParked"


async def test_a_scope_around_a_saga_holds_for_its_steps(storage: Storage, did: list[str]) -> None:
    limits: list[anyio.CancelScope] = []

    async def limit(call: SagaCall, call_next: NextSaga) -> Any:
        with anyio.fail_after(60) as scope:
            limits.append(scope)
            return await call_next()

    async def outlasts_it(journey: Journey) -> None:
        limits[0].deadline = anyio.current_time()
        await anyio.sleep_forever()

    leg = Leg("b", did, act=outlasts_it)
    saga = saga_of(storage, Leg("a", did), leg, middlewares=[DoesAround(limit)])
    with anyio.fail_after(30), pytest.raises(TimeoutError):
        await saga.run(Journey(), saga_id="j")
    assert did == ["act a", "act b", "undo b", "undo a"]


async def test_a_cancellation_is_not_swallowed(storage: Storage, did: list[str]) -> None:
    """What a scope around a saga has sent, and caught, is no cancellation of the caller."""

    async def limit(call: SagaCall, call_next: NextSaga) -> Any:
        with anyio.CancelScope() as scope:
            scopes.append(scope)
            return await call_next()

    async def outlasts_it(journey: Journey) -> None:
        scopes[0].cancel()
        await anyio.sleep_forever()

    scopes: list[anyio.CancelScope] = []
    leg = Leg("b", did, act=outlasts_it)
    saga = saga_of(storage, Leg("a", did), leg, middlewares=[DoesAround(limit)])
    with pytest.raises(StrayCancellation, match=r"what stands around saga 'journey' \(j\)"):
        await saga.run(Journey(), saga_id="j")
    assert did == ["act a", "act b", "undo b", "undo a"]


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
@pytest.mark.parametrize("late", [False, True], ids=["before", "after"])
async def test_a_cancelled_task_that_a_middleware_awaits_cancels_nobody(
    storage: Storage,
    did: list[str],
    late: bool,
) -> None:
    async def stray(call: SagaCall, call_next: NextSaga) -> Any:
        if late:
            await call_next()
        task = asyncio.ensure_future(anyio.sleep_forever())
        task.cancel()
        await task

    saga = saga_of(storage, Leg("a", did), middlewares=[DoesAround(stray)])
    with pytest.raises(StrayCancellation, match=r"what stands around saga 'journey' \(j\)") as caught:
        await saga.run(Journey(), saga_id="j")
    assert isinstance(caught.value.__cause__, asyncio.CancelledError)
    assert did == (["act a"] if late else [])


async def test_a_cancellation_of_the_caller_stays_one_though_it_is_swallowed(storage: Storage, did: list[str]) -> None:
    async def swallow(call: SagaCall, call_next: NextSaga) -> Any:
        with suppress(BaseException):
            await call_next()

    async def act(journey: Journey) -> None:
        scope.cancel()
        await anyio.sleep_forever()

    with anyio.CancelScope() as scope:
        await saga_of(storage, Leg("a", did, act=act), middlewares=[DoesAround(swallow)]).run(Journey())
    assert scope.cancelled_caught
    assert did == ["act a", "undo a"]


async def test_a_saga_is_called_on_once(storage: Storage, did: list[str]) -> None:
    async def again(call: SagaCall, call_next: NextSaga) -> Any:
        await call_next()
        with pytest.raises(MiddlewareMisused):
            await call_next()
        did.append("refused")

    await saga_of(storage, Leg("a", did), middlewares=[DoesAround(again)]).run(Journey())
    assert did == ["act a", "refused"]


async def test_a_saga_is_called_on_in_its_own_task(storage: Storage, did: list[str]) -> None:
    async def elsewhere(call_next: NextSaga) -> None:
        with pytest.raises(MiddlewareMisused):
            await call_next()
        did.append("refused")

    async def misuse(call: SagaCall, call_next: NextSaga) -> Any:
        async with anyio.create_task_group() as group:
            group.start_soon(elsewhere, call_next)
            await anyio.wait_all_tasks_blocked()
        return await call_next()

    await saga_of(storage, Leg("a", did), middlewares=[DoesAround(misuse)]).run(Journey())
    assert did == ["refused", "act a"]


# Logging


async def test_the_log_tells_of_sagas_and_steps_and_of_no_secret(
    storage: Storage, did: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    async def tell(journey: Journey) -> None:
        raise ValueError(journey.card)

    legs: list[tuple[Deed, int]] = [(no_stop, logging.INFO), (tell, logging.WARNING)]
    for act, worst in legs:
        caplog.clear()
        saga = saga_of(storage, Leg("a", did, act=act), middlewares=[LoggingMiddleware()])
        with caplog.at_level(logging.INFO, "anysaga.sagas"):
            try:
                await saga.run(Journey(["secret place"]), saga_id=f"j{worst}")
            except ValueError:
                assert worst == logging.WARNING
        assert max(record.levelno for record in caplog.records) == worst
        assert CARD not in caplog.text
        assert "secret place" not in caplog.text
    messages = [record.getMessage() for record in caplog.records]
    assert messages[0] == "saga journey (j30) begins"
    assert messages[1].startswith("act of a, attempt 1, in saga journey (j30) failed after ")
    assert messages[2].startswith("undo of a, attempt 1, in saga journey (j30) took ")
    assert messages[3].startswith("saga journey (j30) failed after ")
    assert messages[3].endswith(": ValueError")
