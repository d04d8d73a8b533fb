"""A worker takes up what is due, and stops when it is told to."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import pytest
from anyio.abc import Process
from anyio.lowlevel import checkpoint
from anyio.streams.buffered import BufferedByteReceiveStream
from attrs import define
from virtual_time import in_jumping_time

from anysaga import (
    InvalidArgument,
    MemoryStorage,
    NotDone,
    Parallel,
    Retry,
    Saga,
    SagaResult,
    SagaState,
    SagaWorker,
    Step,
    StorageClosed,
    StorageUnavailable,
    _threads,
    recover,
)
from anysaga._crossing_threads import LoopLimiter
from anysaga.abc import Claim, EntryKind, Storage
from anysaga.storages._clock import ManualClock
from anysaga.testing._storage._harness import created, new_saga

pytestmark = pytest.mark.anyio


@define
class Order:
    number: int = 1


class Noted(Step[Order]):
    """Says what it does, and calls `during` in the middle of it."""

    def __init__(self, name: str, did: list[str], during: Callable[[], Any] | None = None) -> None:
        self.name, self.did, self.during = name, did, during

    async def act(self, order: Order) -> None:
        if self.during is not None:
            await self.during()
        self.did.append(f"{self.name} {order.number}")

    async def compensate(self, order: Order) -> None:
        self.did.append(f"undo {self.name} {order.number}")


def saga_of(storage: Storage, did: list[str], during: Callable[[], Any] | None = None, steps: int = 1) -> Saga[Order]:
    made = [Noted(f"step-{number}", did, during if number == 0 else None) for number in range(steps)]
    return Saga[Order](name="order", steps=made, storage=storage, grace=0.01)


class Results(list[SagaResult[Any]]):
    """Results as they come, and a way to wait for some of them."""

    def __init__(self) -> None:
        self._came = anyio.Event()

    def __call__(self, result: SagaResult[Any]) -> None:
        self.append(result)
        self._came.set()
        self._came = anyio.Event()

    async def wait_for(self, number: int) -> None:
        with anyio.fail_after(30):
            while len(self) < number:
                await self._came.wait()

    @property
    def ids(self) -> list[str]:
        return sorted(result.saga_id for result in self)


@asynccontextmanager
async def working(saga: Saga[Order], results: Results, **options: Any) -> AsyncIterator[SagaWorker]:
    """A worker that drains at the end of the block."""
    options = {"poll": 0.01, **options}
    worker = SagaWorker([saga], storage=saga.storage, on_result=results, **options)
    async with anyio.create_task_group() as group:
        group.start_soon(worker.run)
        yield worker
        worker.drain()


async def test_it_finishes_what_was_submitted_before_and_while_it_runs(storage: Storage, did: list[str]) -> None:
    saga, results = saga_of(storage, did), Results()
    await saga.submit(Order(1), saga_id="one")
    async with working(saga, results):
        await results.wait_for(1)
        await saga.submit(Order(2), saga_id="two")
        await results.wait_for(2)
    assert results.ids == ["one", "two"]
    assert did == ["step-0 1", "step-0 2"]


async def test_it_takes_over_from_the_dead(did: list[str]) -> None:
    dead = MemoryStorage()
    saga, results = saga_of(dead.twin(), did), Results()
    async with anyio.create_task_group() as group:

        async def dies() -> None:
            dead.kill()
            await anyio.sleep_forever()

        group.start_soon(lambda: saga_of(dead, did, dies).run(Order(1), saga_id="one"))
        async with working(saga, results):
            await results.wait_for(1)
        group.cancel_scope.cancel()
    assert (results.ids, did) == (["one"], ["step-0 1"])


async def test_it_leaves_the_living_alone(storage: Storage, did: list[str]) -> None:
    saga, results = saga_of(storage, did), Results()
    async with saga.transaction(Order(1), saga_id="mine") as mine:
        await saga.submit(Order(2), saga_id="other")
        async with working(saga, results):
            await results.wait_for(1)
        assert results.ids == ["other"]
        assert (await storage.load("mine")).summary.state is SagaState.RUNNING
        await mine.suspend()


async def test_it_drives_as_many_at_once_as_it_may_and_holds_no_more(storage: Storage, did: list[str]) -> None:
    inside, most, results = 0, 0, Results()
    crowded = anyio.Event()

    async def during() -> None:
        nonlocal inside, most
        inside += 1
        most = max(most, inside)
        if inside == 3 and not crowded.is_set():  # from then on sagas end while the store is asked
            owned = [summary for summary in await storage.find(limit=1000) if summary.owner is not None]
            assert len(owned) == 3
            crowded.set()
        await crowded.wait()
        inside -= 1

    saga = saga_of(storage, did, during)
    for number in range(10):
        await saga.submit(Order(number))
    async with working(saga, results, concurrency=3):
        await results.wait_for(10)
    assert most == 3
    assert len(did) == 10


async def test_two_workers_share_the_sagas(storage: Storage, did: list[str]) -> None:
    saga, results = saga_of(storage, did), Results()
    for number in range(20):
        await saga.submit(Order(number), saga_id=f"saga-{number:02}")
    async with working(saga, results, concurrency=2), working(saga, results, concurrency=2):
        await results.wait_for(20)
    assert results.ids == [f"saga-{number:02}" for number in range(20)]
    assert len(did) == 20


async def test_what_cannot_be_read_is_parked_and_starves_nobody(storage: Storage, did: list[str]) -> None:
    saga, results = saga_of(storage, did), Results()
    for number in range(3):
        misfit = await created(storage, f"a-misfit-{number}", name="order", outline='[["0", "gone", ""]]')
        await storage.release(misfit)
    await saga.submit(Order(1), saga_id="good")
    async with working(saga, results, concurrency=1):
        await results.wait_for(4)
    states = {result.saga_id: result.state for result in results}
    assert states.pop("good") is SagaState.COMPLETED
    assert set(states.values()) == {SagaState.PARKED}


async def test_a_saga_that_fails_does_not_end_it(storage: Storage, did: list[str]) -> None:
    async def during() -> None:
        raise ConnectionError("no answer")

    saga, results = saga_of(storage, did, during), Results()
    await saga.submit(Order(1), saga_id="one")
    async with working(saga, results):
        await results.wait_for(1)
        assert results[0].state is SagaState.COMPENSATED
        await saga.submit(Order(2), saga_id="two")
        await results.wait_for(2)


class Flaky(MemoryStorage):
    """Does not hand out sagas for a while."""

    failures = 3

    async def claim_due(self, names: Any, limit: int) -> list[Claim]:
        if self.failures:
            self.failures -= 1
            raise StorageUnavailable("the store", "it does not answer")
        return await super().claim_due(names, limit)


async def test_it_waits_for_a_store_that_does_not_answer(did: list[str], caplog: pytest.LogCaptureFixture) -> None:
    saga, results = saga_of(Flaky(), did), Results()
    await saga.submit(Order(1), saga_id="one")
    with caplog.at_level(logging.WARNING, "anysaga.worker"):
        async with working(saga, results):
            await results.wait_for(1)
    assert caplog.text.count("no sagas could be taken up: the store the store is not available") == 3


async def test_a_closed_store_ends_it_with_an_error(did: list[str]) -> None:
    storage = MemoryStorage()
    worker = SagaWorker([saga_of(storage, did)], storage=storage)
    await storage.aclose()
    with pytest.raises(StorageClosed):
        await worker.run()


async def test_a_listener_that_fails_harms_nobody(
    storage: Storage, did: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    saga, ended = saga_of(storage, did), anyio.Event()

    def listen(result: SagaResult[Any]) -> None:
        if len(did) == 2:
            ended.set()
        raise ZeroDivisionError

    await saga.submit(Order(1))
    await saga.submit(Order(2))
    worker = SagaWorker([saga], storage=storage, poll=0.01, on_result=listen)
    async with anyio.create_task_group() as group:
        group.start_soon(worker.run)
        with anyio.fail_after(30):
            await ended.wait()
        worker.drain()
    assert "on_result failed for saga" in caplog.text


async def test_an_idle_worker_drains_at_once(storage: Storage, did: list[str]) -> None:
    worker = SagaWorker([saga_of(storage, did)], storage=storage, poll=3600)
    with anyio.fail_after(30):
        async with anyio.create_task_group() as group:
            group.start_soon(worker.run)
            await anyio.wait_all_tasks_blocked()
            worker.drain()


async def test_a_worker_that_was_told_to_drain_before_its_turn_came_does_so(storage: Storage, did: list[str]) -> None:
    worker = SagaWorker([saga_of(storage, did)], storage=storage)
    with anyio.fail_after(30):
        async with anyio.create_task_group() as group:
            group.start_soon(worker.run)
            worker.drain()
    assert did == []


async def test_a_worker_that_was_drained_may_run_again(storage: Storage, did: list[str]) -> None:
    done, saga = anyio.Event(), saga_of(storage, did)
    worker = SagaWorker([saga], storage=storage, on_result=lambda _: done.set())
    worker.drain()
    await worker.run()
    await saga.submit(Order(1), saga_id="one")
    with anyio.fail_after(30):
        async with anyio.create_task_group() as group:
            group.start_soon(worker.run)
            await done.wait()
            worker.drain()


async def test_signals_are_left_alone_where_that_is_wanted(did: list[str]) -> None:
    """By a program that has handlers of its own."""
    before, storage = signal.getsignal(signal.SIGTERM), MemoryStorage()
    during: list[object] = []
    worker = SagaWorker([saga_of(storage, did)], storage=storage)
    async with anyio.create_task_group() as group:
        group.start_soon(partial(worker.run, handle_signals=False))
        await anyio.wait_all_tasks_blocked()
        during.append(signal.getsignal(signal.SIGTERM))
        worker.drain()
    assert during == [before]


async def test_draining_lets_a_step_end_and_gives_the_saga_back(storage: Storage, did: list[str]) -> None:
    inside, go_on = anyio.Event(), anyio.Event()

    async def during() -> None:
        inside.set()
        await go_on.wait()

    saga, results = saga_of(storage, did, during, steps=3), Results()
    await saga.submit(Order(1), saga_id="one")
    async with working(saga, results) as worker:
        await inside.wait()
        worker.drain()
        go_on.set()
    assert (did, results) == (["step-0 1"], [])
    summary = (await storage.load("one")).summary
    assert (summary.state, summary.owner, summary.claims) == (SagaState.RUNNING, None, 0)
    (result,) = await recover([saga_of(storage, did, steps=3)], storage=storage)
    assert (result.state, did) == (SagaState.COMPLETED, ["step-0 1", "step-1 1", "step-2 1"])


async def test_a_saga_that_was_claimed_while_the_worker_began_to_drain_is_given_back_as_it_was(did: list[str]) -> None:
    class Late(MemoryStorage):
        async def claim_due(self, names: Iterable[str], limit: int) -> list[Claim]:
            claims = await super().claim_due(names, limit)
            worker.drain()
            return claims

    storage = Late()
    saga = saga_of(storage, did)
    await saga.submit(Order(1), saga_id="one")
    worker = SagaWorker([saga], storage=storage)
    await worker.run()
    summary = (await storage.load("one")).summary
    assert (did, summary.state, summary.owner) == ([], SagaState.PENDING, None)


@in_jumping_time
async def test_running_sagas_have_the_time_to_drain_and_no_more_however_long_the_store_takes_to_answer(
    did: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    inside, looks = anyio.Event(), anyio.Event()

    class Slow(MemoryStorage):
        async def claim_due(self, names: Iterable[str], limit: int) -> list[Claim]:
            if inside.is_set():
                looks.set()
                await anyio.sleep(3600)
            return await super().claim_due(names, limit)

    async def during() -> None:
        inside.set()
        await anyio.sleep_forever()

    storage = Slow()
    saga = saga_of(storage, did, during)
    await saga.submit(Order(1), saga_id="one")
    async with working(saga, Results(), drain_timeout=20) as worker:
        await inside.wait()
        await looks.wait()
        told = anyio.current_time()
        worker.drain()
    assert anyio.current_time() - told < 30
    assert (await storage.load("one")).summary.owner is None
    assert "1 sagas did not stop within 20 s" in caplog.text


class Shaky(Step[Order]):
    """A step whose act fails, and whose next attempt is an hour away."""

    retry = Retry(2, delay=3600.0, max_delay=3600.0)
    read_only = True

    def __init__(self, failing: anyio.Event) -> None:
        self.failing = failing

    async def act(self, order: Order) -> None:
        self.failing.set()
        raise NotDone


@pytest.mark.parametrize("beside", [False, True])
async def test_draining_gives_a_saga_back_that_waits_for_a_retry(
    storage: Storage, did: list[str], *, beside: bool
) -> None:
    """At once, and not when the time is up; but not before a step that acts beside it has ended."""
    failing, go_on = anyio.Event(), anyio.Event()
    shaky = Shaky(failing)
    steps = [Parallel(shaky, Noted("other", did, go_on.wait))] if beside else [shaky]
    saga, results = Saga[Order](name="order", steps=steps, storage=storage, grace=1e-6), Results()
    await saga.submit(Order(1), saga_id="one")
    with anyio.fail_after(30):
        async with working(saga, results, drain_timeout=3600.0) as worker:
            await failing.wait()
            worker.drain()
            for _ in range(20):  # so that it has looked for what waits
                await checkpoint()
            go_on.set()
    assert (did, results) == (["other 1"] if beside else [], [])
    record = await storage.load("one")
    assert (record.summary.state, record.summary.owner, record.summary.claims) == (SagaState.RUNNING, None, 0)
    kinds = sorted(entry.kind for entry in record.entries if entry.kind is not EntryKind.STARTED)
    assert kinds == ([EntryKind.DONE, EntryKind.NOT_DONE] if beside else [EntryKind.NOT_DONE])


async def test_a_step_that_does_not_end_is_cancelled_when_the_time_is_up(storage: Storage, did: list[str]) -> None:
    inside = anyio.Event()

    async def during() -> None:
        inside.set()
        await anyio.sleep_forever()

    saga, results = saga_of(storage, did, during), Results()
    await saga.submit(Order(1), saga_id="one")
    async with working(saga, results, drain_timeout=0.01) as worker:
        await inside.wait()
        worker.drain()
    record = await storage.load("one")
    assert (record.summary.state, record.summary.owner, did) == (SagaState.RUNNING, None, [])
    assert record.entries[-1].kind is EntryKind.STARTED  # it may have had its effect: whoever takes over settles that


class Prints(Step[Order]):
    """A point of no return in a thread."""

    pivot = True

    def __init__(self, did: list[str]) -> None:
        self.did = did

    def act(self, order: Order) -> None:
        self.did.append(f"printed {order.number}")


async def test_an_act_that_never_got_its_thread_leaves_no_doubt_when_the_time_is_up(
    storage: Storage, did: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """B4: a pivot in doubt would wait for a person."""
    monkeypatch.setattr(_threads, "_LIMITER", LoopLimiter(1))
    limiter = _threads._LIMITER.get()
    limiter.acquire_on_behalf_of_nowait("somebody else")
    saga, results = Saga[Order](name="order", steps=[Prints(did)], storage=storage, grace=0.01), Results()
    await saga.submit(Order(1), saga_id="one")
    async with working(saga, results, drain_timeout=0.01) as worker:
        while not limiter.statistics().tasks_waiting:
            await checkpoint()
        worker.drain()
    limiter.release_on_behalf_of("somebody else")
    assert ((await storage.load("one")).entries[-1].kind, did) == (EntryKind.WITHDRAWN, [])
    (result,) = await recover([saga], storage=storage)
    assert (result.state, did) == (SagaState.COMPLETED, ["printed 1"])


async def test_cancelling_it_undoes_nothing(storage: Storage, did: list[str]) -> None:
    inside = anyio.Event()

    async def during() -> None:
        inside.set()
        await anyio.sleep_forever()

    saga = saga_of(storage, did, during)
    await saga.submit(Order(1), saga_id="one")
    async with anyio.create_task_group() as group:
        group.start_soon(SagaWorker([saga], storage=storage).run)
        await inside.wait()
        group.cancel_scope.cancel()
    assert ((await storage.load("one")).summary.owner, did) == (None, [])


async def test_a_clock_that_is_hours_off_does_no_harm(did: list[str]) -> None:
    clock = ManualClock()
    storage = MemoryStorage(clock=clock)
    saga, results = saga_of(storage, did), Results()
    await storage.create(new_saga("owned", name="order"))
    clock.advance(7 * 3600)
    await saga.submit(Order(1), saga_id="one")
    async with working(saga, results):
        await results.wait_for(1)
    assert results.ids == ["one"]
    assert (await storage.load("owned")).summary.owner is not None


async def test_it_runs_once_at_a_time(storage: Storage, did: list[str]) -> None:
    async with working(saga_of(storage, did), Results()) as worker:
        await anyio.wait_all_tasks_blocked()
        with pytest.raises(InvalidArgument, match="runs already"):
            await worker.run()


@pytest.mark.parametrize("bad", [{"concurrency": 0}, {"concurrency": 1.5}, {"poll": 0}, {"drain_timeout": -1}])
def test_numbers_that_make_no_sense_are_refused(bad: dict[str, Any], did: list[str]) -> None:
    storage = MemoryStorage()
    with pytest.raises(InvalidArgument, match=next(iter(bad))):
        SagaWorker([saga_of(storage, did)], storage=storage, **bad)


@pytest.mark.parametrize(
    ("sagas", "problem"),
    [
        ([], "at least one"),
        (Saga, "even if it is only one"),
        (5, "even if it is only one"),
        ([5], "give a class derived from anysaga.Saga, or a saga"),
        ([Order], "give a class derived from anysaga.Saga, or a saga"),
    ],
)
def test_what_are_no_sagas_is_refused(sagas: Any, problem: str) -> None:
    with pytest.raises(InvalidArgument, match=problem):
        SagaWorker(sagas, storage=MemoryStorage())


def test_an_address_is_no_storage(did: list[str]) -> None:
    with pytest.raises(InvalidArgument, match="give a Storage, such as"):
        SagaWorker([saga_of(MemoryStorage(), did)], storage="sagas.db")  # type: ignore[arg-type]


SCRIPT = """
import logging
import sys
from attrs import define
from anysaga import Saga, Step, run_worker

