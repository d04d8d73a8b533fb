"""A forked child is an incarnation of its own and damages nothing."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
import traceback
import warnings
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from pathlib import Path

import anyio
import pytest
from attrs import define

from anysaga import MemoryStorage, Saga, Step
from anysaga._errors import StaleFence
from anysaga._records import EntryKind, StoredEvent
from anysaga.storages import SQLAlchemyStorage
from anysaga.storages._forks import ForkLock, _one_at_a_time, _take
from anysaga.testing._storage._harness import created, entry, write

pytestmark = [pytest.mark.anyio, pytest.mark.skipif(not hasattr(os, "fork"), reason="there are no forks here")]


@define
class Order:
    """What is ordered: nothing in particular."""


class Reserve(Step[Order]):
    read_only = True

    async def act(self, order: Order) -> None: ...


@pytest.fixture
async def storage(tmp_path: Path) -> AsyncIterator[SQLAlchemyStorage]:
    async with SQLAlchemyStorage(tmp_path / "orders.db") as storage:
        yield storage


def in_child(check: Callable[[], None]) -> None:
    """Run `check` in a forked child and wait for it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # threads and forks: what this test is about
        child = os.fork()
    if child == 0:
        try:
            check()
        except BaseException:  # noqa: BLE001  # the child must not return into the test run
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0


async def test_a_child_has_its_own_incarnation_connection_and_heartbeat(
    storage: SQLAlchemyStorage, anyio_backend_name: str
) -> None:
    claim = await created(storage)
    owner = storage._lease.owner.id

    async def child() -> None:
        assert claim.lost
        with pytest.raises(StaleFence):
            await storage.confirm(claim)
        await created(storage, "child's")
        assert storage._lease.owner.id != owner
        heartbeat = storage._lease._thread
        assert heartbeat is not None
        assert heartbeat.is_alive()
        await storage.aclose()

    in_child(lambda: _run_anew(child))
    assert not claim.lost
    await storage.confirm(claim)
    await storage.record(write(claim, entry(2, EntryKind.DONE)))
    assert [summary.saga_id for summary in await storage.find()] == ["child's", "saga-1"]
    assert (await storage.claim("child's")).fence == 2


async def test_a_child_may_fork_again(storage: SQLAlchemyStorage) -> None:
    await created(storage)

    def child() -> None:
        in_child(lambda: None)
        assert not _one_at_a_time.locked()

    in_child(child)


def _run_anew(child: Callable[[], Awaitable[object]]) -> None:
    # The parent's loop is on this thread's stack; a new thread has none.
    failures: list[BaseException] = []

    def run() -> None:
        try:
            anyio.run(child, backend="asyncio")
        except BaseException as error:  # noqa: BLE001  # told by the main thread
            failures.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    if failures:
        raise failures[0]


async def test_nothing_is_open_at_the_moment_of_a_fork(storage: SQLAlchemyStorage, tmp_path: Path) -> None:
    await created(storage)
    await storage.load("saga-1")

    def child() -> None:
        descriptors = Path("/proc/self/fd")
        if descriptors.exists():
            opened = [str(each.resolve()) for each in descriptors.iterdir()]
            assert not [name for name in opened if name.startswith(str(tmp_path))]

    in_child(child)
    assert (await storage.load("saga-1")).summary.seq == 1


async def test_what_a_child_drops_of_its_parents_stays_the_parents(storage: SQLAlchemyStorage) -> None:
    """A finalizer gave the saga away, though the parent went on with it."""
    saga = Saga[Order](name="order", steps=[Reserve], storage=storage)
    transactions = [await saga.transaction(Order(), saga_id="saga-1").__aenter__()]

    async def child() -> None:
        transactions.clear()
        async with storage:
            pass

    in_child(lambda: _run_anew(child))
    assert (await storage.load("saga-1")).summary.owner is not None
    await transactions[0].suspend()


