"""Running a saga: results, failures, leaving, and the same id again."""

from __future__ import annotations

import warnings

import anyio
import pytest
from tours import AT_ONCE, Book, FixedTour, Hotel, Tour, TourSaga, Train, write

from anysaga import (
    ContextChangedWarning,
    InvalidArgument,
    NotDone,
    NotStorable,
    PivotPassed,
    Saga,
    SagaAlreadyRunning,
    SagaCompensated,
    SagaMismatch,
    SagaNotFound,
    SagaParked,
    SagaState,
    SagaTimeout,
    Step,
    StepTimeout,
    TransactionMisused,
    UnfinishedSagaWarning,
    checkpoint,
    current_step,
)
from anysaga.abc import Storage

pytestmark = pytest.mark.anyio


async def test_results_come_in_order_and_are_typed(storage: Storage) -> None:
    tour = Tour()
    result = await TourSaga(storage=storage).run(tour, saga_id="t")
    assert result.state is SagaState.COMPLETED
    assert result.context is tour
    assert [step.response for step in result] == ["hotel booked", "train booked", "museum booked"]
    assert result[Train].attempts == 1
    assert tour.notes == ["hotel", "train", "museum"]


async def test_a_failure_is_undone_in_reverse_and_raised_as_it_is(storage: Storage, done: list[str]) -> None:
    with pytest.raises(ConnectionError) as caught:
        await TourSaga(storage=storage).run(Tour("museum dirty"), saga_id="t")
    assert done[3:] == ["undo museum", "undo train", "undo hotel"]
    assert "undone: museum, train, hotel" in caught.value.__notes__[0]


async def test_a_clean_failure_is_not_undone_itself(storage: Storage, done: list[str]) -> None:
    with pytest.raises(NotDone):
        await TourSaga(storage=storage).run(Tour("museum clean"), saga_id="t")
    assert done[3:] == ["undo train", "undo hotel"]


async def test_secrets_are_in_no_stored_error(storage: Storage) -> None:
    with pytest.raises(ConnectionError):
        await TourSaga(storage=storage).run(Tour("train dirty"), saga_id="t")
    record = await storage.load("t")
    assert "4111-1111" not in " ".join(entry.error or "" for entry in record.entries)
    assert "4111-1111" not in repr(record)
    assert "4111-1111" not in (record.summary.note or "")


async def test_an_exception_after_the_last_result_undoes_nothing(storage: Storage, done: list[str]) -> None:
    with pytest.raises(KeyError):
        async with TourSaga(storage=storage).transaction(Tour(), saga_id="t") as transaction:
            async for step in transaction:
                if step.step_name == "museum":
                    raise KeyError
    assert (await storage.load("t")).summary.state is SagaState.COMPLETED
    assert not any(line.startswith("undo") for line in done)


async def test_an_exception_of_the_watcher_undoes(storage: Storage, done: list[str]) -> None:
    with pytest.raises(KeyError) as caught:
        async with TourSaga(storage=storage).transaction(Tour(), saga_id="t") as transaction:
            async for _ in transaction:
                raise KeyError("mine")
    assert done == ["act hotel", "undo hotel"]
    assert "went back" in caught.value.__notes__[0]


async def test_leaving_early_warns_and_can_be_resumed(storage: Storage, done: list[str]) -> None:
    with pytest.warns(UnfinishedSagaWarning):
        async with TourSaga(storage=storage).transaction(Tour(), saga_id="t") as transaction:
            await anext(transaction)
    tour = Tour()
    async with TourSaga(storage=storage).transaction(tour, saga_id="t") as transaction:
        assert tour.notes == ["hotel"]
        assert [step.step_name async for step in transaction] == ["train", "museum"]
    assert done == ["act hotel", "act train", "act museum"]


async def test_suspending_does_not_warn(storage: Storage) -> None:
    async with TourSaga(storage=storage).transaction(Tour(), saga_id="t") as transaction:
        await anext(transaction)
        await transaction.suspend()
    assert (await storage.load("t")).summary.owner is None


async def test_aborting_undoes_and_ends_the_iteration(storage: Storage, done: list[str]) -> None:
    async with TourSaga(storage=storage).transaction(Tour(), saga_id="t") as transaction:
        async for _ in transaction:
            await transaction.abort("the guest is ill")
    assert done == ["act hotel", "undo hotel"]
    assert transaction.state is SagaState.COMPENSATED


