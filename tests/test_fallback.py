"""Fallback steps: what takes over, when, on which context, and who is undone (rules A2, B2, C1)."""

from __future__ import annotations

import anyio
import pytest
from journeys import WatchedStorage, cancelled_once, kinds_of
from trips import AT_ONCE, Book, Hotel, Trip, for_ever, raises, trip_of
from virtual_time import in_jumping_time

from anysaga import (
    Fallback,
    MemoryStorage,
    NotDone,
    Parallel,
    Retry,
    SagaParked,
    SagaState,
    StepLost,
    checkpoint,
    recover_saga,
    resolve,
)
from anysaga.abc import Storage

pytestmark = pytest.mark.anyio


@pytest.fixture
def storage() -> MemoryStorage:
    """No law here depends on how a store keeps its sagas."""
    return MemoryStorage()


async def test_a_primary_that_does_its_work_needs_no_fallback(storage: Storage, did: list[str]) -> None:
    result = await trip_of(storage, Fallback(Book("a", did), Book("b", did))).run(Trip())
    assert did == ["act a"]
    assert [(step.step_name, step.source) for step in result.steps] == [("a", "primary")]


async def test_a_primary_in_doubt_is_undone_before_the_fallback_acts(storage: Storage, did: list[str]) -> None:
    saga = trip_of(storage, Fallback(Book("a", did, act=raises(OSError())), Book("b", did)))
    result = await saga.run(Trip())
    assert did == ["act a", "undo a", "act b"]
    assert [(step.step_name, step.source) for step in result.steps] == [("b", "fallback")]


async def test_a_primary_that_certainly_had_no_effect_is_not_undone(storage: Storage, did: list[str]) -> None:
    await trip_of(storage, Fallback(Book("a", did, act=raises(NotDone())), Book("b", did))).run(Trip())
    assert did == ["act a", "act b"]


async def test_a_plain_step_is_its_own_source(storage: Storage, did: list[str]) -> None:
    result = await trip_of(storage, Book("a", did)).run(Trip())
    assert result.steps[0].source == "step"


async def test_a_stored_result_has_the_source_of_the_live_one(storage: Storage, did: list[str]) -> None:
    saga = trip_of(storage, Fallback(Book("a", did, act=raises(OSError())), Book("b", did)), Book("c", did))
    live = await saga.run(Trip(), saga_id="t")
    stored = await saga.run(saga_id="t")
    assert [step.source for step in stored.steps] == [step.source for step in live.steps] == ["fallback", "step"]


async def test_retries_come_before_the_fallback(storage: Storage, did: list[str]) -> None:
    primary = Book("a", did, act=raises(OSError()), retry=AT_ONCE)
    await trip_of(storage, Fallback(primary, Book("b", did))).run(Trip())
    assert did == ["act a", "act a", "act a", "undo a", "act b"]


async def test_only_named_exceptions_fall_back(storage: Storage, did: list[str]) -> None:
    part = Fallback(Book("a", did, act=raises(KeyError("mine"))), Book("b", did), failure_exceptions=(OSError,))
    with pytest.raises(KeyError, match="mine"):
        await trip_of(storage, part).run(Trip())
    assert did == ["act a", "undo a"]


async def test_subclasses_of_named_exceptions_fall_back(storage: Storage, did: list[str]) -> None:
    part = Fallback(Book("a", did, act=raises(ConnectionRefusedError())), Book("b", did), failure_exceptions=(OSError,))
    await trip_of(storage, part).run(Trip())
    assert did == ["act a", "undo a", "act b"]


@in_jumping_time
async def test_running_out_of_its_time_counts_as_timeout_error(storage: Storage, did: list[str]) -> None:
    primary = Book("a", did, act=for_ever, timeout=1.0)
    await trip_of(storage, Fallback(primary, Book("b", did), failure_exceptions=(TimeoutError,))).run(Trip())
    assert did == ["act a", "undo a", "act b"]


@in_jumping_time
async def test_the_time_limit_of_the_saga_never_falls_back(storage: Storage, did: list[str]) -> None:
    saga = trip_of(storage, Fallback(Book("a", did, act=for_ever), Book("b", did)), timeout=10.0)
    with pytest.raises(TimeoutError):
        await saga.run(Trip())
    assert did == ["act a", "undo a"]


async def test_a_cancellation_never_falls_back(storage: Storage, did: list[str]) -> None:
    began = anyio.Event()

    async def act(trip: Trip) -> None:
        began.set()
        await anyio.sleep_forever()

    saga = trip_of(storage, Fallback(Book("a", did, act=act), Book("b", did)))
    async with anyio.create_task_group() as group:
        group.start_soon(lambda: saga.run(Trip(), saga_id="t"))
        await began.wait()
        group.cancel_scope.cancel()
    assert did == ["act a", "undo a"]
    assert (await storage.load("t")).summary.state is SagaState.COMPENSATED


