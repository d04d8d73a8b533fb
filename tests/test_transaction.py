"""One run as `async with` and `async for`: what is yielded, and what leaving in each way does to the saga."""

from __future__ import annotations

import gc
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TypeVar

import anyio
import pytest
from journeys import Journey, Leg, hangs, lost_in, raises, saga_of
from trips import Book, Trip, trip_of

from anysaga import (
    MemoryStorage,
    Parallel,
    PivotPassed,
    SagaCompensated,
    SagaMap,
    SagaMediator,
    SagaParked,
    SagaState,
    SQLAlchemyStorage,
    StrayStop,
    TransactionMisused,
    UnfinishedSagaWarning,
)
from anysaga.abc import Container, Scope, Storage

pytestmark = pytest.mark.anyio

MadeT = TypeVar("MadeT")


async def test_each_step_that_is_done_is_yielded_once_and_the_result_has_them_all(
    storage: Storage, did: list[str]
) -> None:
    async with saga_of(storage, Leg("a", did), Leg("b", did)).transaction(Journey()) as transaction:
        seen = [step async for step in transaction]
        assert tuple(seen) == transaction.result.steps
    assert [step.response for step in seen] == ["a reached", "b reached"]


@pytest.mark.parametrize("way", ["iterate", "run", "stream"])
async def test_a_step_that_ends_with_the_end_of_an_iterator_does_not_end_the_iteration(
    did: list[str], way: str
) -> None:
    """The loop would end as if the saga were completed, though it was undone."""
    saga = saga_of(MemoryStorage(), Leg("a", did), Leg("b", did, act=raises(StopAsyncIteration())))
    with pytest.raises(StrayStop, match="step 'b' of saga 'journey'") as caught:
        match way:
            case "run":
                await saga.run(Journey())
            case "iterate":
                async with saga.transaction(Journey()) as transaction:
                    [step async for step in transaction]
            case _:
                sagas = SagaMap()
                sagas.bind(Journey, saga)
                async with SagaMediator(sagas) as mediator, mediator.stream(Journey()) as steps:
                    [step async for step in steps]
    assert isinstance(caught.value.__cause__, StopAsyncIteration)
    assert did == ["act a", "act b", "undo b", "undo a"]


async def test_a_step_is_yielded_before_the_next_one_acts(storage: Storage, did: list[str]) -> None:
    async with saga_of(storage, Leg("a", did), Leg("b", did)).transaction(Journey()) as transaction:
        async for step in transaction:
            did.append(f"see {step.step_name}")  # noqa: PERF401 - what is seen in between is the point
    assert did == ["act a", "see a", "act b", "see b"]


async def test_the_last_result_comes_when_the_end_is_durable(storage: Storage, did: list[str]) -> None:
    async with saga_of(storage, Leg("a", did), Leg("b", did)).transaction(Journey(), saga_id="j") as transaction:
        states = [(await storage.load("j")).summary.state async for _ in transaction]
    assert states == [SagaState.RUNNING, SagaState.COMPLETED]


async def test_an_exception_after_the_last_result_undoes_nothing(storage: Storage, did: list[str]) -> None:
    with pytest.raises(KeyError):
        async with saga_of(storage, Leg("a", did)).transaction(Journey(), saga_id="j") as transaction:
            async for _ in transaction:
                raise KeyError
    assert (await storage.load("j")).summary.state is SagaState.COMPLETED
    assert did == ["act a"]


async def test_an_exception_of_the_body_undoes_and_leaves_as_it_is_with_a_note(
    storage: Storage, did: list[str]
) -> None:
    mine = KeyError("mine")
    saga = saga_of(storage, Leg("a", did), Leg("b", did), Leg("c", did))
    with pytest.raises(KeyError) as caught:
        async with saga.transaction(Journey(), saga_id="j") as transaction:
            async for step in transaction:
                if step.step_name == "b":
                    raise mine
    assert caught.value is mine
    assert mine.__notes__ == ["saga 'journey' (j) went back, undone: b, a"]
    assert did == ["act a", "act b", "undo b", "undo a"]
    assert (await storage.load("j")).summary.state is SagaState.COMPENSATED


async def test_undos_because_of_an_exception_of_the_body_have_all_their_time(storage: Storage, did: list[str]) -> None:
    """The grace is for those who were cancelled, and wait."""

    async def slow(journey: Journey) -> None:
        await anyio.sleep(0.05)
        did.append("undone a")

    with pytest.raises(KeyError):
        async with saga_of(storage, Leg("a", did, undo=slow), Leg("b", did), grace=1e-6).transaction(
            Journey()
        ) as transaction:
            async for _ in transaction:
                raise KeyError
    assert did == ["act a", "undo a", "undone a"]


