"""Circuit breakers: by themselves, in a Fallback, shared by processes (design 6, rule H3)."""

from __future__ import annotations

import gc
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import anyio
import pytest
from anyio.lowlevel import checkpoint
from trips import AT_ONCE, Book, Trip, for_ever, raises, trip_of
from virtual_time import in_jumping_time

from anysaga import (
    CircuitBreaker,
    CircuitListener,
    CircuitOpen,
    CircuitState,
    DefinitionError,
    Fallback,
    InvalidArgument,
    MemoryStorage,
    NotDone,
    Parallel,
    Saga,
    SagaTimeout,
    SQLAlchemyStorage,
    StaleFence,
    Step,
    _threads,
)
from anysaga._crossing_threads import LoopLimiter
from anysaga.abc import CircuitRecord, CircuitStore, Storage

pytestmark = pytest.mark.anyio


@pytest.fixture
def storage() -> MemoryStorage:
    """No law here depends on how a store keeps its sagas."""
    return MemoryStorage()


class Seconds:
    """A clock that goes when it is told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Seconds:
    return Seconds()


async def fail(breaker: CircuitBreaker, error: BaseException, step: str = "s") -> None:
    """Let one call fail."""
    with pytest.raises(type(error)):
        async with breaker.attempt(step):
            raise error


async def test_it_opens_after_fail_max_failures_and_says_for_how_long(clock: Seconds) -> None:
    breaker = CircuitBreaker(fail_max=2, reset_timeout=60, clock=clock)
    await fail(breaker, OSError())
    await fail(breaker, OSError())
    clock.now += 15
    with pytest.raises(CircuitOpen) as caught:
        async with breaker.attempt("s"):
            raise AssertionError
    assert (caught.value.circuit, caught.value.seconds) == ("s", 45.0)


async def test_after_its_time_one_call_closes_it_again(clock: Seconds) -> None:
    breaker = CircuitBreaker(fail_max=1, clock=clock)
    await fail(breaker, OSError())
    clock.now += 60
    async with breaker.attempt("s"):
        assert breaker.circuit("s").state is CircuitState.HALF_OPEN
        with pytest.raises(CircuitOpen):
            async with breaker.attempt("s"):
                raise AssertionError
    assert breaker.circuit("s").state is CircuitState.CLOSED


async def test_each_step_has_a_circuit_of_its_own() -> None:
    breaker = CircuitBreaker(fail_max=1)
    await fail(breaker, OSError(), "one")
    async with breaker.attempt("two"):
        assert breaker.circuit("one").state is CircuitState.OPEN


async def test_a_name_is_shared_by_steps_and_breakers() -> None:
    first, second = CircuitBreaker(fail_max=1, name="bank-1"), CircuitBreaker(fail_max=5, name="bank-1")
    await fail(first, OSError(), "one")
    with pytest.raises(CircuitOpen):
        async with second.attempt("two"):
            raise AssertionError
    assert second.state is CircuitState.OPEN


async def test_a_name_is_remembered_when_its_breakers_are_gone() -> None:
    """A breaker that is made anew for each saga would never open otherwise."""
    await fail(CircuitBreaker(fail_max=1, name="bank-2"), OSError())
    gc.collect()
    assert CircuitBreaker(name="bank-2").state is CircuitState.OPEN


async def test_a_shared_circuit_is_another_one_than_that_of_the_process() -> None:
    shared = CircuitBreaker(fail_max=1, name="bank-3", shared=True)
    await shared.open(circuits=MemoryStorage())
    assert (shared.state, CircuitBreaker(name="bank-3").state) == (CircuitState.OPEN, CircuitState.CLOSED)


@pytest.mark.parametrize("exclude", [KeyError, lambda error: "mine" in str(error)], ids=["type", "function"])
async def test_what_is_excluded_is_neither_failure_nor_success(exclude: Any) -> None:
    breaker = CircuitBreaker(fail_max=2, exclude=(exclude,))
    await fail(breaker, OSError())
    await fail(breaker, KeyError("mine"))
    assert breaker.circuit("s").failures == 1


async def test_a_function_of_exclude_that_fails_excludes_nothing(caplog: pytest.LogCaptureFixture) -> None:
    """The call's own error is not lost for it, and appears in no log."""
    breaker = CircuitBreaker(fail_max=1, exclude=(lambda error: error.code == 3,))  # type: ignore[attr-defined]
    with pytest.raises(OSError, match="mine"):
        async with breaker.attempt("s"):
            raise OSError("mine")
    assert breaker.circuit("s").state is CircuitState.OPEN
    assert "AttributeError" in caplog.text
    assert "mine" not in caplog.text


