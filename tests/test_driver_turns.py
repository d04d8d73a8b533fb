"""Sagas whose steps and store never wait: the loop belongs to others too."""

from __future__ import annotations

from itertools import count

import anyio
import pytest
from anyio.lowlevel import checkpoint
from attrs import define

from anysaga import MemoryStorage, Saga, Step
from anysaga._driver import TURNS

pytestmark = pytest.mark.anyio


@define
class Trip:
    days: int = 1


class Walk(Step[Trip]):
    async def act(self, trip: Trip) -> None:
        """Waits for nothing."""

    async def compensate(self, trip: Trip) -> None:
        """Neither does this."""


class ShortTrip(Saga[Trip]):
    steps = (Walk,)


async def test_many_short_sagas_let_the_other_tasks_run_as_often_as_a_long_one() -> None:
    """One after another in one task, each too short to yield by its own count."""
    seen = count()

    async def look() -> None:
        while True:
            next(seen)
            await checkpoint()

    saga = ShortTrip(storage=MemoryStorage())
    looks = 0
    async with anyio.create_task_group() as group:
        group.start_soon(look)
        await checkpoint()
        before = next(seen)
        for _ in range(8 * TURNS):
            await saga.run(Trip())
        looks = next(seen) - before - 1
        group.cancel_scope.cancel()

    assert looks >= 6  # one for each 16 turns, less those at either end


async def test_a_cancellation_that_a_step_brought_about_stops_the_saga_before_the_next_act() -> None:
    """Though no step waits, so that nothing else could raise it."""
    acted: list[str] = []
    scope = anyio.CancelScope()

    class Act(Walk):
        async def act(self, trip: Trip) -> None:
            acted.append(type(self).__name__)

    class Stop(Act):
        async def act(self, trip: Trip) -> None:
            await super().act(trip)
            scope.cancel()

    class Never(Act):
        pass

    with scope:
        await Saga[Trip](name="trip", steps=[Act, Stop, Never], storage=MemoryStorage()).run(Trip())

    assert acted == ["Act", "Stop"]
    assert scope.cancelled_caught