async def test_the_cause_of_going_back_is_kept_in_words(storage: Storage, did: list[str]) -> None:
    with pytest.raises(KeyError):
        async with saga_of(storage, Leg("a", did)).transaction(Journey(), saga_id="j"):
            raise KeyError("mine")
    assert "its caller raised KeyError: 'mine'" in ((await storage.load("j")).summary.note or "")


@pytest.mark.parametrize(
    ("error", "cause"),
    [(SystemExit(1), "the process was asked to exit"), (KeyboardInterrupt(), "interrupted by Ctrl-C")],
    ids=["exit", "interrupt"],
)
@pytest.mark.parametrize("where", ["loop", "step"])
async def test_what_ends_the_program_is_told_as_the_cause_of_going_back(
    storage: Storage, did: list[str], where: str, error: BaseException, cause: str
) -> None:
    failing = {"act": raises(error)} if where == "step" else {}
    with pytest.raises(type(error)):
        async with saga_of(storage, Leg("a", did), Leg("b", did, **failing)).transaction(Journey(), saga_id="j") as run:
            async for step in run:
                if where == "loop" and step.step_name == "a":
                    raise error
    summary = (await storage.load("j")).summary
    assert (summary.state, summary.note) == (SagaState.COMPENSATED, cause)


async def test_a_step_that_fails_raises_its_own_error_unwrapped_with_a_note(storage: Storage, did: list[str]) -> None:
    mine = ConnectionError("lost")
    saga = saga_of(storage, Leg("a", did), Leg("b", did, act=raises(mine)), Leg("c", did))
    with pytest.raises(ConnectionError) as caught:
        await saga.run(Journey(), saga_id="j")
    assert caught.value is mine
    assert mine.__cause__ is None
    assert mine.__notes__ == ["saga 'journey' (j) went back, undone: b, a"]


async def test_a_failure_with_nothing_to_undo_says_so(storage: Storage, did: list[str]) -> None:
    saga = saga_of(storage, Leg("a", did, act=raises(ValueError("no")), atomic=True))
    with pytest.raises(ValueError, match="no") as caught:
        await saga.run(Journey(), saga_id="j")
    assert caught.value.__notes__ == ["saga 'journey' (j) went back, nothing had to be undone"]


async def test_an_exception_of_the_body_whose_undo_fails_is_the_cause_of_saga_parked(
    storage: Storage, did: list[str]
) -> None:
    mine = KeyError("mine")
    saga = saga_of(storage, Leg("a", did, undo=raises(OSError("jammed"))), Leg("b", did))
    transaction = saga.transaction(Journey())
    with pytest.raises(SagaParked) as caught:
        async with transaction:
            await anext(transaction)
            raise mine
    assert caught.value.__cause__ is mine
    assert (caught.value.step, transaction.state) == ("a", SagaState.PARKED)


async def test_abort_undoes_on_purpose_and_ends_the_iteration_quietly(storage: Storage, did: list[str]) -> None:
    async with saga_of(storage, Leg("a", did), Leg("b", did)).transaction(Journey(), saga_id="j") as transaction:
        async for _ in transaction:
            await transaction.abort("rain")
    assert did == ["act a", "undo a"]
    summary = (await storage.load("j")).summary
    assert (summary.state, summary.note) == (SagaState.COMPENSATED, "rain")


async def test_abort_before_the_first_step_undoes_nothing(storage: Storage, did: list[str]) -> None:
    async with saga_of(storage, Leg("a", did)).transaction(Journey()) as transaction:
        await transaction.abort()
        assert transaction.state is SagaState.COMPENSATED
    assert did == []


async def test_abort_after_the_end_changes_nothing(storage: Storage, did: list[str]) -> None:
    async with saga_of(storage, Leg("a", did)).transaction(Journey()) as transaction:
        await transaction.run_to_end()
        await transaction.abort()
        assert transaction.state is SagaState.COMPLETED
    assert did == ["act a"]


async def test_abort_after_the_saga_was_given_back_is_refused(storage: Storage, did: list[str]) -> None:
    """Who asks for an undo is not left to believe that it happened."""
    saga = saga_of(storage, Leg("a", did), Leg("b", did))
    async with saga.transaction(Journey(), saga_id="j") as transaction:
        await anext(transaction)
        await transaction.suspend()
        with pytest.raises(TransactionMisused, match="given back"):
            await transaction.abort()
    assert (await storage.load("j")).summary.state is SagaState.RUNNING


