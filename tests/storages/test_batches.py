"""Group commit by itself: what goes together, and what a cancellation does at each point."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import threading
import weakref
from collections.abc import AsyncIterator

import anyio
import pytest

from anysaga.storages._batches import Batches, Slot

pytestmark = pytest.mark.anyio


class RefusedError(Exception):
    """What a commit says of a work that begins with "bad"."""


class Store:
    """Commits batches of words, each as soon as the gate is open."""

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.began = threading.Semaphore(0)
        self.committed: list[list[str]] = []
        self.batches: Batches[str] = Batches(self._commit)

    def _commit(self, slots: list[Slot[str]]) -> None:
        self.began.release()
        self.gate.wait()
        self.committed.append([slot.work for slot in slots])
        for slot in slots:
            if slot.work.startswith("bad"):
                slot.error = RefusedError(slot.work)

    async def put(self, word: str) -> None:
        """Put a word, whose key is its first letter, or all of it if it is bad."""
        await self.batches.put(word, word if word.startswith("bad") else word[0])

    async def begun(self) -> None:
        """Wait until a commit is under way, and everybody else waits."""
        await anyio.to_thread.run_sync(self.began.acquire)
        await anyio.wait_all_tasks_blocked()


@pytest.fixture
async def store() -> AsyncIterator[Store]:
    store = Store()
    yield store
    store.gate.set()


async def _queue(group: anyio.abc.TaskGroup, store: Store, *words: str) -> None:
    for word in words:
        group.start_soon(store.put, word)
        await anyio.wait_all_tasks_blocked()  # Trio starts tasks in any order


async def test_what_comes_during_a_commit_goes_together(store: Store) -> None:
    async with anyio.create_task_group() as group:
        await _queue(group, store, "a")
        await store.begun()
        await _queue(group, store, "b", "c", "d")
        store.gate.set()
    assert store.committed == [["a"], ["b", "c", "d"]]


async def test_one_key_goes_once_in_a_batch_and_in_order(store: Store) -> None:
    async with anyio.create_task_group() as group:
        await _queue(group, store, "a")
        await store.begun()
        await _queue(group, store, "b1", "c", "b2", "b3")
        store.gate.set()
    assert store.committed == [["a"], ["b1", "c"], ["b2"], ["b3"]]


async def test_what_fails_one_fails_no_other(store: Store) -> None:
    store.gate.set()
    heard: list[str] = []

    async def put(word: str) -> None:
        try:
            await store.put(word)
        except RefusedError as error:
            heard.append(str(error))

    async with anyio.create_task_group() as group:
        for word in ("a", "bad1", "c", "bad2"):
            group.start_soon(put, word)
    assert sorted(heard) == ["bad1", "bad2"]
    assert sorted(word for batch in store.committed for word in batch) == ["a", "bad1", "bad2", "c"]


async def test_a_cancellation_during_the_commit_waits_for_its_end(store: Store) -> None:
    async with anyio.create_task_group() as group:
        await _queue(group, store, "a")
        await store.begun()
        group.cancel_scope.cancel()
        store.gate.set()
    assert store.committed == [["a"]]


async def test_a_waiter_that_is_cancelled_in_time_is_withdrawn(store: Store) -> None:
    async with anyio.create_task_group() as group:
        await _queue(group, store, "a")
        await store.begun()
        await _queue(group, store, "b")
        async with anyio.create_task_group() as waiter:
            await _queue(waiter, store, "c")
            waiter.cancel_scope.cancel()
        store.gate.set()
    assert store.committed == [["a"], ["b"]]


async def test_a_waiter_that_is_cancelled_too_late_waits_for_the_end(store: Store) -> None:
    ends: list[str] = []

    async def put(word: str) -> None:
        try:
            await store.put(word)
        finally:
            ends.append(f"{word} after {len(store.committed)}")

    async with anyio.create_task_group() as group:
        store.batches.pause()
        await _queue(group, store, "a")
        async with anyio.create_task_group() as waiter:
            waiter.start_soon(put, "b")
            await anyio.wait_all_tasks_blocked()
            store.batches.resume()
            await store.begun()
            waiter.cancel_scope.cancel()
            with anyio.CancelScope(shield=True):
                await anyio.wait_all_tasks_blocked()
            assert ends == []
            store.gate.set()
    assert store.committed == [["a", "b"]]
    assert ends == ["b after 1"]


async def test_a_thread_goes_first(store: Store) -> None:
    async with anyio.create_task_group() as group:
        await _queue(group, store, "a")
        await store.begun()
        await _queue(group, store, "b")
        thread = threading.Thread(target=store.batches.put_first, args=["first", None])
        thread.start()
        with anyio.fail_after(60):
            while len(store.batches._queue) < 2:
                await anyio.lowlevel.checkpoint()
        store.gate.set()
        thread.join()
    assert store.committed == [["a"], ["first", "b"]]


async def test_a_thread_that_waits_too_long_is_withdrawn(store: Store) -> None:
    async with anyio.create_task_group() as group:
        await _queue(group, store, "a")
        await store.begun()
        assert not store.batches.put_first("late", None, wait=0.0)
        store.gate.set()
    assert store.committed == [["a"]]


async def test_a_thread_hears_what_fails_it(store: Store) -> None:
    store.gate.set()
    with pytest.raises(RefusedError):
        await anyio.to_thread.run_sync(store.batches.put_first, "bad", None)


async def test_a_commit_that_breaks_lets_nobody_wait(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def break_down(slots: list[Slot[str]]) -> None:
        raise SystemExit

    monkeypatch.setattr(store.batches, "_commit", break_down)
    ends: list[str] = []

    async def put(word: str) -> None:
        with pytest.raises(SystemExit):
            await store.put(word)
        ends.append(word)

    async with anyio.create_task_group() as group:
        for word in "abc":
            group.start_soon(put, word)
    assert sorted(ends) == ["a", "b", "c"]


async def test_the_thread_begins_with_the_first_word_and_ends_when_told(store: Store) -> None:
    store.gate.set()
    for word in "ab":
        await store.put(word)
        thread = store.batches._thread
        assert thread is not None
        assert thread.daemon
        await anyio.to_thread.run_sync(store.batches.stop)
        assert not thread.is_alive()
    assert store.committed == [["a"], ["b"]]


async def test_what_is_queued_when_the_thread_is_stopped_is_still_committed(store: Store) -> None:
    thread = threading.Thread(target=store.batches.stop)
    async with anyio.create_task_group() as group:
        await _queue(group, store, "a")
        await store.begun()
        await _queue(group, store, "b")
        thread.start()
        await _queue(group, store, "c")
        store.gate.set()
    await anyio.to_thread.run_sync(thread.join)
    assert sorted(word for batch in store.committed for word in batch) == ["a", "b", "c"]


async def test_batches_that_nobody_uses_any_more_leave_no_thread() -> None:
    batches: Batches[str] = Batches(lambda slots: None)
    await batches.put("a", None)
    thread, reference = batches._thread, weakref.ref(batches)
    assert thread is not None
    del batches
    gc.collect()
    await anyio.to_thread.run_sync(thread.join, 60)
    assert not thread.is_alive()
    assert reference() is None


async def test_after_a_fork_the_queue_and_the_thread_are_fresh(store: Store) -> None:
    async with anyio.create_task_group() as group:
        await _queue(group, store, "a")
        await store.begun()
        await _queue(group, store, "b")
        store.gate.set()
    store.batches.pause()
    store.batches.forget()
    await store.put("c")
    assert store.committed == [["a"], ["b"], ["c"]]


async def test_no_loop_relies_on_another_one(store: Store, anyio_backend_name: str) -> None:
    store.gate.set()
    queued, go_on = threading.Event(), threading.Event()

    async def stand_still() -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(store.put, "a")
            await anyio.wait_all_tasks_blocked()
            queued.set()
            go_on.wait()  # the loop stands still: what this test is about

    thread = threading.Thread(target=lambda: anyio.run(stand_still, backend=anyio_backend_name))
    thread.start()
    queued.wait()
    with anyio.fail_after(60):
        await store.put("b")
        await anyio.to_thread.run_sync(store.batches.put_first, "c", None)
    go_on.set()
    thread.join()
    assert sorted(word for batch in store.committed for word in batch) == ["a", "b", "c"]


async def test_many_loops_in_many_threads_commit_each_word_once(store: Store, anyio_backend_name: str) -> None:
    store.gate.set()
    words = [[f"{chr(97 + loop)}{task}" for task in range(20)] for loop in range(6)]

    async def put_all(own: list[str]) -> None:
        async with anyio.create_task_group() as group:
            for word in own:
                group.start_soon(store.batches.put, word, word)

    threads = [
        threading.Thread(target=lambda own=own: anyio.run(put_all, own, backend=anyio_backend_name)) for own in words
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        await anyio.to_thread.run_sync(thread.join)
    assert sorted(word for batch in store.committed for word in batch) == sorted(word for own in words for word in own)
    assert store.batches._queue == []


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
class TestNativeCancellation:
    """No shield of AnyIO's holds off ``task.cancel()``."""

    async def test_the_first_that_waits_is_withdrawn(self, store: Store) -> None:
        first, second, third = await _tasks(store, "abc")
        second.cancel()
        await asyncio.wait([second])
        assert second.cancelled()
        store.gate.set()
        await asyncio.gather(first, third)
        assert store.committed == [["a"], ["c"]]

    async def test_the_last_that_waits_is_withdrawn(self, store: Store) -> None:
        first, second, third = await _tasks(store, "abc")
        third.cancel()
        await asyncio.wait([third])
        assert third.cancelled()
        store.gate.set()
        await asyncio.gather(first, second)
        assert store.committed == [["a"], ["b"]]

    async def test_committed_alone_it_waits_for_the_end_however_often_it_is_cancelled(self, store: Store) -> None:
        first, second = await _tasks(store, "ab")
        for _ in range(3):
            first.cancel()
            await anyio.wait_all_tasks_blocked()
        assert not first.done()
        store.gate.set()
        with contextlib.suppress(asyncio.CancelledError):
            await first
        assert first.cancelled()
        await second
        assert store.committed == [["a"], ["b"]]

    async def test_committed_with_others_it_waits_for_the_end_however_often_it_is_cancelled(self, store: Store) -> None:
        store.batches.pause()
        first, second = await _tasks(store, "ab", begun=False)
        store.batches.resume()
        await store.begun()
        for _ in range(3):
            second.cancel()
            await anyio.wait_all_tasks_blocked()
        assert not second.done()
        store.gate.set()
        await first
        await asyncio.wait([second])
        assert second.cancelled()
        assert store.committed == [["a", "b"]]


async def _tasks(store: Store, words: str, *, begun: bool = True) -> list[asyncio.Task[None]]:
    """A task for each word; the first one's commit is under way."""
    tasks: list[asyncio.Task[None]] = []
    for number, word in enumerate(words):
        tasks.append(asyncio.create_task(store.put(word)))
        await anyio.wait_all_tasks_blocked()
        if begun and number == 0:
            await store.begun()
    return tasks
