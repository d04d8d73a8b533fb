"""Parallel steps: one task group, a copy of the context each, and undo as a whole (rules C2; design 6)."""

from __future__ import annotations

import threading

import anyio
import pytest
from journeys import WatchedStorage, lost_in
from trips import AT_ONCE, Book, Deed, Trip, for_ever, raises, tells, trip_of, waits_for
from virtual_time import in_jumping_time

from anysaga import (
    ContextConflict,
    CorruptRecord,
    Fallback,
    MemoryStorage,
    NotDone,
    NotStorable,
    Outcome,
    Parallel,
    Retry,
    SagaParked,
    SagaState,
    SagaTimeout,
    checkpoint,
    current_step,
    recover_saga,
)
from anysaga._limits import MAX_CONTEXT_BYTES
from anysaga.abc import Claim, EntryKind, Storage

pytestmark = pytest.mark.anyio


async def test_steps_of_a_group_act_at_the_same_time(storage: Storage, did: list[str]) -> None:
    """Each waits for the other, so one after the other would hang."""
    one, two = anyio.Event(), anyio.Event()

    async def first(trip: Trip) -> None:
        one.set()
        await two.wait()

    async def second(trip: Trip) -> None:
        two.set()
        await one.wait()

    with anyio.fail_after(10):
        await trip_of(storage, Parallel(Book("a", did, act=first), Book("b", did, act=second))).run(Trip())


async def test_limit_bounds_how_many_act_at_once(storage: Storage, did: list[str]) -> None:
    running, most = 0, 0

    async def act(trip: Trip) -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await anyio.lowlevel.checkpoint()
        running -= 1

    steps = [Book(name, did, act=act, into=into) for name, into in (("1", "a"), ("2", "b"), ("3", "c"), ("4", "total"))]
    steps[3].into = "stops"

    async def listed(trip: Trip) -> None:
        trip.stops = ["x"]
        await act(trip)

    steps[3]._act = listed
    await trip_of(storage, Parallel(*steps, limit=2)).run(Trip())
    assert most == 2
    assert len(did) == 4


async def test_what_each_changed_is_merged_into_the_same_object(storage: Storage, did: list[str]) -> None:
    trip = Trip(stops=["home"])
    result = await trip_of(storage, Parallel(Book("a", did), Book("b", did)), Book("c", did)).run(trip)
    assert result.context is trip
    assert trip == Trip(a="a", b="b", c="c", stops=["home"])


async def test_each_acts_on_a_copy(storage: Storage, did: list[str]) -> None:
    told = anyio.Event()

    async def look(trip: Trip) -> None:
        await told.wait()
        did.append(f"b saw {trip.a!r}")

    group = Parallel(Book("a", did, act=tells(told)), Book("b", did, act=look))
    await trip_of(storage, group).run(Trip())
    assert "b saw ''" in did


async def test_the_next_step_sees_what_all_did(storage: Storage, did: list[str]) -> None:
    async def look(trip: Trip) -> None:
        did.append(f"saw {trip.seen()}")

    await trip_of(storage, Parallel(Book("a", did), Book("b", did)), Book("c", did, act=look)).run(Trip())
    assert did[-1] == "saw abc"


async def test_two_that_change_one_field_are_refused_and_the_saga_goes_back(storage: Storage, did: list[str]) -> None:
    done = anyio.Event()
    first, second = Book("a", did, act=tells(done)), Book("b", did, into="a", act=waits_for(done), retry=AT_ONCE)
    with pytest.raises(ContextConflict) as caught:
        await trip_of(storage, Fallback(Parallel(first, second), Book("c", did)), Book("c2", did)).run(Trip())
    assert (caught.value.step, caught.value.fields) == ("b", ("a",))
    assert sorted(did) == ["act a", "act b", "undo a", "undo b"]