async def test_no_fallback_begins_if_the_saga_was_cancelled_while_its_primary_was_undone(did: list[str]) -> None:
    """Nor in a branch of a Parallel."""
    with anyio.CancelScope() as scope:

        async def undo(trip: Trip) -> None:
            scope.cancel()

        primary = Book("a", did, act=raises(OSError()), undo=undo)
        group = Parallel(Fallback(primary, Book("b", did)), Book("c", did))
        await trip_of(MemoryStorage(), group).run(Trip())
    assert "undo a" in did
    assert "act b" not in did


async def test_a_saga_goes_back_durably_before_an_undo_of_its_primary_that_was_cut_off_is_repeated(
    did: list[str],
) -> None:
    storage, began, logs = MemoryStorage(), anyio.Event(), list[list[str]]()

    async def undo(trip: Trip) -> None:
        logs.append(await kinds_of(storage, "t"))
        if not began.is_set():
            began.set()
            await anyio.sleep_forever()

    saga = trip_of(storage, Fallback(Book("a", did, act=raises(OSError()), undo=undo), Book("b", did)), grace=0.2)
    async with cancelled_once(began, lambda: saga.run(Trip(), saga_id="t")):
        pass
    assert ["BACK" in log for log in logs] == [False, True]


async def test_what_cannot_be_stored_never_falls_back(storage: Storage, did: list[str]) -> None:
    """A5: the act took effect."""

    async def act(trip: Trip) -> None:
        trip.a = "\x00"

    with pytest.raises(ValueError, match="NUL"):
        await trip_of(storage, Fallback(Book("a", did, act=act), Book("b", did))).run(Trip())
    assert did == ["act a", "undo a"]


async def test_the_context_is_put_back_in_place_before_the_fallback_acts(storage: Storage, did: list[str]) -> None:
    """Nested objects, lists and fields that no constructor takes included; the same object stays the context."""
    trip = Trip(stops=["home"])
    trip.total = 7
    seen: list[Trip] = []

    async def spoil(trip: Trip) -> None:
        trip.hotel.name, trip.total = "spoilt", 8
        trip.stops.append("spoilt")
        raise OSError

    async def look(trip: Trip) -> None:
        seen.append(trip)
        assert (trip.hotel, trip.stops, trip.total, trip.a) == (Hotel("none"), ["home"], 7, "")

    await trip_of(storage, Fallback(Book("a", did, act=spoil), Book("b", did, act=look))).run(trip)
    assert seen == [trip]
    assert seen[0] is trip


async def test_a_checkpoint_of_the_primary_is_put_back_too(storage: Storage, did: list[str]) -> None:
    async def act(trip: Trip) -> None:
        await checkpoint()
        raise OSError

    trip = Trip()
    await trip_of(storage, Fallback(Book("a", did, act=act), Book("b", did))).run(trip)
    assert (trip.a, trip.b) == ("", "b")


async def test_the_undo_of_the_primary_sees_what_the_primary_wrote(storage: Storage, did: list[str]) -> None:
    async def undo(trip: Trip) -> None:
        did.append(f"saw {trip.a}")

    await trip_of(storage, Fallback(Book("a", did, act=raises(OSError()), undo=undo), Book("b", did))).run(Trip())
    assert did == ["act a", "undo a", "saw a", "act b"]


async def test_whichever_did_the_work_is_undone_later(storage: Storage, did: list[str]) -> None:
    saga = trip_of(
        storage,
        Fallback(Book("a", did), Book("b", did)),
        Fallback(Book("c", did, act=raises(NotDone())), Book("b2", did, into="b")),
        Book("a2", did, into="a", act=raises(OSError("last"))),
    )
    with pytest.raises(OSError, match="last"):
        await saga.run(Trip())
    assert did == ["act a", "act c", "act b2", "act a2", "undo a2", "undo b2", "undo a"]


async def test_if_both_fail_both_errors_can_be_seen(storage: Storage, did: list[str]) -> None:
    first, second = OSError("first"), KeyError("second")
    saga = trip_of(storage, Fallback(Book("a", did, act=raises(first)), Book("b", did, act=raises(second))))
    with pytest.raises(KeyError) as caught:
        await saga.run(Trip())
    assert caught.value is second
    assert caught.value.__context__ is first
    assert did == ["act a", "undo a", "act b", "undo b"]


