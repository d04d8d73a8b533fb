"""A step in doubt that can be asked."""

from __future__ import annotations

import threading
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import anyio.lowlevel
import pytest
from journeys import (
    AT_ONCE,
    Deed,
    Journey,
    Leg,
    PlainLeg,
    ProbedLeg,
    errors_of,
    fails,
    hangs,
    kinds_of,
    lost_in,
    raises,
    saga_of,
)
from virtual_time import in_jumping_time

from anysaga import MemoryStorage, NotDone, Outcome, SagaParked, SagaState, recover_saga
from anysaga.abc import EntryKind, Storage
from anysaga.storages._clock import ManualClock

pytestmark = pytest.mark.anyio


@pytest.fixture
def storage() -> MemoryStorage:
    """No law here depends on how a store keeps its sagas."""
    return MemoryStorage()


def answers(outcome: Any) -> Any:
    """An answer of a probe."""
    return lambda: outcome


def fails_to_answer() -> Outcome:
    """No answer at all."""
    raise TimeoutError("the service is away")


async def test_a_probe_that_says_done_lets_the_saga_go_on(storage: Storage, did: list[str]) -> None:
    leg = ProbedLeg("a", did, act=raises(OSError()), answer=answers(Outcome.DONE))
    assert (await saga_of(storage, leg, Leg("b", did)).run(Journey())).state is SagaState.COMPLETED
    assert did == ["act a", "probe a", "act b"]


@pytest.mark.parametrize("last", [False, True])
async def test_a_step_that_is_done_by_its_probe_is_shown_as_any_other(
    storage: Storage, did: list[str], *, last: bool
) -> None:
    """Its response is lost."""
    leg = ProbedLeg("a", did, act=raises(OSError()), answer=answers(Outcome.DONE))
    legs = [Leg("b", did), leg] if last else [leg, Leg("b", did)]
    async with saga_of(storage, *legs).transaction(Journey()) as transaction:
        seen = {step.step_name: step.response async for step in transaction}
    assert seen == {"a": None, "b": "b reached"}
    assert [step.response for step in transaction.result if step.step_name == "a"] == [None]


async def test_the_error_of_a_step_that_its_probe_calls_done_is_not_the_saga_s(
    storage: Storage, did: list[str]
) -> None:
    leg = ProbedLeg("a", did, act=raises(OSError("an answer was lost")), answer=answers(Outcome.DONE))
    with pytest.raises(ValueError, match="mine"):
        await saga_of(storage, leg, Leg("b", did, act=raises(ValueError("mine")))).run(Journey())
    assert did == ["act a", "probe a", "act b", "undo b", "undo a"]


class LookingProbe(ProbedLeg):
    """A step whose probe does something with the context."""

    looks: Deed

    async def probe(self, journey: Journey) -> Outcome:
        await self.looks(journey)
        return await super().probe(journey)


async def test_what_a_step_in_doubt_wrote_is_kept_when_its_probe_says_done(storage: Storage, did: list[str]) -> None:
    leg = ProbedLeg("a", did, act=raises(OSError()), answer=answers(Outcome.DONE))
    assert (await saga_of(storage, leg, Leg("b", did)).run(Journey())).context.stops == ["a", "b"]


async def test_the_caller_s_context_has_what_the_last_step_wrote_whose_probe_says_done(
    storage: Storage, did: list[str]
) -> None:
    journey = Journey()
    leg = ProbedLeg("b", did, act=raises(OSError()), answer=answers(Outcome.DONE))
    result = await saga_of(storage, Leg("a", did), leg).run(journey, saga_id="j")
    assert journey.stops == ["a", "b"]
    assert result.context is journey


async def test_the_caller_s_context_has_what_a_failed_step_wrote_whose_probe_says_not_done(
    storage: Storage, did: list[str]
) -> None:
    """As it has without a probe."""
    journey = Journey()
    leg = ProbedLeg("a", did, act=raises(OSError()), answer=answers(Outcome.NOT_DONE))
    with pytest.raises(OSError):  # noqa: PT011 - it has no text
        await saga_of(storage, leg).run(journey)
    assert journey.stops == ["a"]