async def test_an_excluded_error_gives_the_trial_back(clock: Seconds) -> None:
    breaker = CircuitBreaker(fail_max=1, exclude=(KeyError,), clock=clock)
    await fail(breaker, OSError())
    clock.now += 60
    await fail(breaker, KeyError())
    assert breaker.circuit("s").state is CircuitState.HALF_OPEN
    async with breaker.attempt("s"):
        pass
    assert breaker.circuit("s").state is CircuitState.CLOSED


async def test_a_cancellation_gives_the_trial_back(clock: Seconds) -> None:
    breaker = CircuitBreaker(fail_max=1, clock=clock)
    await fail(breaker, OSError())
    clock.now += 60
    with anyio.CancelScope() as scope:
        async with breaker.attempt("s"):
            scope.cancel()
            await anyio.sleep_forever()
    assert breaker.circuit("s").state is CircuitState.HALF_OPEN
    async with breaker.attempt("s"):
        pass
    assert breaker.circuit("s").state is CircuitState.CLOSED


async def test_by_itself() -> None:
    breaker = CircuitBreaker(fail_max=1)
    with pytest.raises(OSError, match="mine"):
        async with breaker:
            raise OSError("mine")
    with pytest.raises(CircuitOpen):
        async with breaker:
            raise AssertionError
    assert (breaker.state, breaker.fail_counter) == (CircuitState.OPEN, 1)


async def test_by_itself_in_many_tasks_at_once(clock: Seconds) -> None:
    """A call of before, which ends late, is not taken for the one on trial."""
    breaker, late = CircuitBreaker(fail_max=1, clock=clock), anyio.Event()
    began = anyio.Event()

    async def slow() -> None:
        async with breaker:
            began.set()
            await late.wait()

    async with anyio.create_task_group() as group:
        group.start_soon(slow)
        await began.wait()
        with pytest.raises(OSError, match="mine"):
            async with breaker:
                raise OSError("mine")
        clock.now += 60
        async with breaker:
            late.set()
            await anyio.wait_all_tasks_blocked()
            assert breaker.state is CircuitState.HALF_OPEN
    assert breaker.state is CircuitState.CLOSED


async def test_by_itself_entered_in_one_task_and_left_in_another(clock: Seconds) -> None:
    """As a generator does that another task closes: the permit to try is given back."""
    breaker = CircuitBreaker(fail_max=1, reset_timeout=60, clock=clock)
    await breaker.open()
    clock.now += 60
    stack, states = AsyncExitStack(), list[CircuitState]()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(stack.enter_async_context, breaker)
    states.append(breaker.state)
    await stack.aclose()
    states.append(breaker.state)
    assert states == [CircuitState.HALF_OPEN, CircuitState.CLOSED]
    async with breaker:
        pass


async def test_by_hand() -> None:
    breaker = CircuitBreaker()
    await breaker.open()
    with pytest.raises(CircuitOpen):
        async with breaker:
            raise AssertionError
    await breaker.close()
    async with breaker:
        assert breaker.state is CircuitState.CLOSED