async def test_an_error_of_the_fallback_keeps_its_own_context(storage: Storage, did: list[str]) -> None:
    first = OSError("first")

    async def act(trip: Trip) -> None:
        try:
            int("inner")
        except ValueError:
            raise KeyError("second")  # noqa: B904 - its context is what is looked at

    saga = trip_of(storage, Fallback(Book("a", did, act=raises(first)), Book("b", did, act=act)))
    with pytest.raises(KeyError) as caught:
        await saga.run(Trip())
    assert isinstance(caught.value.__context__, ValueError)
    assert caught.value.__context__.__context__ is first


async def test_a_caught_error_is_not_the_saga_s(storage: Storage, did: list[str]) -> None:
    saga = trip_of(
        storage,
        Fallback(Book("a", did, act=raises(OSError("caught"))), Book("b", did)),
        Book("c", did, act=raises(KeyError("mine"))),
    )
    with pytest.raises(KeyError, match="mine") as caught:
        await saga.run(Trip())
    assert caught.value.__context__ is None


async def test_a_fallback_in_the_place_of_a_fallback(storage: Storage, did: list[str]) -> None:
    last = Fallback(Book("b", did, act=raises(OSError())), Book("c", did))
    result = await trip_of(storage, Fallback(Book("a", did, act=raises(OSError())), last)).run(Trip())
    assert did == ["act a", "undo a", "act b", "undo b", "act c"]
    assert [(step.step_name, step.source) for step in result.steps] == [("c", "fallback")]


async def test_a_fallback_in_the_place_of_a_primary(storage: Storage, did: list[str]) -> None:
    first = Fallback(Book("a", did, act=raises(OSError())), Book("b", did, act=raises(OSError())))
    await trip_of(storage, Fallback(first, Book("c", did))).run(Trip())
    assert did == ["act a", "undo a", "act b", "undo b", "act c"]


async def test_an_undo_of_the_primary_that_fails_parks_the_saga(storage: Storage, did: list[str]) -> None:
    """B2: the fallback acts only after a person resolved it."""
    away = OSError("away")
    saga = trip_of(storage, Fallback(Book("a", did, act=raises(away), undo=raises(OSError("jammed"))), Book("b", did)))
    with pytest.raises(SagaParked, match="jammed") as caught:
        await saga.run(Trip(), saga_id="t")
    assert caught.value.__cause__ is away
    assert did == ["act a", "undo a", "undo a", "undo a"]
    await resolve("t", "a", "not-done", storage=storage)
    result = await recover_saga(saga, "t")
    assert result.state is SagaState.COMPLETED
    assert did[4:] == ["act b"]


async def test_a_group_that_fails_falls_back_as_a_whole(storage: Storage, did: list[str]) -> None:
    booked = anyio.Event()

    async def act(trip: Trip) -> None:
        booked.set()

    async def fail(trip: Trip) -> None:
        await booked.wait()
        raise OSError

    group = Parallel(Book("a", did, act=act), Book("b", did, act=fail))
    trip = Trip()
    result = await trip_of(storage, Fallback(group, Book("c", did))).run(trip)
    assert did[:2] == ["act a", "act b"]
    assert sorted(did[2:4]) == ["undo a", "undo b"]
    assert did[4:] == ["act c"]
    assert (trip.a, trip.b, trip.c) == ("", "", "c")
    assert [step.step_name for step in result.steps] == ["c"]


async def test_a_lost_primary_counts_as_step_lost(did: list[str]) -> None:
    """B2: after a crash it is acted once more, and its failure judged; an attempt that is not repeated was lost."""
    storage, began = MemoryStorage(), anyio.Event()

    async def act(trip: Trip) -> None:
        began.set()
        await anyio.sleep_forever()

    primary = Book("a", did, act=act, retry=Retry(attempts=1, delay=0))
    saga = trip_of(storage, Fallback(primary, Book("b", did), failure_exceptions=(StepLost,)))
    async with anyio.create_task_group() as group:
        group.start_soon(lambda: saga.run(Trip(), saga_id="t"))
        await began.wait()
        storage.kill()
        group.cancel_scope.cancel()
    result = await recover_saga(saga, "t")
    assert result.state is SagaState.COMPLETED
    assert did == ["act a", "undo a", "act b"]


async def test_n_plus_one_commits_hold_with_fallbacks_that_are_not_needed(did: list[str]) -> None:
    storage = WatchedStorage()
    parts = [Fallback(Book(f"{name}{n}", did), Book(f"{name}{n}-2", did)) for n, name in enumerate("abc")]
    await trip_of(storage, *parts).run(Trip())
    assert len(storage.commits) == 4
