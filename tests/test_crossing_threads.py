"""Crossing threads."""

from __future__ import annotations

import threading
from collections.abc import Callable

import anyio
import pytest

from anysaga._crossing_threads import LoopLimiter, Waker, in_own_loop, in_thread

pytestmark = pytest.mark.anyio


async def test_the_function_runs_in_another_thread() -> None:
    limiter = anyio.CapacityLimiter(1)
    assert await in_thread(threading.get_ident, limiter=limiter) != threading.get_ident()
    assert await in_thread(divmod, 7, 2, limiter=limiter) == (3, 1)


async def test_an_error_comes_back() -> None:
    with pytest.raises(ZeroDivisionError):
        await in_thread(divmod, 1, 0, limiter=anyio.CapacityLimiter(1))


async def test_a_cancellation_meanwhile_waits_for_the_thread() -> None:
    entered, go_on = Waker(), threading.Event()
    results: list[str] = []

    def work() -> str:
        entered.wake()
        go_on.wait()
        return "done"

    async def caller() -> None:
        results.append(await in_thread(work, limiter=anyio.CapacityLimiter(1)))

    async with anyio.create_task_group() as group:
        group.start_soon(caller)
        await entered.wait()
        group.cancel_scope.cancel()
        go_on.set()
    assert results == ["done"]


async def test_a_cancellation_before_stops_it() -> None:
    called: list[str] = []
    with anyio.CancelScope() as scope:
        scope.cancel()
        await in_thread(called.append, "called", limiter=anyio.CapacityLimiter(1))
    assert called == []


def test_each_run_of_a_loop_has_a_limiter_of_its_own(anyio_backend_name: str) -> None:
    limiters = LoopLimiter(3)

    async def main() -> anyio.CapacityLimiter:
        assert limiters.get() is limiters.get()
        assert LoopLimiter(3).get() is not limiters.get()
        return limiters.get()

    first, second = (anyio.run(main, backend=anyio_backend_name) for _ in range(2))
    assert first is not second


async def test_a_thread_wakes_a_task() -> None:
    waker = Waker()
    thread = threading.Thread(target=waker.wake)
    thread.start()
    with anyio.fail_after(10):
        await waker.wait()
        await waker.wait()
    thread.join()


def test_waking_after_the_loop_has_ended_does_nothing(anyio_backend_name: str) -> None:
    called: list[str] = []

    async def main() -> tuple[Waker, Callable[[], None]]:
        return Waker(), in_own_loop(lambda: called.append("called"))

    waker, call = anyio.run(main, backend=anyio_backend_name)
    waker.wake()
    call()
    assert called == []