class Heard(CircuitListener):
    def __init__(self) -> None:
        self.said: list[str] = []

    def state_change(self, breaker: CircuitBreaker, circuit: str, old: CircuitState, new: CircuitState) -> None:
        self.said.append(f"{circuit}: {old} to {new}")

    def success(self, breaker: CircuitBreaker, circuit: str) -> None:
        self.said.append("success")

    def failure(self, breaker: CircuitBreaker, circuit: str, error: BaseException) -> None:
        self.said.append(f"failure {error}")


async def test_listeners_hear_of_everything_that_counts(clock: Seconds) -> None:
    breaker, heard = CircuitBreaker(fail_max=1, exclude=(KeyError,), clock=clock), Heard()
    breaker.listen(heard)
    await fail(breaker, KeyError())
    await fail(breaker, OSError("one"))
    clock.now += 60
    async with breaker.attempt("s"):
        pass
    assert heard.said == [
        "s: CLOSED to OPEN",
        "failure one",
        "s: OPEN to HALF_OPEN",
        "s: HALF_OPEN to CLOSED",
        "success",
    ]


async def test_a_listener_that_fails_changes_nothing(caplog: pytest.LogCaptureFixture) -> None:
    class Broken(CircuitListener):
        def success(self, breaker: CircuitBreaker, circuit: str) -> None:
            raise RuntimeError("broken")

    breaker, heard = CircuitBreaker(), Heard()
    breaker.listen(Broken())
    breaker.listen(heard)
    async with breaker.attempt("s"):
        pass
    assert heard.said == ["success"]
    assert "a listener of" in caplog.text


class Waiting(CircuitListener):
    """One whose coroutine nobody would await."""

    async def failure(self, breaker: CircuitBreaker, circuit: str, error: BaseException) -> None:  # type: ignore[override]
        raise AssertionError


@pytest.mark.parametrize("listener", [Waiting(), CircuitListener, "heard", None])
def test_a_listener_that_could_never_hear_is_refused(listener: Any) -> None:
    with pytest.raises(InvalidArgument, match="listener"):
        CircuitBreaker().listen(listener)


@pytest.fixture
def restless_threads() -> Iterator[None]:
    """Let threads take turns as often as they can."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(interval)


@pytest.mark.parametrize("name", [None, "bank-4"])
def test_threads_that_ask_first_at_once_get_one_circuit(name: str | None, restless_threads: None) -> None:
    for turn in range(200):
        breaker = CircuitBreaker(name=name and f"{name}-{turn}")
        ready = threading.Barrier(4)
        with ThreadPoolExecutor(4) as threads:
            asked = [threads.submit(_first_cell, breaker, ready) for _ in range(4)]
        assert len({id(each.result()) for each in asked}) == 1


def _first_cell(breaker: CircuitBreaker, ready: threading.Barrier) -> object:
    ready.wait()
    return breaker._cell(breaker.name or "s")


async def test_threads_may_use_one_breaker(restless_threads: None) -> None:
    breaker = CircuitBreaker(fail_max=100_000)

    def work() -> None:
        async def calls() -> None:
            for _ in range(200):
                with pytest.raises(OSError):  # noqa: PT011 - it has no text
                    async with breaker.attempt("s"):
                        raise OSError

        anyio.run(calls)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        await anyio.to_thread.run_sync(thread.join)
    assert breaker.circuit("s").failures == 800


async def _excludes_later(error: BaseException) -> bool:
    return False


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("fail_max", 0),
        ("fail_max", True),
        ("fail_max", 1.5),
        ("reset_timeout", 0),
        ("reset_timeout", float("nan")),
        ("reset_timeout", 1e9 + 1),
        ("reset_timeout", "60"),
        ("exclude", [OSError]),
        ("exclude", (1,)),
        ("exclude", (int,)),
        ("exclude", (_excludes_later,)),
        ("name", ""),
        ("name", 7),
        ("name", "a\nb"),
        ("name", "x" * 201),
        ("clock", 7),
    ],
)
def test_limits_that_cannot_work_are_refused(option: str, value: Any) -> None:
    with pytest.raises(InvalidArgument, match=option):
        CircuitBreaker(**{option: value})


# In a saga


async def test_an_open_circuit_goes_straight_to_the_fallback(storage: Storage, did: list[str]) -> None:
    """The seeds' example: after two failing sagas the third does not call the primary at all, nor undoes it."""
    breaker = CircuitBreaker(fail_max=2)
    part = Fallback(Book("a", did, act=raises(OSError())), Book("b", did), (OSError,), breaker)
    saga = trip_of(storage, part)
    for _ in range(2):
        await saga.run(Trip())
    assert did == ["act a", "undo a", "act b"] * 2
    did.clear()
    result = await saga.run(Trip())
    assert did == ["act b"]
    assert result.steps[0].source == "fallback"
    assert breaker.circuit("trip:1/primary").state is CircuitState.OPEN


