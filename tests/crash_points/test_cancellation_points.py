"""A saga is cancelled at every point where its task waits: it is undone or resumable, and nobody holds it any more."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path

import anyio
import pytest
from point_cancels import Ticks, cancel_problems, problems_at_every_point, recover_and_check
from point_runs import EXPECTED_ERRORS, SAGA_ID, InMemory, OnDisk
from point_shapes import SHAPES, WORLD, FailsAtTheEnd, HasAPivot, Shape, UsesThreads, Well

from anysaga import SagaNotFound, SQLAlchemyStorage

pytestmark = pytest.mark.anyio
ON_DISK = [Well, FailsAtTheEnd, HasAPivot, UsesThreads]


@pytest.mark.parametrize("shape", SHAPES)
async def test_every_point_in_memory(shape: type[Shape]) -> None:
    """I7 in memory."""
    assert await cancel_problems(shape, InMemory) == []


@pytest.mark.parametrize("shape", ON_DISK)
async def test_every_point_on_sqlite(shape: type[Shape], tmp_path: Path) -> None:
    """I7 on a file, where the task also waits for threads."""
    assert await cancel_problems(shape, OnDisk.files_in(tmp_path), at_least=7) == []


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
@pytest.mark.parametrize("shape", ON_DISK)
@pytest.mark.parametrize("again", [0, 1, 3])
async def test_native_cancellation_at_every_point(shape: type[Shape], tmp_path: Path, again: int) -> None:
    """`task.cancel()` passes every shield of AnyIO, once or again later: what is durable is the safety.

    Twice only at every second point: these runs wait for a disk.
    """
    new_place = OnDisk.files_in(tmp_path)

    async def run_at(point: int) -> tuple[list[str], bool]:
        return await cancel_natively_at(shape, new_place(), point, again)

    assert await problems_at_every_point(run_at, every=2 if again else 1, at_least=7) == []


async def cancel_natively_at(shape: type[Shape], place: OnDisk, point: int, again: int) -> tuple[list[str], bool]:
    """Cancel the task at one point, and so many points later again; then let recovery finish its saga."""
    world = shape.world(shape().definition, place.reader)
    WORLD.set(world)
    async with place.open() as storage:
        run = shape(storage=storage).run(shape.begin(), saga_id=SAGA_ID)
        ticks = Ticks(_cancel_task, point, point + again)
        task = asyncio.ensure_future(_awaiting(ticks, run))
        with contextlib.suppress(asyncio.CancelledError, *EXPECTED_ERRORS):
            await task
        await given_back(storage)
        await recover_and_check(shape, place, world)
    return world.problems, ticks.count >= point


def _cancel_task() -> None:
    """Cancel the task that is being driven, which is the one that runs here."""
    task = asyncio.current_task()
    assert task is not None
    task.cancel()


async def _awaiting(ticks: Ticks, run: object) -> None:
    await ticks.drive(run)  # type: ignore[arg-type]


async def given_back(storage: SQLAlchemyStorage) -> None:
    """Wait until the heartbeat has given back what was torn away from its owner; each look is a hop to the store."""
    with contextlib.suppress(SagaNotFound), anyio.fail_after(10):
        while (await storage.load(SAGA_ID)).summary.owner is not None:
            storage._lease.beat()