@pytest.mark.parametrize("kind", ["memory", "sqlite"])
async def test_what_a_child_writes_wakes_nobody_in_a_loop_of_its_parent(kind: str, tmp_path: Path) -> None:
    made = MemoryStorage() if kind == "memory" else SQLAlchemyStorage(tmp_path / "orders.db")
    told: list[str] = []

    async def child() -> None:
        claim = await created(made, "child's")
        event = StoredEvent("1", "paid", "{}", "order", "Pay", ("broker",))
        await made.record(write(claim, entry(2, EntryKind.DONE, events=(event,))))
        assert not told

    async with made:
        made.watch_events(lambda: told.append("event"))
        in_child(lambda: _run_anew(child))


async def test_a_child_uses_a_store_in_memory_that_a_thread_used_at_the_fork() -> None:
    storage = MemoryStorage()
    entered = threading.Event()

    def slow() -> None:
        with storage._shelf:
            entered.set()
            while not _one_at_a_time.locked():  # the fork has begun
                time.sleep(0.001)

    def child() -> None:
        signal.alarm(10)
        _run_anew(partial(created, storage))

    thread = threading.Thread(target=slow)
    thread.start()
    entered.wait()
    in_child(child)
    thread.join()
    assert await storage.find() == []


async def test_a_fork_waits_for_the_transaction_under_way(storage: SQLAlchemyStorage) -> None:
    claim = await created(storage)
    entered, go_on = threading.Event(), threading.Event()

    def slow(connection: object) -> None:
        entered.set()
        go_on.wait()

    thread = threading.Thread(target=storage._core.writer.run, args=[slow])
    thread.start()
    entered.wait()
    threading.Thread(target=go_on.set).start()
    in_child(lambda: _run_anew(storage.find))
    thread.join()
    await storage.record(write(claim, entry(2, EntryKind.DONE)))


async def test_an_interrupt_while_a_fork_waits_leaves_no_lock_behind(
    storage: SQLAlchemyStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such as Ctrl-C. Python lets nothing out of a fork: it is printed, and the fork goes on."""
    claim = await created(storage)
    entered, interrupted, told = threading.Event(), threading.Event(), list[object]()
    monkeypatch.setattr(sys, "unraisablehook", lambda unraisable: told.append(unraisable.exc_type))

    def interrupt(*_: object) -> None:
        interrupted.set()
        raise KeyboardInterrupt

    def slow(connection: object) -> None:
        entered.set()
        while not _one_at_a_time.locked():  # the fork has begun
            time.sleep(0.001)
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGUSR1)
        interrupted.wait()

    before = signal.signal(signal.SIGUSR1, interrupt)
    try:
        threading.Thread(target=storage._core.writer.run, args=[slow]).start()
        entered.wait()
        in_child(lambda: _run_anew(storage.find))
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert told == [KeyboardInterrupt]
    again = threading.Thread(target=in_child, args=[lambda: None], daemon=True)
    again.start()
    again.join(timeout=20)
    assert not again.is_alive()
    await storage.record(write(claim, entry(2, EntryKind.DONE)))


def test_an_interrupt_just_when_a_lock_is_taken_loses_nothing_of_that() -> None:
    """It would be taken a second time, and waited for for ever."""
    lock, main = ForkLock(), threading.main_thread().ident or 0
    lock.lock.acquire()

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    def let_go() -> None:
        while sys._current_frames()[main].f_code is not _take.__code__:
            time.sleep(0.001)
        lock.lock.release()
        signal.pthread_kill(main, signal.SIGUSR1)  # before anybody else runs, so that it is seen with the lock in hand

    before, interval = signal.signal(signal.SIGUSR1, interrupt), sys.getswitchinterval()
    sys.setswitchinterval(10)
    try:
        threading.Thread(target=let_go).start()
        with pytest.raises(KeyboardInterrupt):
            lock.pause()
    finally:
        sys.setswitchinterval(interval)
        signal.signal(signal.SIGUSR1, before)
    again = threading.Thread(target=lock.pause, daemon=True)
    again.start()
    again.join(timeout=20)
    assert not again.is_alive()
    lock.resume()
    assert not lock.lock.locked()
