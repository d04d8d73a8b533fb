"""A saga is cancelled at every point where its task waits: it is undone or resumable, and nobody holds it any more."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path

import anyio
import pytest
from point_cancels import Ticks
from point_runs import EXPECTED_ERRORS, SAGA_ID, InMemory, OnDisk, Place, check_end
from point_shapes import SHAPES, WORLD, AnyShape, FailsAtTheEnd, HasAPivot, Shape, UsesThreads, Well
from point_world import World

from anysaga import SagaNotFound, SQLAlchemyStorage, recover

pytestmark = pytest.mark.anyio
ON_DISK = [Well, FailsAtTheEnd, HasAPivot, UsesThreads]


async def cancel_at(shape: AnyShape, place: Place, point: int) -> tuple[list[str], bool]:
    """Cancel a run at one point, then let recovery finish it. Returns the broken laws, and if the point was reached."""
    world = shape.world(shape().definition, place.reader)
    WORLD.set(world)
    async with place.open() as storage:
        scope = anyio.CancelScope()
        ticks = Ticks(scope.cancel, point)
        with scope:
            run = shape(storage=storage).run(shape.begin(), saga_id=SAGA_ID)
            with contextlib.suppress(*EXPECTED_ERRORS):
                await ticks.drive(run)
        await recover_and_check(shape, place, world)
    return [f"{point}: {problem}" for problem in world.problems], ticks.count >= point


async def recover_and_check(shape: AnyShape, place: Place, world: World) -> None:
    """Somebody else recovers at once, which needs that nobody holds the saga; then its end is checked."""
    async with place.open() as other:
        with contextlib.suppress(SagaNotFound):
            owner = (await other.load(SAGA_ID)).summary.owner
            if owner is not None:
                world.problems.append(f"I7: still held by {owner}")
        world.process += 1
        await recover([shape], storage=other)
        await check_end(shape, place, world, undisturbed=False)


@pytest.mark.parametrize("shape", SHAPES)
async def test_every_point_in_memory(shape: type[Shape]) -> None:
    """I7 in memory."""
    problems: list[str] = []
    point, reached = 1, True
    while reached:
        broken, reached = await cancel_at(shape, InMemory(), point)
        problems += broken
        point += 1

    assert problems == []
    assert point > 3


@pytest.mark.parametrize("shape", ON_DISK)
async def test_every_point_on_sqlite(shape: type[Shape], tmp_path: Path) -> None:
    """I7 on a file, where the task also waits for threads."""
    problems: list[str] = []
    point, reached = 1, True
    while reached:
        broken, reached = await cancel_at(shape, OnDisk(tmp_path / f"{point}.db"), point)
        problems += broken
        point += 1

    assert problems == []
    assert point > 8


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
@pytest.mark.parametrize("shape", ON_DISK)
@pytest.mark.parametrize("again", [0, 1, 3])
async def test_native_cancellation_at_every_point(shape: type[Shape], tmp_path: Path, again: int) -> None:
    """`task.cancel()` passes every shield of AnyIO, once or again later: what is durable is the safety."""
    problems: list[str] = []
    point, reached = 1, True
    while reached:
        place = OnDisk(tmp_path / f"{point}.db")
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
        problems += [f"{point}: {problem}" for problem in world.problems]
        reached = ticks.count >= point
        point += 1

    assert problems == []
    assert point > 8


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
