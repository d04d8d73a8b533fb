"""A breaker that waits for its store before it lets an act begin: what happens meanwhile counts."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

import anyio
import pytest
from trips import Book, Trip, for_ever, trip_of

from anysaga import CircuitBreaker, CircuitState, Fallback, MemoryStorage, Parallel, StaleFence
from anysaga.abc import CircuitRecord

pytestmark = pytest.mark.anyio


class Slow(MemoryStorage):
    """Reads a circuit when it is told to. As a thread that works for it, it comes to its end though it is cancelled."""

    waits = True

    def __init__(self) -> None:
        super().__init__()
        self.asked, self.goes_on = anyio.Event(), anyio.Event()

    async def load_circuit(self, name: str) -> CircuitRecord:
        self.asked.set()
        with anyio.CancelScope(shield=True):
            await self.goes_on.wait()
        return await super().load_circuit(name)


async def meanwhile(storage: Slow, run: Callable[[], Coroutine[Any, Any, None]], happens: Callable[[], object]) -> None:
    """Run a saga, and have something happen while its breaker waits for the store."""
    async with anyio.create_task_group() as group:
        group.start_soon(run)
        await storage.asked.wait()
        happens()
        await anyio.wait_all_tasks_blocked()
        storage.goes_on.set()


async def fail_beside(storage: Slow, breaker: CircuitBreaker, did: list[str]) -> None:
    """Have a branch fail while the breaker of the one beside it asks the store."""
    fails = anyio.Event()

    async def fail(trip: Trip) -> None:
        await fails.wait()
        raise OSError

    async def run() -> None:
        part = Fallback(Book("a", did), Book("b", did), circuit_breaker=breaker)
        with pytest.raises(OSError):  # noqa: PT011 - it has no text
            await trip_of(storage, Parallel(part, Book("c", did, act=fail))).run(Trip())

    await meanwhile(storage, run, fails.set)


async def test_what_another_branch_stopped_does_not_act_once_the_breaker_lets_it(did: list[str]) -> None:
    """Its intent is withdrawn by then, so nobody would undo what it did if this process died."""
    await fail_beside(Slow(), CircuitBreaker(shared=True), did)
    assert did == ["act c", "undo c"]


async def test_nothing_acts_whose_claim_was_lost_before_the_breaker_lets_it(did: list[str]) -> None:
    """D3. Nobody would stop it: those who are to be told of the loss have been told."""
    storage = Slow()

    async def run() -> None:
        part = Fallback(Book("a", did, act=for_ever), Book("b", did), circuit_breaker=CircuitBreaker(shared=True))
        with pytest.raises(StaleFence):
            await trip_of(storage, part).run(Trip())

    with anyio.fail_after(30):
        await meanwhile(storage, run, storage.kill)
    assert did == []


async def test_a_permit_to_try_that_came_too_late_is_given_back(did: list[str]) -> None:
    storage = Slow()
    breaker = CircuitBreaker(reset_timeout=1e-6, shared=True)
    storage.goes_on.set()
    await breaker.open("trip:1/1/primary", circuits=storage)
    storage.asked, storage.goes_on = anyio.Event(), anyio.Event()
    await fail_beside(storage, breaker, did)
    circuit = breaker.circuit("trip:1/1/primary")
    assert (circuit.state, circuit.trial) == (CircuitState.HALF_OPEN, "")