async def test_a_passed_pivot_cannot_be_aborted(storage: Storage) -> None:
    async with FixedTour(storage=storage).transaction(Tour(), saga_id="t") as transaction:
        await anext(transaction)
        await anext(transaction)
        with pytest.raises(PivotPassed, match="ticket"):
            await transaction.abort()
        assert [step.step_name async for step in transaction] == ["guide"]


async def test_the_same_id_while_it_runs_is_refused(storage: Storage) -> None:
    async with TourSaga(storage=storage).transaction(Tour(), saga_id="t") as transaction:
        await anext(transaction)
        with pytest.raises(SagaAlreadyRunning):
            await TourSaga(storage=storage).run(Tour(), saga_id="t")
        await transaction.suspend()


async def test_the_same_id_after_its_end_returns_what_is_stored(storage: Storage, done: list[str]) -> None:
    await TourSaga(storage=storage).run(Tour(), saga_id="t")
    again = await TourSaga(storage=storage).run(Tour(), saga_id="t")
    assert len(done) == 3
    assert again[Hotel].response == "hotel booked"
    assert again.context.notes == ["hotel", "train", "museum"]


async def test_a_compensated_id_says_so(storage: Storage) -> None:
    tour = Tour("train dirty")
    with pytest.raises(ConnectionError):
        await TourSaga(storage=storage).run(tour, saga_id="t")
    with pytest.raises(SagaCompensated, match="ConnectionError"):
        await TourSaga(storage=storage).run(saga_id="t")


async def test_an_id_with_another_payload_is_refused(storage: Storage) -> None:
    await TourSaga(storage=storage).run(Tour(), saga_id="t")
    with pytest.raises(SagaMismatch):
        await TourSaga(storage=storage).run(Tour(notes=["other"]), saga_id="t")
    with pytest.raises(SagaMismatch):
        await FixedTour(storage=storage).run(Tour(), saga_id="t")


async def test_an_unknown_id_cannot_be_resumed(storage: Storage) -> None:
    with pytest.raises(SagaNotFound):
        await TourSaga(storage=storage).run(saga_id="nobody")


@pytest.mark.parametrize("bad", ["", "x" * 201, "a\0b", "a\nb", 17])
async def test_ids_that_cannot_be_are_refused(bad: object) -> None:
    with pytest.raises(InvalidArgument):
        TourSaga().transaction(Tour(), saga_id=bad)  # type: ignore[arg-type]


async def test_a_change_between_two_steps_is_discarded_with_a_warning(storage: Storage) -> None:
    tour = Tour()
    async with TourSaga(storage=storage).transaction(tour, saga_id="t") as transaction:
        await anext(transaction)
        tour.notes.append("by the watcher")
        with pytest.warns(ContextChangedWarning):
            await anext(transaction)
        assert tour.notes == ["hotel", "train"]
        await transaction.suspend()


async def test_a_transaction_is_entered_once(storage: Storage) -> None:
    transaction = TourSaga(storage=storage).transaction(Tour())
    with pytest.raises(TransactionMisused):
        await anext(transaction)
    async with transaction:
        await transaction.suspend()
    with pytest.raises(TransactionMisused):
        await transaction.__aenter__()


class Retried(Book):
    name = "retried"
    retry = AT_ONCE

    async def act(self, tour: Tour) -> str:
        write(f"attempt {current_step().attempt} sees {tour.notes}")
        tour.notes.append("dirt")
        if current_step().attempt < 3:
            raise OSError("not yet")
        return "at last"


async def test_each_attempt_starts_from_the_durable_context(storage: Storage, done: list[str]) -> None:
    result = await Saga[Tour](name="retried", steps=[Retried], storage=storage).run(Tour())
    assert done == ["attempt 1 sees []", "attempt 2 sees []", "attempt 3 sees []"]
    assert result[Retried].attempts == 3
    assert result.context.notes == ["dirt"]


class Saves(Book):
    name = "saves"
    retry = AT_ONCE

    async def act(self, tour: Tour) -> str:
        write(f"sees {tour.notes}")
        if current_step().attempt == 1:
            tour.notes.append("kept")
            await checkpoint()
            tour.notes.append("lost")
            raise OSError("not yet")
        return "done"