async def test_a_probe_sees_what_its_act_began_with_and_what_it_writes_is_forgotten(
    storage: Storage, did: list[str]
) -> None:
    """C3: only acts and undos change the context."""

    async def look(journey: Journey) -> None:
        did.append(f"saw {journey.stops}")
        journey.stops.append("nowhere")

    async def act(journey: Journey) -> None:
        did.append(f"began with {journey.stops}")

    leg = LookingProbe("b", did, act=raises(OSError()), answer=answers(Outcome.DONE))
    leg.looks = look
    result = await saga_of(storage, Leg("a", did), leg, Leg("c", did, act=act)).run(Journey())
    assert did == ["act a", "act b", "saw ['a']", "probe b", "act c", "began with ['a', 'b', 'c']"]
    assert result.context.stops == ["a", "b", "c"]


async def test_a_probe_that_says_not_done_spares_the_step_its_undo(storage: Storage, did: list[str]) -> None:
    leg = ProbedLeg("b", did, act=raises(OSError("mine")), answer=answers(Outcome.NOT_DONE))
    with pytest.raises(OSError, match="mine"):
        await saga_of(storage, Leg("a", did), leg).run(Journey())
    assert did == ["act a", "act b", "probe b", "undo a"]


@pytest.mark.parametrize(
    "answer",
    [answers(Outcome.UNKNOWN), answers("DONE"), answers(None), answers(True), fails_to_answer],
    ids=["unknown", "text", "none", "bool", "raises"],
)
async def test_a_probe_without_a_clear_answer_leaves_the_step_in_doubt(
    storage: Storage, did: list[str], answer: Any
) -> None:
    leg = ProbedLeg("b", did, act=raises(OSError("mine")), answer=answer)
    with pytest.raises(OSError, match="mine"):
        await saga_of(storage, Leg("a", did), leg).run(Journey())
    assert did == ["act a", "act b", "probe b", "undo b", "undo a"]


async def test_why_a_probe_gave_no_answer_is_kept_in_the_log(storage: Storage, did: list[str]) -> None:
    leg = ProbedLeg("a", did, act=raises(OSError()), answer=fails_to_answer)
    with pytest.raises(OSError):  # noqa: PT011 - it has no text
        await saga_of(storage, leg).run(Journey(), saga_id="j")
    (probed,) = [entry for entry in (await storage.load("j")).entries if entry.kind is EntryKind.PROBED]
    assert (probed.outcome, probed.error) == (Outcome.UNKNOWN, "TimeoutError: the service is away")


@in_jumping_time
async def test_a_probe_that_runs_out_of_its_time_says_so_in_the_log(storage: Storage, did: list[str]) -> None:
    class Silent(ProbedLeg):
        async def probe(self, journey: Journey) -> Outcome:
            await anyio.sleep_forever()
            raise AssertionError

    with pytest.raises(OSError):  # noqa: PT011 - it has no text
        await saga_of(storage, Silent("a", did, act=raises(OSError()), timeout=1.0)).run(Journey(), saga_id="j")
    (error,) = await errors_of(storage, "j", EntryKind.PROBED)
    assert error.startswith("StepTimeout: ")


async def test_nothing_is_undone_while_the_thread_of_a_probe_runs(storage: Storage, did: list[str]) -> None:
    """F: it may work on the context still."""
    goes_on = threading.Event()

    class Deaf(PlainLeg):
        timeout = 1.0  # its thread must have begun by then, also on a busy machine

        def probe(self, journey: Journey) -> Outcome:
            assert goes_on.wait(20)
            return Outcome.DONE

    def fail(journey: Journey) -> None:
        raise OSError

    try:
        with pytest.raises(SagaParked, match="still running"):
            await saga_of(storage, Deaf("a", did, act=fail), grace=0.02).run(Journey())
    finally:
        goes_on.set()
    assert did == ["act a"]


async def test_a_step_that_is_done_or_cleanly_not_done_is_not_asked(storage: Storage, did: list[str]) -> None:
    with pytest.raises(NotDone):
        await saga_of(storage, ProbedLeg("a", did), ProbedLeg("b", did, act=raises(NotDone()))).run(Journey())
    assert did == ["act a", "act b", "undo a"]


async def test_attempts_that_are_left_come_before_the_probe(storage: Storage, did: list[str]) -> None:
    """Rule R: first the retries, then the question."""
    leg = ProbedLeg("a", did, act=raises(OSError()), retry=AT_ONCE, answer=answers(Outcome.DONE))
    await saga_of(storage, leg).run(Journey())
    assert did == ["act a"] * 3 + ["probe a"]