async def test_each_attempt_asks_and_tells(storage: Storage, did: list[str]) -> None:
    breaker = CircuitBreaker(fail_max=2)
    primary = Book("a", did, act=raises(OSError()), retry=AT_ONCE)
    await trip_of(storage, Fallback(primary, Book("b", did), circuit_breaker=breaker)).run(Trip())
    assert did == ["act a", "act a", "undo a", "act b"]


async def test_undos_pass_the_breaker_by(storage: Storage, did: list[str]) -> None:
    breaker = CircuitBreaker(fail_max=1)
    primary = Book("a", did, act=raises(OSError()), undo=_once(OSError()))
    await trip_of(storage, Fallback(primary, Book("b", did), circuit_breaker=breaker)).run(Trip())
    assert did == ["act a", "undo a", "undo a", "act b"]


def _once(error: Exception) -> Any:
    left = [error]

    async def deed(trip: Trip) -> None:
        if left:
            raise left.pop()

    return deed


@in_jumping_time
async def test_running_out_of_a_step_s_time_is_a_failure(storage: Storage, did: list[str]) -> None:
    breaker = CircuitBreaker(fail_max=1)
    primary = Book("a", did, act=for_ever, timeout=1.0)
    await trip_of(storage, Fallback(primary, Book("b", did), circuit_breaker=breaker)).run(Trip())
    assert breaker.circuit("trip:1/primary").state is CircuitState.OPEN


@in_jumping_time
async def test_the_saga_s_own_time_limit_says_nothing_about_the_service(storage: Storage, did: list[str]) -> None:
    breaker = CircuitBreaker(fail_max=1)
    part = Fallback(Book("a", did, act=for_ever), Book("b", did), circuit_breaker=breaker)
    with pytest.raises(SagaTimeout):
        await trip_of(storage, part, timeout=10.0).run(Trip())
    assert breaker.circuit("trip:1/primary").failures == 0


async def test_a_claim_that_is_lost_says_nothing_about_the_service(did: list[str]) -> None:
    breaker, storage, began = CircuitBreaker(fail_max=1), MemoryStorage(), anyio.Event()
    goes_on = anyio.Event()

    async def act(trip: Trip) -> None:
        began.set()
        await goes_on.wait()

    saga = trip_of(storage, Fallback(Book("a", did, act=act), Book("b", did), circuit_breaker=breaker))
    ends: list[BaseException] = []

    async def run() -> None:
        try:
            await saga.run(Trip())
        except StaleFence as error:
            ends.append(error)

    async with anyio.create_task_group() as group:
        group.start_soon(run)
        await began.wait()
        storage.kill()
        goes_on.set()
    assert len(ends) == 1
    assert breaker.circuit("trip:1/primary").failures == 0


class Printed(Step[Trip]):
    """A step in a thread."""

    def act(self, trip: Trip) -> None:
        raise AssertionError

    def compensate(self, trip: Trip) -> None:
        raise AssertionError


