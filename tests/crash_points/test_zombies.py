"""An owner that was taken over and goes on all the same: it writes nothing, and undoes nothing."""

from __future__ import annotations

import contextlib

import anyio
import pytest
from attrs import define, field
from point_cancels import problems_at_every_point
from point_runs import EXPECTED_ERRORS, SAGA_ID, InMemory, MortalStorage, check_end
from point_shapes import SHAPES, WORLD, Shape, Trip
from point_world import Effect, Fuse, World

from anysaga import MemoryStorage, StaleFence, recover

pytestmark = pytest.mark.anyio


@define
class Snooze(Fuse):
    """At its point another process takes over and finishes; then this one goes on."""

    sleeps: bool = False
    woken: anyio.Event = field(factory=anyio.Event)
    slept: anyio.Event = field(factory=anyio.Event)

    def die(self) -> None:
        self.sleeps = True


class SleepyStorage(MortalStorage):
    """A store whose verbs stop between the write and its answer while the process sleeps."""

    async def record(self, write):  # type: ignore[no-untyped-def]
        moment = await super().record(write)
        fuse = self._fuse
        if isinstance(fuse, Snooze) and fuse.sleeps:
            fuse.sleeps = False
            fuse.slept.set()
            await fuse.woken.wait()
        return moment


async def run_with_a_zombie(shape: type[Shape], point: int) -> tuple[list[str], bool]:
    """The first owner sleeps after a write, is taken over, and wakes when all is over."""
    place = InMemory()
    world = World(shape().definition, place.reader)
    fuse = Snooze(at=point)
    world.fuse = fuse
    storage = place.open()

    async def first() -> None:
        WORLD.set(world)
        with contextlib.suppress(StaleFence, *EXPECTED_ERRORS):
            await shape(storage=SleepyStorage(storage, fuse)).run(Trip([]), saga_id=SAGA_ID)
        fuse.slept.set()

    effects: list[Effect] = []
    async with anyio.create_task_group() as group:
        group.start_soon(first)
        await fuse.slept.wait()
        await take_over(shape, place, world, storage)
        effects += world.effects
        fuse.woken.set()
    if world.effects != effects:
        world.problems.append("I3: the old owner went on")
    await check_end(shape, place, world)
    return world.problems, fuse.points >= point


async def take_over(shape: type[Shape], place: InMemory, world: World, sleeping: MemoryStorage) -> None:
    """Another process declares the sleeping one dead, and recovers its saga."""
    place.kill(sleeping)
    fuse, world.fuse = world.fuse, Fuse()
    world.process += 1
    WORLD.set(world)
    await recover([shape], storage=place.open())
    world.fuse = fuse


async def zombie_problems(shape: type[Shape]) -> list[str]:
    """Let the first owner sleep at every point. Gives the laws that the first bad run breaks."""
    return await problems_at_every_point(lambda point: run_with_a_zombie(shape, point))


@pytest.mark.parametrize("shape", SHAPES)
async def test_a_stale_owner_is_refused(shape: type[Shape]) -> None:
    """I3, for a process that is paused after any of its points and continued after the take-over."""
    assert await zombie_problems(shape) == []