async def test_abort_that_cannot_undo_raises_saga_parked(storage: Storage, did: list[str]) -> None:
    saga = saga_of(storage, Leg("a", did, undo=raises(OSError())), Leg("b", did))
    async with saga.transaction(Journey()) as transaction:
        await anext(transaction)
        with pytest.raises(SagaParked, match="its compensation failed 3 times"):
            await transaction.abort()


async def test_abort_after_a_pivot_is_refused_and_undoes_nothing(storage: Storage, did: list[str]) -> None:
    saga = saga_of(storage, Leg("a", did), Leg("p", did, pivot=True), Leg("b", did, retry=Leg.compensate_retry))
    async with saga.transaction(Journey()) as transaction:
        await anext(transaction)
        await anext(transaction)
        with pytest.raises(PivotPassed, match="'p'"):
            await transaction.abort()
        assert [step.step_name async for step in transaction] == ["b"]
    assert did == ["act a", "act p", "act b"]


async def test_an_exception_of_the_body_after_a_pivot_only_gives_the_saga_back(
    storage: Storage, did: list[str]
) -> None:
    saga = saga_of(storage, Leg("p", did, pivot=True), Leg("b", did, retry=Leg.compensate_retry))
    with pytest.raises(KeyError):
        async with saga.transaction(Journey(), saga_id="j") as transaction:
            await anext(transaction)
            raise KeyError
    summary = (await storage.load("j")).summary
    assert (summary.state, summary.owner) == (SagaState.RUNNING, None)
    assert did == ["act p"]
    assert (await saga.run(saga_id="j")).state is SagaState.COMPLETED


async def test_suspend_gives_the_saga_back_without_a_warning(storage: Storage, did: list[str]) -> None:
    saga = saga_of(storage, Leg("a", did), Leg("b", did))
    async with saga.transaction(Journey(), saga_id="j") as transaction:
        await anext(transaction)
        await transaction.suspend()
        assert [step async for step in transaction] == []
    summary = (await storage.load("j")).summary
    assert (summary.state, summary.owner) == (SagaState.RUNNING, None)
    assert did == ["act a"]


@pytest.mark.parametrize("way", ["suspend", "abort"])
async def test_no_result_is_yielded_any_more_once_the_saga_was_given_back_or_undone(did: list[str], way: str) -> None:
    """Though the steps of a Parallel may be done together, and are yielded one by one."""
    saga = trip_of(MemoryStorage(), Parallel(Book("a", did), Book("b", did)), Book("c", did))
    async with saga.transaction(Trip()) as transaction:
        async for _ in transaction:
            did.append("seen")
            await getattr(transaction, way)()
    assert did.count("seen") == 1


async def test_suspend_withdraws_the_intent_that_was_not_used(storage: Storage, did: list[str]) -> None:
    """B4: a resume does not find a step in doubt, so it is attempt 1 that acts."""
    saga = saga_of(storage, Leg("a", did), Leg("b", did))
    async with saga.transaction(Journey(), saga_id="j") as transaction:
        await anext(transaction)
        await transaction.suspend()
    assert (await storage.load("j")).entries[-1].kind == "WITHDRAWN"
    assert [step.attempts for step in (await saga.run(saga_id="j"))] == [1, 1]


async def test_leaving_before_the_end_warns_and_gives_the_saga_back(storage: Storage, did: list[str]) -> None:
    saga = saga_of(storage, Leg("a", did), Leg("b", did))
    with pytest.warns(UnfinishedSagaWarning, match="'journey'"):  # noqa: PT031 - it comes when the saga is left
        async with saga.transaction(Journey(), saga_id="j") as transaction:
            async for _ in transaction:
                break
    assert (await storage.load("j")).summary.owner is None
    assert (await saga.run(saga_id="j")).state is SagaState.COMPLETED
    assert did == ["act a", "act b"]


@pytest.mark.filterwarnings("error::anysaga.UnfinishedSagaWarning")
async def test_where_warnings_are_errors_the_saga_is_given_back_before(storage: Storage, did: list[str]) -> None:
    saga = saga_of(storage, Leg("a", did), Leg("b", did))
    with pytest.raises(UnfinishedSagaWarning):
        async with saga.transaction(Journey(), saga_id="j") as transaction:
            await anext(transaction)
    assert (await storage.load("j")).summary.owner is None