@pytest.mark.parametrize("after", [True, False])
async def test_what_is_too_big_only_together_is_refused_and_the_saga_goes_back(
    storage: Storage, did: list[str], *, after: bool
) -> None:
    """Else nobody could read the context any more, and nothing could be undone."""

    def grow(field: str) -> Deed:
        async def deed(trip: Trip) -> None:
            setattr(trip, field, "x" * (MAX_CONTEXT_BYTES * 2 // 3))

        return deed

    group = Parallel(Book("a", did, act=grow("a")), Book("b", did, act=grow("b")))
    with pytest.raises(NotStorable, match="the branches of a Parallel make together"):
        await trip_of(storage, group, *[Book("c", did)] * after).run(Trip(), saga_id="t")
    assert sorted(did) == ["act a", "act b", "undo a", "undo b"]
    assert (await storage.load("t")).summary.state is SagaState.COMPENSATED


async def test_the_first_failure_cancels_and_awaits_the_others_before_any_undo(
    storage: Storage, did: list[str]
) -> None:
    began = anyio.Event()

    async def hang(trip: Trip) -> None:
        began.set()
        try:
            await anyio.sleep_forever()
        finally:
            did.append("b ended")

    group = Parallel(Book("a", did, act=waits_for(began)), Book("b", did, act=hang))
    group.steps[0]._act = _then(began, OSError("mine"))  # type: ignore[union-attr]
    with pytest.raises(OSError, match="mine"):
        await trip_of(storage, Book("c", did), group).run(Trip())
    assert did[:3] == ["act c", "act a", "act b"]
    assert did[3] == "b ended"
    assert sorted(did[4:6]) == ["undo a", "undo b"]
    assert did[6:] == ["undo c"]


async def test_the_first_failure_stays_the_reason_whatever_its_siblings_end_with(
    storage: Storage, did: list[str]
) -> None:
    began = anyio.Event()

    async def write_nonsense(trip: Trip) -> None:
        began.set()
        try:
            await anyio.sleep_forever()
        except BaseException:  # noqa: BLE001 - that is the point
            trip.b = float("nan")  # type: ignore[assignment]

    async def fail(trip: Trip) -> None:
        await began.wait()
        raise OSError("mine")

    group = Parallel(Book("a", did, act=fail), Book("b", did, act=write_nonsense))
    with pytest.RaisesGroup(OSError, NotStorable):
        await trip_of(storage, group).run(Trip(), saga_id="t")
    summary = (await storage.load("t")).summary
    assert (summary.state, summary.note) == (SagaState.COMPENSATED, "step 'a' failed: OSError: mine")


def _then(event: anyio.Event, error: Exception) -> object:
    async def deed(trip: Trip) -> None:
        await event.wait()
        raise error

    return deed


async def test_those_that_never_began_are_not_undone(storage: Storage, did: list[str]) -> None:
    group = Parallel(Book("a", did, act=raises(NotDone())), Book("b", did), limit=1)
    with pytest.raises(NotDone):
        await trip_of(storage, group).run(Trip())
    assert did == ["act a"]


async def test_children_are_undone_before_what_came_before(storage: Storage, did: list[str]) -> None:
    saga = trip_of(
        storage, Book("c", did), Parallel(Book("a", did), Book("b", did)), Book("c2", did, act=raises(NotDone()))
    )
    with pytest.raises(NotDone):
        await saga.run(Trip())
    assert sorted(did[-3:-1]) == ["undo a", "undo b"]
    assert did[-1] == "undo c"


async def test_children_are_undone_at_the_same_time(storage: Storage, did: list[str]) -> None:
    one, two = anyio.Event(), anyio.Event()

    async def first(trip: Trip) -> None:
        one.set()
        await two.wait()

    async def second(trip: Trip) -> None:
        two.set()
        await one.wait()

    group = Parallel(Book("a", did, undo=first), Book("b", did, undo=second))
    with anyio.fail_after(10), pytest.raises(NotDone):
        await trip_of(storage, group, Book("c", did, act=raises(NotDone()))).run(Trip())
    assert sorted(did[-2:]) == ["undo a", "undo b"]


async def test_each_undo_has_its_own_retries(storage: Storage, did: list[str]) -> None:
    left = [OSError(), OSError()]

    async def undo(trip: Trip) -> None:
        if left:
            raise left.pop()

    group = Parallel(Book("a", did, undo=undo), Book("b", did))
    with pytest.raises(NotDone):
        await trip_of(storage, group, Book("c", did, act=raises(NotDone()))).run(Trip())
    assert did.count("undo a") == 3
    assert did.count("undo b") == 1


async def test_an_undo_that_fails_for_good_parks_after_the_others(storage: Storage, did: list[str]) -> None:
    group = Parallel(Book("a", did, undo=raises(OSError("jammed"))), Book("b", did))
    saga = trip_of(storage, Book("c", did), group, Book("c2", did, act=raises(NotDone())))
    with pytest.raises(SagaParked, match="jammed") as caught:
        await saga.run(Trip())
    assert caught.value.step == "a"
    assert "undo b" in did
    assert "undo c" not in did


async def test_an_undo_sees_what_became_of_the_context(storage: Storage, did: list[str]) -> None:
    async def undo(trip: Trip) -> None:
        did.append(f"saw {trip.seen()}")

    group = Parallel(Book("a", did, undo=undo), Book("b", did))
    with pytest.raises(OSError, match="mine"):
        await trip_of(storage, group, Book("c", did, act=raises(OSError("mine")))).run(Trip())
    assert "saw abc" in did


async def test_the_undo_of_what_failed_sees_what_it_wrote(storage: Storage, did: list[str]) -> None:
    async def undo(trip: Trip) -> None:
        did.append(f"saw {trip.seen()}")

    with pytest.raises(OSError, match="mine"):
        await trip_of(storage, Parallel(Book("a", did, act=raises(OSError("mine")), undo=undo))).run(Trip())
    assert did == ["act a", "undo a", "saw a"]


async def test_the_undo_of_a_branch_that_its_sibling_ended_sees_what_it_wrote_in_recovery_as_well(
    storage: Storage, did: list[str]
) -> None:
    """C1: recovery notes no end of an act that it is asked to leave, but this one the saga itself has ended."""
    wrote = anyio.Event()

    async def hang(trip: Trip) -> None:
        wrote.set()
        await anyio.sleep_forever()

    async def fail(trip: Trip) -> None:
        await wrote.wait()
        raise NotDone

    async def undo(trip: Trip) -> None:
        did.append(f"saw {trip.a}")

    group = Parallel(Book("a", did, act=hang, undo=undo), Book("b", did, act=fail))
    saga = trip_of(storage, group)
    await saga.submit(Trip(), saga_id="t")
    assert (await recover_saga(saga, "t", storage=storage)).state is SagaState.COMPENSATED
    assert did[-2:] == ["undo a", "saw a"]


async def test_what_undos_write_is_merged_for_the_next_undo(storage: Storage, did: list[str]) -> None:
    async def clear(trip: Trip) -> None:
        trip.a = "cleared"

    async def look(trip: Trip) -> None:
        did.append(f"saw {trip.a}")

    saga = trip_of(
        storage,
        Book("c", did, undo=look),
        Parallel(Book("a", did, undo=clear), Book("b", did)),
        Book("c2", did, act=raises(NotDone())),
    )
    with pytest.raises(NotDone):
        await saga.run(Trip())
    assert did[-1] == "saw cleared"


async def test_several_failures_are_raised_as_a_group_of_their_own_errors(storage: Storage, did: list[str]) -> None:
    first, second = OSError("first"), KeyError("second")
    both = anyio.Event()

    async def fail_first(trip: Trip) -> None:
        await both.wait()
        raise first

    async def fail_second(trip: Trip) -> None:
        both.set()
        try:
            await anyio.sleep_forever()
        finally:
            raise second

    group = Parallel(Book("a", did, act=fail_first), Book("b", did, act=fail_second))
    with pytest.RaisesGroup(pytest.RaisesExc(OSError), pytest.RaisesExc(KeyError)) as caught:
        await trip_of(storage, group).run(Trip())
    assert set(caught.value.exceptions) == {first, second}


async def test_two_that_fail_in_threads_are_a_group(storage: Storage, did: list[str]) -> None:
    """A thread cannot be cancelled, so both really fail."""
    barrier = threading.Barrier(2)
    errors = {"a": OSError("first"), "b": KeyError("second")}

    class Plain(Book):
        def act(self, trip: Trip) -> str:  # type: ignore[override]
            barrier.wait(10)
            raise errors[self.name]

    with pytest.RaisesGroup(pytest.RaisesExc(OSError), pytest.RaisesExc(KeyError)) as caught:
        await trip_of(storage, Parallel(Plain("a", did), Plain("b", did))).run(Trip())
    assert set(caught.value.exceptions) == set(errors.values())


async def test_results_come_in_the_order_of_completion(storage: Storage, did: list[str]) -> None:
    done = anyio.Event()
    group = Parallel(Book("a", did, act=waits_for(done)), Book("b", did, act=tells(done)))
    async with trip_of(storage, group, Book("c", did)).transaction(Trip()) as transaction:
        seen = [step.step_name async for step in transaction]
    assert seen == ["b", "a", "c"]
    assert [step.step_name for step in transaction.result.steps] == ["b", "a", "c"]


async def test_results_of_a_last_group_are_all_seen(storage: Storage, did: list[str]) -> None:
    async with trip_of(storage, Parallel(Book("a", did), Book("b", did))).transaction(Trip()) as transaction:
        seen = [step.step_name async for step in transaction]
    assert sorted(seen) == ["a", "b"]


async def test_a_fallback_inside_a_group_saves_the_group(storage: Storage, did: list[str]) -> None:
    trip = Trip()
    part = Fallback(Book("a", did, act=raises(OSError())), Book("a2", did))
    result = await trip_of(storage, Parallel(part, Book("b", did))).run(trip)
    assert result.state is SagaState.COMPLETED
    assert trip.seen() == "a2b"
    assert "undo b" not in did


@pytest.mark.parametrize("limit", [None, 1])
async def test_groups_inside_groups_may_begin_with_nothing_but_groups(
    storage: Storage, did: list[str], limit: int | None
) -> None:
    """No step of the outer ones has begun when the inner ones are taken up, so no branch has a copy yet."""
    trip = Trip()
    innermost = Parallel(Book("a", did), Book("b", did))
    inner = Parallel(Fallback(innermost, Book("never", did)), Book("c", did), limit=1)
    other = Parallel(Fallback(Parallel(Book("total", did, into="total", act=_total)), Book("no", did)))
    outer = Parallel(Fallback(inner, Book("nor this", did)), Fallback(other, Book("nor that", did)), limit=limit)
    result = await trip_of(storage, outer).run(trip)
    assert result.state is SagaState.COMPLETED
    assert (trip.seen(), trip.total) == ("abc", 7)


async def _total(trip: Trip) -> None:
    trip.total = 7


async def test_retries_inside_a_group_are_each_step_s_own(storage: Storage, did: list[str]) -> None:
    left = [OSError(), OSError()]

    async def act(trip: Trip) -> None:
        if left:
            raise left.pop()

    await trip_of(storage, Parallel(Book("a", did, act=act, retry=AT_ONCE), Book("b", did))).run(Trip())
    assert did.count("act a") == 3
    assert did.count("act b") == 1


async def test_an_error_that_a_retry_may_mend_is_no_failure_of_the_group(storage: Storage, did: list[str]) -> None:
    failed = anyio.Event()

    async def fail(trip: Trip) -> None:
        failed.set()
        raise OSError("the first of three attempts")

    async def fail_then(trip: Trip) -> None:
        await failed.wait()
        raise ValueError("mine")

    slow = Book("a", did, act=fail, retry=Retry(attempts=3, delay=600.0))
    with pytest.raises(ValueError, match="mine"):
        await trip_of(storage, Parallel(slow, Book("b", did, act=fail_then))).run(Trip())
    assert sorted(did) == ["act a", "act b", "undo a", "undo b"]


async def test_a_checkpoint_of_a_branch_is_seen_by_its_next_attempt_alone(storage: Storage, did: list[str]) -> None:
    saved, seen = anyio.Event(), list[str]()

    async def act(trip: Trip) -> None:
        if current_step().attempt == 1:
            trip.stops.append("saved")
            await checkpoint()
            saved.set()
            raise OSError
        seen.append(f"a {trip.stops}")

    async def look(trip: Trip) -> None:
        await saved.wait()
        seen.append(f"b {trip.stops}")

    group = Parallel(Book("a", did, act=act, retry=AT_ONCE), Book("b", did, act=look))
    await trip_of(storage, group).run(Trip())
    assert sorted(seen) == ["a ['saved']", "b []"]


async def test_a_saga_whose_store_failed_is_given_back_though_another_branch_ended_meanwhile(did: list[str]) -> None:
    """What that branch noted follows an entry that the store does not have."""
    storage, began = WatchedStorage(), anyio.Event()

    async def act(trip: Trip) -> None:
        await began.wait()
        storage.fails.append(CorruptRecord("the saga", "a test says so"))

    async def for_ever_after(trip: Trip) -> None:
        began.set()
        await anyio.sleep_forever()

    group = Parallel(Book("a", did, act=act), Book("b", did, act=for_ever_after))
    with pytest.raises(CorruptRecord):
        await trip_of(storage, group).run(Trip(), saga_id="t")
    assert (await storage.load("t")).summary.owner is None


class SlowToConfirm(MemoryStorage):
    """Has its `number`-th confirmation take until nothing else can go on, whatever is cancelled meanwhile."""

    waits = True

    def __init__(self, number: int) -> None:
        super().__init__()
        self.left = number
        self.asked = anyio.Event()

    async def confirm(self, claim: Claim) -> None:
        await super().confirm(claim)
        self.left -= 1
        if not self.left:
            self.asked.set()
            with anyio.CancelScope(shield=True):
                await anyio.wait_all_tasks_blocked()


async def test_a_branch_whose_intent_was_withdrawn_while_its_claim_was_confirmed_does_not_act(did: list[str]) -> None:
    group = Parallel(Book("a", did, act=raises(OSError())), Book("b", did, act=raises(OSError())))
    with pytest.raises(OSError):  # noqa: PT011 - it has no text
        await trip_of(SlowToConfirm(1), group).run(Trip())
    assert did in (["act a", "undo a"], ["act b", "undo b"])


async def test_an_intent_stays_while_the_primary_of_another_branch_goes_back(did: list[str]) -> None:
    storage = SlowToConfirm(1)
    group = Parallel(*(Fallback(Book(name, did, act=raises(NotDone())), Book(f"{name}2", did)) for name in "ab"))
    await trip_of(storage, group).run(Trip(), saga_id="t")
    assert EntryKind.WITHDRAWN not in [entry.kind for entry in (await storage.load("t")).entries]


async def test_an_undo_whose_intent_was_withdrawn_while_its_claim_was_confirmed_has_another_one(
    did: list[str],
) -> None:
    """I2. The primary is being undone for its fallback when another branch sends the saga back."""
    storage, began = SlowToConfirm(3), anyio.Event()  # two acts, and that undo

    async def fail(trip: Trip) -> None:
        await began.wait()
        raise OSError

    async def fail_then(trip: Trip) -> None:
        began.set()
        await storage.asked.wait()
        raise ValueError("mine")

    group = Parallel(Fallback(Book("a", did, act=fail), Book("c", did)), Book("b", did, act=fail_then))
    with pytest.raises(ValueError, match="mine"):
        await trip_of(storage, group).run(Trip(), saga_id="t")
    kinds = [entry.kind for entry in (await storage.load("t")).entries if entry.path == "1/1/primary"]
    assert kinds[-4:] == [EntryKind.UNDO_STARTED, EntryKind.WITHDRAWN, EntryKind.UNDO_STARTED, EntryKind.UNDONE]


async def test_the_caller_sees_what_the_undos_of_a_group_wrote(did: list[str]) -> None:
    trip = Trip()

    async def undo(copy: Trip) -> None:
        copy.total = 1

    group = Parallel(Book("a", did, undo=undo), Book("b", did))
    with pytest.raises(NotDone):
        await trip_of(MemoryStorage(), group, Book("c", did, act=raises(NotDone()))).run(trip)
    assert trip.total == 1


async def test_a_cancelled_saga_undoes_all_its_branches(storage: Storage, did: list[str]) -> None:
    began = anyio.Event()
    group = Parallel(Book("a", did, act=for_ever), Book("b", did, act=tells(began)))
    saga = trip_of(storage, group)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(lambda: saga.run(Trip(), saga_id="t"))
        await began.wait()
        await anyio.wait_all_tasks_blocked()
        tasks.cancel_scope.cancel()
    assert sorted(did) == ["act a", "act b", "undo a", "undo b"]
    assert (await storage.load("t")).summary.state is SagaState.COMPENSATED


@in_jumping_time
async def test_the_time_limit_of_the_saga_ends_all_branches(did: list[str]) -> None:
    group = Parallel(Book("a", did, act=for_ever), Book("b", did, act=for_ever))
    with pytest.raises(TimeoutError) as caught:
        await trip_of(MemoryStorage(), group, timeout=10.0).run(Trip())
    assert type(caught.value) is SagaTimeout
    assert sorted(did) == ["act a", "act b", "undo a", "undo b"]


async def test_recovery_resumes_only_what_is_missing(did: list[str]) -> None:
    storage, done = MemoryStorage(), anyio.Event()

    async def hang(trip: Trip) -> None:
        if not storage_is_dead:
            await anyio.sleep_forever()

    storage_is_dead = False
    saga = trip_of(storage, Parallel(Book("a", did, act=tells(done)), Book("b", did, act=hang)), Book("c", did))
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(lambda: saga.run(Trip(), saga_id="t"))
        await done.wait()
        await anyio.wait_all_tasks_blocked()
        storage.kill()
        storage_is_dead = True
        tasks.cancel_scope.cancel()
    result = await recover_saga(saga.moved_to(storage.twin()), "t")
    assert result.state is SagaState.COMPLETED
    assert sorted(did) == ["act a", "act b", "act b", "act c"]
    assert result.context.seen() == "abc"


async def test_a_lost_branch_is_not_left_alone_while_another_would_still_wait_for_its_retry(did: list[str]) -> None:
    storage, began, failed = MemoryStorage(), anyio.Event(), anyio.Event()

    async def hang(trip: Trip) -> None:
        began.set()
        await anyio.sleep_forever()

    async def fail(trip: Trip) -> None:
        await began.wait()
        failed.set()
        raise OSError

    slow = Book("a", did, act=fail, retry=Retry(attempts=2, delay=600.0, max_delay=600.0))
    saga = trip_of(storage, Parallel(slow, Book("b", did, act=hang)))
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(lambda: saga.run(Trip(), saga_id="t"))
        await failed.wait()
        await anyio.wait_all_tasks_blocked()
        storage.kill()
        tasks.cancel_scope.cancel()
    claims = await storage.twin().claim_due(["trip"], 1)
    assert [claim.record.summary.saga_id for claim in claims] == ["t"]


async def test_a_branch_that_is_resumed_waits_for_the_turn_of_its_retry(did: list[str]) -> None:
    storage = MemoryStorage()
    slow = Book("a", did, act=raises(OSError()), retry=Retry(attempts=2, delay=600.0, max_delay=600.0))
    saga = trip_of(storage, Parallel(slow, Book("b", did)))
    for _ in range(2):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(lambda: saga.run(Trip(), saga_id="t"))
            await anyio.wait_all_tasks_blocked()
            storage.kill()
            tasks.cancel_scope.cancel()
    assert did == ["act a", "act b"]


class ProbedBook(Book):
    """A step whose effect is always there."""

    async def probe(self, trip: Trip) -> Outcome:
        return Outcome.DONE


async def test_a_lost_branch_that_is_done_by_its_probe_clashes_with_what_its_checkpoint_kept(did: list[str]) -> None:
    """What its earlier attempt wrote besides is not what is merged."""
    storage, began = MemoryStorage(), anyio.Event()

    async def save_and_be_lost(trip: Trip) -> None:
        if current_step().attempt == 2:
            began.set()
            await anyio.sleep_forever()
        trip.c = "from a"
        await checkpoint()
        trip.c = ""
        raise OSError

    async def write(trip: Trip) -> None:
        trip.c = "from b"

    slow = ProbedBook("a", did, act=save_and_be_lost, retry=Retry(attempts=2, delay=0.0))
    saga = trip_of(storage, Parallel(slow, Book("b", did, act=write)))
    await lost_in(began, storage, lambda: saga.run(Trip(), saga_id="t"))
    result = await recover_saga(saga.moved_to(storage.twin()), "t")
    assert result.state is SagaState.COMPENSATED
    probed = [entry for entry in (await storage.twin().load("t")).entries if entry.kind is EntryKind.PROBED]
    assert [(entry.error or "").split(": ")[0] for entry in probed] == ["it is done, but its context cannot be merged"]


async def test_n_plus_one_commits_hold_for_groups(did: list[str]) -> None:
    """Whatever the limit."""
    for limit in (None, 1, 2):
        storage = WatchedStorage()
        group = Parallel(Book("a", did), Book("b", did), Book("c", did), limit=limit)
        await trip_of(storage, group, Book("a2", did)).run(Trip())
        assert len(storage.commits) <= 5, storage.commits


async def test_what_a_branch_failed_with_and_the_way_back_of_the_group_are_one_commit(did: list[str]) -> None:
    storage = WatchedStorage()
    group = Parallel(Book("a", did), Book("b", did, act=raises(OSError())), limit=1)
    with pytest.raises(OSError):  # noqa: PT011 - it has no text
        await trip_of(storage, group).run(Trip())
    assert ["UNKNOWN", "BACK", "UNDO_STARTED"] in storage.commits


async def test_nothing_of_a_group_begins_once_one_of_its_branches_waits_for_a_person(did: list[str]) -> None:
    async def unkept(trip: Trip) -> None:
        trip.a = object()  # type: ignore[assignment]  # on purpose

    group = Parallel(*(Book(name, did, act=unkept, retry=AT_ONCE) for name in "ab"), limit=1)
    with pytest.raises(SagaParked):
        await trip_of(MemoryStorage(), Book("c", did, pivot=True), group).run(Trip())
    assert did == ["act c", "act a"]


async def test_what_a_group_inside_changed_clashes_with_nothing_unless_the_group_is_done(did: list[str]) -> None:
    inner = Parallel(Book("a2", did), Book("b", did, act=raises(NotDone())), limit=1)
    outer = Parallel(Book("a", did), Fallback(inner, Book("c", did)), limit=1)
    result = await trip_of(MemoryStorage(), outer).run(Trip())
    assert result.context.seen() == "ac"
    assert did == ["act a", "act a2", "act b", "undo a2", "act c"]


async def test_a_branch_is_not_intended_before_the_limit_lets_it_begin(did: list[str]) -> None:
    """If the process dies before, nobody undoes what was never called."""
    storage = WatchedStorage()
    await trip_of(storage, Parallel(Book("a", did), Book("b", did), limit=1)).run(Trip())
    assert storage.commits[0] == ["STARTED"]


async def test_keys_differ_between_branches_and_stay_with_them(storage: Storage, did: list[str]) -> None:
    keys: list[str] = []

    async def note(trip: Trip) -> None:
        keys.append(current_step().key)

    group = Parallel(Book("a", did, act=note), Fallback(Book("b", did, act=note), Book("c", did)))
    await trip_of(storage, group).run(Trip(), saga_id="t")
    assert sorted(keys) == ["t:1/1:act", "t:1/2/primary:act"]


@in_jumping_time
async def test_a_wait_of_one_branch_does_not_hold_up_the_others(did: list[str]) -> None:
    done = anyio.Event()
    left = [OSError()]

    async def act(trip: Trip) -> None:
        if left:
            raise left.pop()
        assert done.is_set()

    slow = Book("a", did, act=act, retry=Retry(attempts=2, delay=1.0))
    await trip_of(MemoryStorage(), Parallel(slow, Book("b", did, act=tells(done)))).run(Trip())
    assert did.count("act a") == 2