@in_jumping_time
async def test_an_act_that_got_no_thread_before_its_caller_was_cancelled_says_nothing_about_the_service(
    storage: Storage, did: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_threads, "_LIMITER", LoopLimiter(1))
    _threads._LIMITER.get().acquire_on_behalf_of_nowait("somebody else")
    breaker = CircuitBreaker(fail_max=1)
    with anyio.move_on_after(10) as scope:
        await trip_of(storage, Fallback(Printed(), Book("b", did), circuit_breaker=breaker)).run(Trip())
    assert scope.cancelled_caught
    assert (breaker.circuit("trip:1/primary").failures, did) == (0, [])


async def test_not_done_is_a_failure_unless_it_is_excluded(storage: Storage, did: list[str]) -> None:
    for breaker, failures in ((CircuitBreaker(), 1), (CircuitBreaker(exclude=(NotDone,)), 0)):
        part = Fallback(Book("a", did, act=raises(NotDone())), Book("b", did), circuit_breaker=breaker)
        await trip_of(storage, part).run(Trip())
        assert breaker.circuit("trip:1/primary").failures == failures


async def test_a_cancelled_saga_is_neither_failure_nor_success(storage: Storage, did: list[str]) -> None:
    breaker, began = CircuitBreaker(fail_max=1), anyio.Event()

    async def act(trip: Trip) -> None:
        began.set()
        await anyio.sleep_forever()

    saga = trip_of(storage, Fallback(Book("a", did, act=act), Book("b", did), circuit_breaker=breaker))
    async with anyio.create_task_group() as group:
        group.start_soon(lambda: saga.run(Trip()))
        await began.wait()
        group.cancel_scope.cancel()
    assert breaker.circuit("trip:1/primary").state is CircuitState.CLOSED
    assert did == ["act a", "undo a"]


async def test_if_the_fallback_of_an_open_circuit_fails_the_circuit_is_its_context(
    storage: Storage, did: list[str]
) -> None:
    breaker = CircuitBreaker(fail_max=1, name="context-1")
    await breaker.open()
    part = Fallback(Book("a", did), Book("b", did, act=raises(KeyError("b"))), circuit_breaker=breaker)
    with pytest.raises(KeyError) as caught:
        await trip_of(storage, part).run(Trip())
    assert isinstance(caught.value.__context__, CircuitOpen)
    assert did == ["act b", "undo b"]


async def test_steps_of_a_group_have_circuits_of_their_own(storage: Storage, did: list[str]) -> None:
    breaker = CircuitBreaker(fail_max=1)
    group = Parallel(Book("a", did, act=raises(OSError())), Book("b", did), limit=1)
    await trip_of(storage, Fallback(group, Book("c", did), circuit_breaker=breaker)).run(Trip())
    assert breaker.circuit("trip:1/primary/1").state is CircuitState.OPEN
    assert breaker.circuit("trip:1/primary/2").state is CircuitState.CLOSED


class Deaf:
    """A breaker of somebody else that cannot be told how a call ended."""

    @asynccontextmanager
    async def attempt(self, step: str, circuits: CircuitStore | None, /) -> AsyncIterator[None]:
        with suppress(OSError):
            yield
        raise ConnectionError("its store is away")