async def test_a_transaction_that_was_never_left_gives_its_saga_back_when_it_is_forgotten(did: list[str]) -> None:
    """D5: there is nobody left who could await anything."""
    storage = MemoryStorage()
    saga = saga_of(storage, Leg("a", did), Leg("b", did))
    transaction = await saga.transaction(Journey(), saga_id="j").__aenter__()
    await anext(transaction)
    assert (await storage.load("j")).summary.owner is not None
    del transaction
    gc.collect()
    assert (await storage.load("j")).summary.owner is None
    assert (await saga.run(saga_id="j")).state is SagaState.COMPLETED
    assert did == ["act a", "act b"]


async def test_the_heartbeat_gives_back_a_saga_that_was_forgotten(tmp_path_factory: pytest.TempPathFactory) -> None:
    """D5, on a store that needs a write of its own for it."""
    did: list[str] = []
    async with SQLAlchemyStorage(tmp_path_factory.mktemp("sagas") / "sagas.db") as storage:
        saga = saga_of(storage, Leg("a", did), Leg("b", did))
        transaction = await saga.transaction(Journey(), saga_id="j").__aenter__()
        await anext(transaction)
        del transaction
        gc.collect()
        with anyio.fail_after(10):
            while (await storage.load("j")).summary.owner is not None:
                await anyio.lowlevel.checkpoint()
        assert (await saga.run(saga_id="j")).state is SagaState.COMPLETED
    assert did == ["act a", "act b"]


async def test_an_async_generator_that_is_closed_in_the_middle_gives_its_saga_back(
    storage: Storage, did: list[str]
) -> None:
    saga = saga_of(storage, Leg("a", did), Leg("b", did))

    async def names() -> AsyncIterator[str]:
        async with saga.transaction(Journey(), saga_id="j") as transaction:
            async for step in transaction:
                yield step.step_name

    generator = names()
    assert await anext(generator) == "a"
    await generator.aclose()  # type: ignore[attr-defined]
    with anyio.fail_after(10):
        while (await storage.load("j")).summary.owner is not None:
            await anyio.lowlevel.checkpoint()
    assert did == ["act a"]
    assert (await saga.run(saga_id="j")).state is SagaState.COMPLETED


async def test_a_transaction_is_entered_once(storage: Storage, did: list[str]) -> None:
    transaction = saga_of(storage, Leg("a", did)).transaction(Journey())
    async with transaction:
        with pytest.raises(TransactionMisused, match="entered twice"):
            await transaction.__aenter__()
        await transaction.run_to_end()
    with pytest.raises(TransactionMisused, match="entered twice"):
        await transaction.__aenter__()


async def test_a_transaction_is_not_used_before_it_is_entered(storage: Storage, did: list[str]) -> None:
    transaction = saga_of(storage, Leg("a", did)).transaction(Journey())
    for use in (transaction.__anext__, transaction.abort, transaction.suspend, transaction.run_to_end):
        with pytest.raises(TransactionMisused):
            await use()
    with pytest.raises(TransactionMisused):
        _ = transaction.state
    assert did == []


async def test_a_transaction_is_not_used_after_it_was_left(storage: Storage, did: list[str]) -> None:
    async with saga_of(storage, Leg("a", did), Leg("b", did)).transaction(Journey()) as transaction:
        await anext(transaction)
        await transaction.suspend()
    for use in (transaction.__anext__, transaction.abort, transaction.run_to_end):
        with pytest.raises(TransactionMisused):
            await use()
    assert did == ["act a"]


async def test_two_tasks_cannot_iterate_one_transaction(storage: Storage, did: list[str]) -> None:
    began, refused = anyio.Event(), anyio.Event()

    async def deed(journey: Journey) -> None:
        began.set()
        await refused.wait()

    async with saga_of(storage, Leg("a", did, act=deed)).transaction(Journey()) as transaction:
        async with anyio.create_task_group() as group:
            group.start_soon(transaction.__anext__)
            await began.wait()
            with pytest.raises(TransactionMisused, match="two tasks"):
                await anext(transaction)
            refused.set()
        assert transaction.state is SagaState.COMPLETED