@define
class Order:
    number: int = 1

class Wait(Step[Order]):
    read_only = True
    async def act(self, order: Order) -> None:
        import anyio
        print("working", flush=True)
        await anyio.sleep(3600 if sys.argv[3:] else 0)

class OrderSaga(Saga[Order]):
    name = "order"
    steps = [Wait]
    grace = 0.01

if sys.argv[3:]:
    logging.basicConfig(level=logging.INFO)
run_worker([OrderSaga], storage=sys.argv[1], backend=sys.argv[2], poll=0.05, drain_timeout=3600)
print("drained")
"""


async def _submitted(path: Path, did: list[str]) -> None:
    class Wait(Noted):
        name = "Wait"

    from anysaga import SQLAlchemyStorage  # noqa: PLC0415 - only this test needs it

    async with SQLAlchemyStorage(path) as storage:
        step = Noted("Wait", did)
        step.read_only = True
        await Saga[Order](name="order", steps=[step], storage=storage).submit(Order(1), saga_id="one")


@asynccontextmanager
async def _worker_process(
    file: Path, backend: str, *arguments: str
) -> AsyncIterator[tuple[Process, BufferedByteReceiveStream]]:
    """A worker in a process of its own, in the middle of a step, and what it says."""
    command = [sys.executable, "-c", SCRIPT, str(file), backend, *arguments]
    async with await anyio.open_process(command, stderr=subprocess.STDOUT) as process:
        assert process.stdout is not None
        lines = BufferedByteReceiveStream(process.stdout)
        try:
            assert await _next(lines) == "working"
            yield process, lines
        finally:
            if process.returncode is None:
                process.kill()  # a test that failed must not wait for it


async def _next(lines: BufferedByteReceiveStream) -> str:
    with anyio.fail_after(30):
        return (await lines.receive_until(b"\n", 1000)).decode()


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such signals")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_drains_and_the_process_ends_well(
    tmp_path: Path, anyio_backend_name: str, number: signal.Signals, did: list[str]
) -> None:
    await _submitted(tmp_path / "orders.db", did)
    async with _worker_process(tmp_path / "orders.db", anyio_backend_name) as (process, lines):
        process.send_signal(number)
        with anyio.fail_after(30):
            assert await process.wait() == 0
        assert await _next(lines) == "drained"


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such signals")
async def test_a_second_signal_cancels(tmp_path: Path, anyio_backend_name: str, did: list[str]) -> None:
    await _submitted(tmp_path / "orders.db", did)
    async with _worker_process(tmp_path / "orders.db", anyio_backend_name, "long") as (process, lines):
        process.send_signal(signal.SIGTERM)
        assert "no more sagas" in await _next(lines)
        process.send_signal(signal.SIGTERM)
        with anyio.fail_after(30):
            assert await process.wait() == 0
        assert await _next(lines) == "drained"