async def test_a_breaker_that_cannot_be_told_changes_no_outcome_and_is_logged(
    storage: Storage, did: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    """Else nobody would know why its circuit never opens."""
    fallback = Fallback(Book("a", did, act=raises(OSError())), Book("b", did), circuit_breaker=Deaf())
    await trip_of(storage, fallback).run(Trip(), saga_id="t")
    assert did == ["act a", "undo a", "act b"]
    assert "the breaker of t:1/primary:act was not told how it ended: ConnectionError" in caplog.text


def test_what_is_no_breaker_is_refused_at_declaration(did: list[str]) -> None:
    part: Any = Fallback(Book("a", did), Book("b", did), (), 7)  # type: ignore[arg-type]
    with pytest.raises(DefinitionError, match="circuit_breaker=7 is no breaker"):
        trip_of(None, part)


# Shared


@pytest.fixture(params=["memory", "sqlite"])
async def pair(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[tuple[CircuitStore, CircuitStore]]:
    """Two processes' views of one store."""
    if request.param == "memory":
        memory = MemoryStorage()
        yield memory, memory.twin()
        return
    async with SQLAlchemyStorage(tmp_path / "s.db") as one, SQLAlchemyStorage(tmp_path / "s.db") as two:
        yield one, two


async def test_two_processes_agree_within_one_call(pair: tuple[CircuitStore, CircuitStore]) -> None:
    here, there = CircuitBreaker(fail_max=1, shared=True), CircuitBreaker(fail_max=1, shared=True)
    with pytest.raises(OSError, match="mine"):
        async with here.attempt("s", pair[0]):
            raise OSError("mine")
    with pytest.raises(CircuitOpen):
        async with there.attempt("s", pair[1]):
            raise AssertionError
    await there.close("s", circuits=pair[1])
    async with here.attempt("s", pair[0]):
        pass


async def test_failures_of_two_processes_add_up(pair: tuple[CircuitStore, CircuitStore]) -> None:
    for store in (pair[0], pair[1], pair[0]):
        with pytest.raises(OSError, match="mine"):
            async with CircuitBreaker(fail_max=3, shared=True).attempt("s", store):
                raise OSError("mine")
    with pytest.raises(CircuitOpen):
        async with CircuitBreaker(fail_max=3, shared=True).attempt("s", pair[1]):
            raise AssertionError


async def test_one_trial_for_all_processes(pair: tuple[CircuitStore, CircuitStore]) -> None:
    here, there = (CircuitBreaker(fail_max=1, reset_timeout=1e-6, shared=True) for _ in range(2))
    await here.open("s", circuits=pair[0])
    async with here.attempt("s", pair[0]):
        with pytest.raises(CircuitOpen):
            async with there.attempt("s", pair[1]):
                raise AssertionError
    async with there.attempt("s", pair[1]):
        pass


async def test_a_failure_on_trial_opens_it_again(pair: tuple[CircuitStore, CircuitStore]) -> None:
    breaker = CircuitBreaker(fail_max=5, reset_timeout=1e-6, shared=True)
    await breaker.open("s", circuits=pair[0])
    heard = Heard()
    breaker.listen(heard)
    with pytest.raises(OSError, match="mine"):
        async with breaker.attempt("s", pair[0]):
            raise OSError("mine")
    assert heard.said == ["s: OPEN to HALF_OPEN", "s: HALF_OPEN to OPEN", "failure mine"]


class Counting(MemoryStorage):
    """Counts what is written, and lets another process write in between."""

    def __init__(self) -> None:
        super().__init__()
        self.saves = 0
        self.before_save: list[Any] = []

    async def load_circuit(self, name: str) -> CircuitRecord:
        return await super().load_circuit(name)

    async def save_circuit(self, name: str, text: str, *, before: int) -> bool:
        self.saves += 1
        if self.before_save:
            await self.before_save.pop()()
        return await super().save_circuit(name, text, before=before)


async def test_a_success_on_a_quiet_circuit_writes_nothing() -> None:
    store, breaker = Counting(), CircuitBreaker(shared=True)
    for _ in range(3):
        async with breaker.attempt("s", store):
            pass
    assert store.saves == 0


async def test_a_success_counts_though_its_circuit_was_quiet_when_it_began() -> None:
    """Failures that surround a success are not in a row, whoever began first."""
    store, breaker = MemoryStorage(), CircuitBreaker(fail_max=2, shared=True)
    async with breaker.attempt("s", store):
        with pytest.raises(OSError, match="one"):
            async with breaker.attempt("s", store):
                raise OSError("one")
    with pytest.raises(OSError, match="two"):
        async with breaker.attempt("s", store):
            raise OSError("two")
    assert (breaker.circuit("s").state, breaker.circuit("s").failures) == (CircuitState.CLOSED, 1)


class Slow(MemoryStorage):
    """Has written already, when it comes to answer, and somebody has done something meanwhile."""

    meanwhile: Callable[[], object] = list

    async def save_circuit(self, name: str, text: str, *, before: int) -> bool:
        answer = await super().save_circuit(name, text, before=before)
        self.meanwhile()
        await checkpoint()
        return answer


async def test_who_is_cancelled_while_the_permit_is_written_gives_it_back() -> None:
    breaker, scope = CircuitBreaker(reset_timeout=1e-6, shared=True), anyio.CancelScope()
    store = Slow()
    await breaker.open("s", circuits=store)
    store.meanwhile = scope.cancel
    with scope:
        async with breaker.attempt("s", store):
            await checkpoint()
    assert breaker.circuit("s").state is CircuitState.HALF_OPEN
    async with breaker.attempt("s", store):
        pass
    assert breaker.circuit("s").state is CircuitState.CLOSED


async def test_a_cancellation_gives_a_shared_trial_back(pair: tuple[CircuitStore, CircuitStore]) -> None:
    here, there = (CircuitBreaker(reset_timeout=1e-6, shared=True) for _ in range(2))
    await here.open("s", circuits=pair[0])
    with anyio.CancelScope() as scope:
        async with here.attempt("s", pair[0]):
            scope.cancel()
            await checkpoint()
    assert scope.cancelled_caught
    async with there.attempt("s", pair[1]):
        pass
    assert there.circuit("s").state is CircuitState.CLOSED


async def test_a_circuit_that_cannot_be_read_begins_anew(caplog: pytest.LogCaptureFixture) -> None:
    """It stops no call, and what is known next replaces it."""
    store, breaker = MemoryStorage(), CircuitBreaker(fail_max=1, shared=True)
    await store.save_circuit("s", '{"state":"BLUE"}', before=0)
    with pytest.raises(OSError, match="mine"):
        async with breaker.attempt("s", store):
            raise OSError("mine")
    assert "the circuit 's'" in caplog.text
    with pytest.raises(CircuitOpen):
        async with breaker.attempt("s", store):
            raise AssertionError


async def test_nothing_is_lost_when_two_write_at_once() -> None:
    """Compare-and-set: who comes second looks again."""
    store, breaker = Counting(), CircuitBreaker(fail_max=2, shared=True)

    async def other() -> None:
        with pytest.raises(OSError, match="other"):
            async with breaker.attempt("s", store):
                raise OSError("other")

    store.before_save.append(other)
    with pytest.raises(OSError, match="mine"):
        async with breaker.attempt("s", store):
            raise OSError("mine")
    with pytest.raises(CircuitOpen):
        async with breaker.attempt("s", store):
            raise AssertionError


async def test_a_shared_breaker_in_a_saga_uses_the_saga_s_store(storage: Storage, did: list[str]) -> None:
    def part() -> Fallback:
        breaker = CircuitBreaker(fail_max=1, shared=True)
        return Fallback(Book("a", did, act=raises(OSError())), Book("b", did), circuit_breaker=breaker)

    await trip_of(storage, part()).run(Trip())
    await trip_of(storage, part()).run(Trip())
    assert did == ["act a", "undo a", "act b", "act b"]


class Bare(Storage):
    """A storage of somebody who needs no circuits."""

    create = claim = claim_due = record = confirm = release = load = find = purge = None  # type: ignore[assignment]
    defer = None  # type: ignore[assignment]


def test_a_shared_breaker_with_a_store_that_keeps_no_circuits_is_refused(did: list[str]) -> None:
    part = Fallback(Book("a", did), Book("b", did), circuit_breaker=CircuitBreaker(shared=True))
    with pytest.raises(InvalidArgument, match="keeps no circuits"):
        Saga[Trip](name="trip", steps=[part], storage=Bare())


async def test_a_shared_breaker_by_itself_needs_a_store() -> None:
    with pytest.raises(InvalidArgument, match="needs a store"):
        async with CircuitBreaker(shared=True):
            raise AssertionError