async def test_another_task_cannot_abort_or_suspend_while_a_step_acts(storage: Storage, did: list[str]) -> None:
    """I6: no undo begins, and nobody else gets the saga, while an act runs."""
    began, refused = anyio.Event(), anyio.Event()

    async def deed(journey: Journey) -> None:
        began.set()
        await refused.wait()

    async with saga_of(storage, Leg("a", did, act=deed), Leg("b", did)).transaction(Journey()) as transaction:
        async with anyio.create_task_group() as group:
            group.start_soon(transaction.__anext__)
            await began.wait()
            for use in (transaction.abort, transaction.suspend, transaction.run_to_end):
                with pytest.raises(TransactionMisused):
                    await use()
            refused.set()
        assert did == ["act a"]
        await transaction.run_to_end()
    assert did == ["act a", "act b"]


async def test_iterating_on_after_the_end_yields_nothing(storage: Storage, did: list[str]) -> None:
    async with saga_of(storage, Leg("a", did)).transaction(Journey()) as transaction:
        await transaction.run_to_end()
        assert [step async for step in transaction] == []
        assert [step async for step in transaction] == []
    assert did == ["act a"]


async def test_after_a_failure_the_iteration_is_over(storage: Storage, did: list[str]) -> None:
    async with saga_of(storage, Leg("a", did, act=raises(OSError()))).transaction(Journey()) as transaction:
        with pytest.raises(OSError):  # noqa: PT011 - it has no text
            await anext(transaction)
        assert [step async for step in transaction] == []
        assert transaction.state is SagaState.COMPENSATED


async def test_the_result_in_the_middle_has_the_steps_that_are_done(storage: Storage, did: list[str]) -> None:
    async with saga_of(storage, Leg("a", did), Leg("b", did)).transaction(Journey()) as transaction:
        assert transaction.result.steps == ()
        await anext(transaction)
        result = transaction.result
        assert ([step.step_name for step in result], result.state) == (["a"], SagaState.RUNNING)
        await transaction.suspend()


async def test_a_saga_found_going_back_is_finished_and_told_as_compensated(did: list[str]) -> None:
    """The original exception is gone with its process."""
    storage, began = MemoryStorage(), anyio.Event()
    failing = Leg("b", did, act=raises(OSError("first cause")))
    saga = saga_of(storage, Leg("a", did, undo=hangs(began)), failing, grace=0.01)
    await lost_in(began, storage, lambda: saga.run(Journey(), saga_id="j"))
    again = saga_of(storage, Leg("a", did), Leg("b", did))
    with pytest.raises(SagaCompensated, match="first cause"):
        await again.run(saga_id="j")
    assert did == ["act a", "act b", "undo b", "undo a", "undo a"]


class Watched(Container):
    """A container that writes down when its scopes open and close."""

    def __init__(self, did: list[str]) -> None:
        self.did = did

    @asynccontextmanager
    async def scope(self) -> AsyncIterator[Scope]:
        self.did.append("open")
        try:
            yield self
        finally:
            self.did.append("close")

    async def get(self, wanted: type[MadeT], /) -> MadeT:
        raise AssertionError(wanted)  # the steps are instances


async def test_what_the_container_made_lives_until_after_the_last_undo(did: list[str]) -> None:
    saga = saga_of(None, Leg("a", did), Leg("b", did, act=raises(OSError()))).moved_to(MemoryStorage(), Watched(did))
    with pytest.raises(OSError):  # noqa: PT011 - it has no text
        await saga.run(Journey())
    assert did == ["open", "act a", "act b", "undo b", "undo a", "close"]


async def test_a_transaction_that_cannot_begin_closes_what_the_container_opened(did: list[str]) -> None:
    saga = saga_of(None, Leg("a", did)).moved_to(MemoryStorage(), Watched(did))
    with pytest.raises(LookupError):
        await saga.run(saga_id="nobody")
    assert did == ["open", "close"]


async def test_leaving_while_another_task_is_in_a_step_undoes_nothing_beside_it(did: list[str]) -> None:
    """I6: the other task ends its step, and then the saga is given back."""
    storage = MemoryStorage()
    began, left = anyio.Event(), anyio.Event()

    async def deed(journey: Journey) -> None:
        began.set()
        await left.wait()
        did.append("act ends")

    saga = saga_of(storage, Leg("a", did, act=deed), Leg("b", did))
    transaction, error = saga.transaction(Journey(), saga_id="j"), KeyError("mine")
    async with anyio.create_task_group() as group:
        with pytest.raises(KeyError, match="mine"):
            async with transaction:
                group.start_soon(transaction.__anext__)
                await began.wait()
                raise error
        left.set()
    assert "two tasks" in error.__notes__[0]
    assert did == ["act a", "act ends"]
    assert (await storage.load("j")).summary.owner is None
