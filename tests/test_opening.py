"""D4: the same id again."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import anyio
import pytest
from attrs import define, evolve
from journeys import Journey, Leg, ProbedLeg, WatchedStorage, raises, saga_of
from trips import Book, Trip, trip_of

from anysaga import (
    CorruptRecord,
    MemoryStorage,
    NotDone,
    NotReadable,
    Parallel,
    Saga,
    SagaAbandoned,
    SagaAlreadyRunning,
    SagaCompensated,
    SagaMismatch,
    SagaNotFound,
    SagaParked,
    SagaState,
    Step,
    abandon,
    recover_saga,
)
from anysaga.abc import Claim, EntryKind, NewSaga, Storage

pytestmark = pytest.mark.anyio


async def suspended(saga: Saga[Journey], saga_id: str = "j", *, steps: int = 1) -> None:
    """Run some steps of a saga, and give it back."""
    async with saga.transaction(Journey(), saga_id=saga_id) as transaction:
        for _ in range(steps):
            await anext(transaction)
        await transaction.suspend()


async def test_a_saga_without_an_owner_goes_on_with_what_is_left(storage: Storage, did: list[str]) -> None:
    saga = saga_of(storage, Leg("a", did), Leg("b", did), Leg("c", did))
    await suspended(saga)
    async with saga.transaction(Journey(), saga_id="j") as transaction:
        assert [step.step_name async for step in transaction] == ["b", "c"]
        assert [step.response for step in transaction.result] == ["a reached", "b reached", "c reached"]
    assert did == ["act a", "act b", "act c"]


async def test_a_resumed_saga_fills_the_callers_object_in_place(storage: Storage, did: list[str]) -> None:
    saga = saga_of(storage, Leg("a", did), Leg("b", did))
    await suspended(saga)
    mine = Journey()
    async with saga.transaction(mine, saga_id="j") as transaction:
        assert transaction.context is mine
        assert mine.stops == ["a"]
        await transaction.run_to_end()
    assert mine.stops == ["a", "b"]


async def test_none_as_the_context_resumes_with_the_stored_one(storage: Storage, did: list[str]) -> None:
    saga = saga_of(storage, Leg("a", did), Leg("b", did))
    await suspended(saga)
    result = await saga.run(saga_id="j")
    assert result.context == Journey(["a", "b"])


async def test_an_id_that_nobody_started_cannot_be_resumed(storage: Storage, did: list[str]) -> None:
    with pytest.raises(SagaNotFound, match="'nobody'"):
        await saga_of(storage, Leg("a", did)).run(saga_id="nobody")


async def test_a_saga_that_runs_in_this_process_is_refused(storage: Storage, did: list[str]) -> None:
    saga = saga_of(storage, Leg("a", did), Leg("b", did))
    async with saga.transaction(Journey(), saga_id="j") as transaction:
        await anext(transaction)
        for context in (Journey(), None):
            with pytest.raises(SagaAlreadyRunning, match="'j'"):
                await saga.run(context, saga_id="j")
        await transaction.run_to_end()
    assert did == ["act a", "act b"]


async def test_a_saga_that_runs_in_another_process_is_refused_by_the_name_of_its_owner(did: list[str]) -> None:
    storage = MemoryStorage(label="host-1")
    async with saga_of(storage, Leg("a", did)).transaction(Journey(), saga_id="j") as transaction:
        with pytest.raises(SagaAlreadyRunning, match="host-1"):
            await saga_of(storage.twin(), Leg("a", did)).run(Journey(), saga_id="j")
        await transaction.run_to_end()


async def test_a_saga_whose_owner_is_dead_is_resumed(did: list[str]) -> None:
    storage = MemoryStorage()
    transaction = await saga_of(storage, Leg("a", did), Leg("b", did)).transaction(Journey(), saga_id="j").__aenter__()
    await anext(transaction)
    storage.kill()
    assert (
        await saga_of(storage.twin(), Leg("a", did), Leg("b", did)).run(Journey(), saga_id="j")
    ).state == "COMPLETED"


async def test_of_two_tasks_that_start_one_id_at_once_one_runs(storage: Storage, did: list[str]) -> None:
    """I11."""
    saga = saga_of(storage, Leg("a", did), Leg("b", did))
    ends: list[object] = []

    async def start() -> None:
        try:
            ends.append((await saga.run(Journey(), saga_id="j")).state)
        except SagaAlreadyRunning as error:
            ends.append(type(error))

    async with anyio.create_task_group() as group:
        for _ in range(5):
            group.start_soon(start)
    assert did == ["act a", "act b"]
    assert ends.count(SagaState.COMPLETED) >= 1
    assert set(ends) <= {SagaState.COMPLETED, SagaAlreadyRunning}


async def test_a_completed_saga_gives_its_stored_result_and_acts_no_more(storage: Storage, did: list[str]) -> None:
    saga = saga_of(storage, Leg("a", did))
    first = await saga.run(Journey(), saga_id="j")
    mine = Journey()
    second = await saga.run(mine, saga_id="j")
    assert (second.state, second.steps, second.context) == (SagaState.COMPLETED, first.steps, Journey(["a"]))
    assert second.context is mine
    assert did == ["act a"]


async def test_a_completed_saga_yields_nothing(storage: Storage, did: list[str]) -> None:
    saga = saga_of(storage, Leg("a", did))
    await saga.run(Journey(), saga_id="j")
    async with saga.transaction(saga_id="j") as transaction:
        assert [step async for step in transaction] == []
        assert transaction.state is SagaState.COMPLETED
        await transaction.abort()
        await transaction.suspend()
    assert did == ["act a"]


@pytest.mark.parametrize("context", [Journey(), None], ids=["with a context", "without"])
async def test_a_compensated_saga_raises_with_its_first_cause(
    storage: Storage, did: list[str], context: Journey | None
) -> None:
    saga = saga_of(storage, Leg("a", did, act=raises(OSError("no bus"))))
    with pytest.raises(OSError, match="no bus"):
        await saga.run(Journey(), saga_id="j")
    with pytest.raises(SagaCompensated, match="OSError: no bus") as caught:
        await saga.run(context, saga_id="j")
    assert (caught.value.saga, caught.value.saga_id) == ("journey", "j")
    assert did == ["act a", "undo a"]


async def test_a_parked_saga_raises_with_its_step_and_reason(storage: Storage, did: list[str]) -> None:
    saga = saga_of(storage, Leg("a", did, act=raises(OSError("no bus")), pivot=True))
    for context in (Journey(), Journey(), None):
        with pytest.raises(SagaParked, match="no bus") as caught:
            await saga.run(context, saga_id="j")
        assert caught.value.step == "a"
    assert did == ["act a"]


async def test_an_abandoned_saga_raises_with_the_reason_a_person_gave(storage: Storage, did: list[str]) -> None:
    saga = saga_of(storage, Leg("a", did, act=raises(OSError()), pivot=True))
    with pytest.raises(SagaParked):
        await saga.run(Journey(), saga_id="j")
    await abandon("j", storage=storage, reason="settled by phone")
    with pytest.raises(SagaAbandoned, match="settled by phone"):
        await saga.run(Journey(), saga_id="j")
    assert did == ["act a"]


@pytest.mark.parametrize("ended", [True, False], ids=["completed", "interrupted"])
async def test_another_payload_under_the_same_id_is_refused_and_changes_nothing(
    storage: Storage, did: list[str], *, ended: bool
) -> None:
    saga = saga_of(storage, Leg("a", did), Leg("b", did))
    await (saga.run(Journey(), saga_id="j") if ended else suspended(saga))
    before = await storage.load("j")
    other = Journey(["elsewhere"])
    with pytest.raises(SagaMismatch, match="another context"):
        await saga.run(other, saga_id="j")
    assert other == Journey(["elsewhere"])
    assert await storage.load("j") == before


async def test_the_payload_that_counts_is_the_initial_one(storage: Storage, did: list[str]) -> None:
    """What the steps made of the context since is no other payload, and giving it is."""
    saga = saga_of(storage, Leg("a", did), Leg("b", did))
    await suspended(saga)
    with pytest.raises(SagaMismatch):
        await saga.run(Journey(["a"]), saga_id="j")
    assert (await saga.run(Journey(), saga_id="j")).state is SagaState.COMPLETED


async def test_an_id_of_another_saga_is_refused(storage: Storage, did: list[str]) -> None:
    await saga_of(storage, Leg("a", did)).run(Journey(), saga_id="j")
    other = Saga[Journey](name="pilgrimage", steps=[Leg("a", did)], storage=storage)
    for context in (Journey(), None):
        with pytest.raises(SagaMismatch, match="'journey', not 'pilgrimage'"):
            await other.run(context, saga_id="j")


async def test_a_completed_saga_of_other_steps_is_refused_with_the_difference(storage: Storage, did: list[str]) -> None:
    await saga_of(storage, Leg("a", did)).run(Journey(), saga_id="j")
    with pytest.raises(SagaMismatch, match="2 b"):
        await saga_of(storage, Leg("a", did), Leg("b", did)).run(saga_id="j")


async def test_an_interrupted_saga_of_other_steps_is_parked_with_the_difference(
    storage: Storage, did: list[str]
) -> None:
    """I12: never guessed."""
    await suspended(saga_of(storage, Leg("a", did), Leg("b", did)))
    with pytest.raises(SagaParked, match=r"steps 1 a, 2 b, and the code has 1 a, 2 c"):
        await saga_of(storage, Leg("a", did), Leg("c", did)).run(saga_id="j")
    assert (await storage.load("j")).summary.state is SagaState.PARKED
    assert did == ["act a"]


async def test_an_interrupted_saga_of_another_version_is_parked(storage: Storage, did: list[str]) -> None:
    await suspended(saga_of(storage, Leg("a", did), Leg("b", did)))
    with pytest.raises(SagaParked, match="version 1, and the code is version 2"):
        await saga_of(storage, Leg("a", did), Leg("b", did), version=2).run(Journey(), saga_id="j")


async def test_what_a_later_version_began_is_left_alone(storage: Storage, did: list[str]) -> None:
    """A request that is repeated may meet a process that has the earlier code yet."""
    await suspended(saga_of(storage, Leg("a", did), Leg("b", did), version=2))
    with pytest.raises(SagaMismatch, match="begun by version 2, and this code has version 1"):
        await saga_of(storage, Leg("a", did), Leg("b", did)).run(Journey(), saga_id="j")
    assert (await storage.load("j")).summary.state is SagaState.RUNNING


async def test_a_step_that_became_a_pivot_is_another_step(storage: Storage, did: list[str]) -> None:
    await suspended(saga_of(storage, Leg("a", did), Leg("b", did)))
    with pytest.raises(SagaParked, match=r"2 b \(pivot\)"):
        await saga_of(storage, Leg("a", did), Leg("b", did, pivot=True)).run(saga_id="j")


async def test_a_step_that_got_a_probe_or_a_retry_is_the_same_step(storage: Storage, did: list[str]) -> None:
    await suspended(saga_of(storage, Leg("a", did), Leg("b", did)))
    changed = saga_of(storage, ProbedLeg("a", did), Leg("b", did, retry=Leg.compensate_retry, timeout=60.0))
    assert (await changed.run(saga_id="j")).state is SagaState.COMPLETED


@define
class Narrow:
    """What became of the context: a field is gone, and another one has no default."""

    name: str


class Walk(Step[Narrow]):
    name = "b"

    async def act(self, narrow: Narrow) -> None:
        raise AssertionError

    async def compensate(self, narrow: Narrow) -> None:
        raise AssertionError


async def test_a_context_that_cannot_be_read_any_more_parks_the_saga(storage: Storage, did: list[str]) -> None:
    await suspended(saga_of(storage, Leg("b", did)), steps=0)
    saga = Saga[Narrow](name="journey", steps=[Walk], storage=storage)
    with pytest.raises(SagaParked, match="cannot be read"):
        await saga.run(saga_id="j")
    assert (await storage.load("j")).summary.state is SagaState.PARKED


async def test_a_saga_whose_caller_is_cancelled_while_it_is_stored_is_not_kept(did: list[str]) -> None:
    """Or it would be ours for as long as this process lives."""

    class Slow(MemoryStorage):
        waits = True

        async def create(self, new: NewSaga) -> Claim | None:
            claim = await super().create(new)
            scope.cancel()
            await anyio.lowlevel.checkpoint()
            return claim

    storage = Slow()
    with anyio.CancelScope() as scope:
        await saga_of(storage, Leg("a", did)).run(Journey(), saga_id="j")
    assert scope.cancelled_caught
    assert ((await storage.load("j")).summary.owner, did) == (None, [])


async def test_a_parked_saga_whose_log_does_not_say_where_is_parked_all_the_same(
    storage: Storage, did: list[str]
) -> None:
    """It may hold what this version cannot read."""
    assert await storage.create(NewSaga("j", "journey", 1, "[]", "", "{}", SagaState.PARKED)) is not None
    with pytest.raises(SagaParked):
        await saga_of(storage, Leg("a", did)).run(saga_id="j")


async def test_a_merged_context_that_is_damaged_is_not_readable(did: list[str]) -> None:
    storage = MemoryStorage()
    saga = trip_of(storage, Parallel(Book("a", did), Book("b", did)))
    await saga.run(Trip(), saga_id="t")
    entries = storage._shelf.sagas["t"].entries
    entries[:] = [evolve(entry, context="{") if entry.kind is EntryKind.DONE else entry for entry in entries]
    with pytest.raises(NotReadable, match="does not follow"):
        await saga.run(saga_id="t")


async def test_a_saga_that_went_back_is_shown_with_what_its_undos_wrote(storage: Storage, did: list[str]) -> None:
    async def undo(journey: Journey) -> None:
        journey.stops.append("home")

    saga = saga_of(storage, Leg("a", did, undo=undo), Leg("b", did, act=raises(NotDone())))
    with pytest.raises(NotDone):
        await saga.run(Journey(), saga_id="j")
    context = (await recover_saga(saga, "j")).context
    assert context is not None
    assert context.stops[-1] == "home"


@pytest.mark.parametrize(
    "opens", [lambda saga: recover_saga(saga, "j"), lambda saga: saga.run(saga_id="j")], ids=["recovery", "caller"]
)
async def test_a_misfit_that_cannot_be_parked_is_given_back(
    did: list[str], opens: Callable[[Saga[Journey]], Awaitable[object]]
) -> None:
    storage = WatchedStorage()
    await suspended(saga_of(storage, Leg("a", did), Leg("b", did)))
    storage.fails.append(CorruptRecord("j", "a test says so"))
    with pytest.raises(CorruptRecord):
        await opens(saga_of(storage, Leg("a", did)))
    assert (await storage.load("j")).summary.owner is None
