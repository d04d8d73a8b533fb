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
from pathlib import Path

import anyio
import pytest

from anysaga._errors import StaleFence
from anysaga._records import EntryKind
from anysaga.storages import SQLAlchemyStorage
from anysaga.storages.sql._forks import _one_at_a_time
from anysaga.testing._storage._harness import created, entry, write

pytestmark = [pytest.mark.anyio, pytest.mark.skipif(not hasattr(os, "fork"), reason="there are no forks here")]


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
        except BaseException:  # noqa: ASYNC103, BLE001  # the child must not return into the test run
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0


async def test_a_child_has_its_own_incarnation_and_connection(
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
        await storage.aclose()

    in_child(lambda: _run_anew(child))
    assert not claim.lost
    await storage.confirm(claim)
    await storage.record(write(claim, entry(2, EntryKind.DONE)))
    assert [summary.saga_id for summary in await storage.find()] == ["child's", "saga-1"]
    assert (await storage.claim("child's")).fence == 2


def _run_anew(child: Callable[[], Awaitable[object]]) -> None:
    # The parent's loop is on this thread's stack; a new thread has none.
    failures: list[BaseException] = []

    def run() -> None:
        try:
            anyio.run(child, backend="asyncio")
        except BaseException as error:  # noqa: ASYNC103, BLE001  # told by the main thread
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
