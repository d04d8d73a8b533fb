"""A `checkpoint()` that is still being written when its act is over: it must not be taken for the end of the saga."""

from __future__ import annotations

import threading
from contextlib import suppress

import anyio
import pytest
from journeys import AT_ONCE, Journey, Leg, PlainLeg, kinds_of, saga_of

from anysaga import MemoryStorage, SagaState, StaleFence, checkpoint
from anysaga.abc import EntryKind, Write

pytestmark = pytest.mark.anyio


class Slow(MemoryStorage):
    """Writes a checkpoint when it is told to, whoever is cancelled meanwhile."""

    waits = True

    def __init__(self) -> None:
        super().__init__()
        self.writes, self.goes_on = anyio.Event(), anyio.Event()

    async def record(self, write: Write) -> int:
        if write.entries[0].kind is EntryKind.CHECKPOINT:
            self.writes.set()
            with anyio.CancelScope(shield=True):
                await self.goes_on.wait()
        return await super().record(write)


async def test_a_thread_that_still_runs_parks_its_saga_though_it_is_saving(did: list[str]) -> None:
    """F: given back instead, the saga would act again beside the thread."""
    storage, ends = Slow(), threading.Event()

    def act(journey: Journey) -> None:
        journey.stops.append("half")
        anyio.from_thread.run(checkpoint)
        ends.wait(20)

    async def run() -> None:
        with scope:
            await saga_of(storage, PlainLeg("a", did, act=act), grace=0.01).run(Journey(), saga_id="j")
        ended.set()

    async with anyio.create_task_group() as group:
        scope, ended = anyio.CancelScope(), anyio.Event()
        group.start_soon(run)
        await storage.writes.wait()
        scope.cancel()
        with anyio.move_on_after(0.1):  # the grace is over by then, and the write is not
            await ended.wait()
        storage.goes_on.set()
        await ended.wait()
        ends.set()
    summary = (await storage.load("j")).summary
    assert (summary.state, summary.owner) == (SagaState.PARKED, None)


async def test_a_saga_is_given_back_though_a_checkpoint_takes_along_what_that_would_have_written(
    did: list[str],
) -> None:
    """Of two that wait for their turn to write, the first one writes for both."""
    storage, began, scope = Slow(), anyio.Event(), anyio.CancelScope()

    async def save() -> None:
        with suppress(StaleFence):  # where the saga is given back before it has its turn
            await checkpoint()

    async def act(journey: Journey) -> None:
        for number in "12":
            journey.stops.append(number)
            group.start_soon(save)
            await anyio.wait_all_tasks_blocked()
        began.set()
        await anyio.sleep_forever()

    async def run() -> None:
        with scope:
            saga = saga_of(storage, Leg("p", did, pivot=True), Leg("b", did, act=act, retry=AT_ONCE))
            await saga.run(Journey(), saga_id="j")

    async with anyio.create_task_group() as group:
        group.start_soon(run)
        await began.wait()
        scope.cancel()
        await anyio.wait_all_tasks_blocked()
        storage.goes_on.set()
    assert (await storage.load("j")).summary.owner is None
    assert await kinds_of(storage, "j") == [
        "STARTED 1",
        "DONE 1",
        "STARTED 2",
        "CHECKPOINT 2",
        "CHECKPOINT 2",
        "UNKNOWN 2",
    ]