async def test_a_retry_that_works_needs_no_probe(storage: Storage, did: list[str]) -> None:
    await saga_of(storage, ProbedLeg("a", did, act=fails(1, OSError()), retry=AT_ONCE)).run(Journey())
    assert did == ["act a", "act a"]


@pytest.mark.parametrize(
    ("answer", "state", "after"),
    [
        (Outcome.DONE, SagaState.COMPLETED, []),
        (Outcome.NOT_DONE, SagaState.COMPENSATED, ["undo a"]),
        (Outcome.UNKNOWN, SagaState.PARKED, []),
    ],
)
async def test_a_pivot_in_doubt_is_asked_and_otherwise_parked(
    storage: Storage, did: list[str], answer: Outcome, state: SagaState, after: list[str]
) -> None:
    leg = ProbedLeg("p", did, act=raises(OSError()), pivot=True, answer=answers(answer))
    try:
        await saga_of(storage, Leg("a", did), leg).run(Journey(), saga_id="j")
    except (OSError, SagaParked):
        assert state is not SagaState.COMPLETED
    assert (await storage.load("j")).summary.state is state
    assert did == ["act a", "act p", "probe p", *after]


@pytest.mark.parametrize(
    ("answer", "after"),
    [
        (Outcome.DONE, ["act b"]),
        (Outcome.NOT_DONE, []),
        (Outcome.UNKNOWN, ["undo a"]),
    ],
)
async def test_recovery_asks_about_an_attempt_that_was_lost_and_does_not_act_again(
    did: list[str], answer: Outcome, after: list[str]
) -> None:
    storage, began = MemoryStorage(), anyio.Event()
    saga = saga_of(storage, ProbedLeg("a", did, act=hangs(began)), Leg("b", did))
    await lost_in(began, storage, lambda: saga.run(Journey(), saga_id="j"))
    await recover_saga(saga_of(storage, ProbedLeg("a", did, answer=answers(answer)), Leg("b", did)), "j")
    assert did == ["act a", "probe a", *after]


async def test_going_back_asks_about_the_step_in_doubt_before_it_undoes_it(did: list[str]) -> None:
    """B1: a probe may settle an outcome below a BACK."""
    storage, began = MemoryStorage(), anyio.Event()
    saga = saga_of(storage, Leg("a", did), ProbedLeg("b", did, act=hangs(began), answer=answers(Outcome.NOT_DONE)))
    async with anyio.create_task_group() as group:
        group.start_soon(lambda: saga.run(Journey(), saga_id="j"))
        await began.wait()
        group.cancel_scope.cancel()
    assert did == ["act a", "act b", "probe b", "undo a"]
    assert "PROBED 2" in await kinds_of(storage, "j")


class SlowProbe(ProbedLeg):
    """A step whose probe waits for something."""

    waits_for: Callable[[], Awaitable[None]] = staticmethod(anyio.sleep_forever)

    async def probe(self, journey: Journey) -> Outcome:
        await self.waits_for()
        return await super().probe(journey)


@in_jumping_time
async def test_the_limit_of_a_saga_ends_a_probe_on_the_way_forward(storage: Storage, did: list[str]) -> None:
    """B6: one that hangs would keep the saga for ever."""
    leg = SlowProbe("a", did, act=raises(OSError("mine")))
    with anyio.fail_after(30), pytest.raises(OSError, match="mine"):
        await saga_of(storage, leg, timeout=10.0).run(Journey(), saga_id="j")
    assert did == ["act a", "undo a"]
    assert "SagaTimeout" in (await errors_of(storage, "j", EntryKind.PROBED))[0]


@pytest.mark.parametrize(
    ("options", "expected"), [({"pivot": True}, ["probe a"]), ({}, ["probe a", "undo a"])], ids=["pivot", "back"]
)
async def test_the_limit_of_a_saga_ends_no_probe_of_a_pivot_and_none_on_the_way_back(
    did: list[str], options: dict[str, Any], expected: list[str]
) -> None:
    clock = ManualClock()
    storage = MemoryStorage(clock=clock)
    began = anyio.Event()
    lost = saga_of(storage, ProbedLeg("a", did, act=hangs(began), **options), timeout=60.0)
    await lost_in(began, storage, lambda: lost.run(Journey(), saga_id="j"))
    clock.advance(61)
    leg = SlowProbe("a", did, answer=answers(Outcome.DONE), waits_for=anyio.lowlevel.checkpoint, **options)
    await recover_saga(saga_of(storage, leg, timeout=60.0), "j")
    assert did == ["act a", *expected]