async def test_a_checkpoint_is_seen_by_the_next_attempt(storage: Storage, done: list[str]) -> None:
    await Saga[Tour](name="saves", steps=[Saves], storage=storage).run(Tour())
    assert done == ["sees []", "sees ['kept']"]


class Slow(Book):
    name = "slow"
    timeout = 0.01

    async def act(self, tour: Tour) -> str:
        write("slow")
        await anyio.sleep_forever()
        return ""


async def test_a_time_limit_leaves_the_step_unknown(storage: Storage, done: list[str]) -> None:
    with pytest.raises(StepTimeout, match="slow"):
        await Saga[Tour](name="s", steps=[Hotel, Slow], storage=storage).run(Tour())
    assert done[1:] == ["slow", "undo slow", "undo hotel"]


async def test_the_time_limit_of_a_saga_undoes_it(storage: Storage, done: list[str]) -> None:
    saga = Saga[Tour](name="s", steps=[Hotel, Train], timeout=1.0, storage=storage)
    with pytest.raises(SagaTimeout):
        await saga.run(Tour("train slow"), saga_id="t")
    assert done[2:] == ["undo train", "undo hotel"]
    assert (await storage.load("t")).summary.state is SagaState.COMPENSATED


class Unstorable(Step[Tour, str]):
    name = "unstorable"

    async def act(self, tour: Tour) -> str:
        return "\0" if tour.fail == "response" else self.spoil(tour)

    def spoil(self, tour: Tour) -> str:
        tour.notes = [float("nan")]  # type: ignore[list-item]
        return "fine"

    async def compensate(self, tour: Tour) -> None:
        write(f"undo {current_step().outcome}")


@pytest.mark.parametrize("what", ["response", "context"])
async def test_what_cannot_be_stored_goes_back_beginning_with_that_step(
    storage: Storage, done: list[str], what: str
) -> None:
    with pytest.raises(NotStorable):
        await Saga[Tour](name="u", steps=[Hotel, Unstorable], storage=storage).run(Tour(what))
    assert done == ["act hotel", "undo UNKNOWN", "undo hotel"]


async def test_an_undo_that_fails_for_good_parks_the_saga(storage: Storage, done: list[str]) -> None:
    with pytest.raises(SagaParked, match="hotel") as caught:
        async with TourSaga(storage=storage).transaction(Tour("undo hotel"), saga_id="t") as transaction:
            await anext(transaction)
            await transaction.abort()
    assert done == ["act hotel", *["undo hotel"] * 3]
    assert caught.value.step == "hotel"


async def test_a_cancellation_undoes_and_leaves_as_one(storage: Storage, done: list[str]) -> None:
    ends: list[str] = []

    async def run() -> None:
        try:
            await TourSaga(storage=storage).run(Tour("train slow"), saga_id="t")
        except anyio.get_cancelled_exc_class():
            ends.append("cancelled")
            raise

    async with anyio.create_task_group() as group:
        group.start_soon(run)
        await written(done, "act train")
        group.cancel_scope.cancel()
    assert ends == ["cancelled"]
    assert done[2:] == ["undo train", "undo hotel"]
    assert (await storage.load("t")).summary.state is SagaState.COMPENSATED


async def written(done: list[str], line: str) -> None:
    """Wait until a step has written this line; it waits for its cancellation then."""
    with anyio.fail_after(30):
        while line not in done:  # noqa: ASYNC110 - nothing tells of it
            await anyio.lowlevel.checkpoint()


async def test_a_cancelled_pivot_is_left_to_recovery(storage: Storage, done: list[str]) -> None:
    async with anyio.create_task_group() as group:
        group.start_soon(lambda: FixedTour(storage=storage).run(Tour("ticket slow"), saga_id="t"))
        await written(done, "act ticket")
        group.cancel_scope.cancel()
    summary = (await storage.load("t")).summary
    assert summary.state is SagaState.RUNNING
    assert summary.owner is None
    assert not any(line.startswith("undo") for line in done)


async def test_nothing_warns_in_a_plain_run(storage: Storage) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        await TourSaga(storage=storage).run(Tour())
