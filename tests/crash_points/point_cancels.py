"""Runs that are cancelled, or disturbed in another way, at their n-th point, until they have no such point."""

from __future__ import annotations

import contextlib
import types
from collections.abc import Awaitable, Callable, Coroutine, Generator
from typing import Any, TypeVar

import anyio
from point_runs import EXPECTED_ERRORS, SAGA_ID, Place, check_end
from point_shapes import WORLD, AnyShape
from point_world import World

from anysaga import SagaNotFound, recover

_T = TypeVar("_T")


class Ticks:
    """Counts the points at which a coroutine waits, and calls `act` at those whose numbers are in `at`."""

    def __init__(self, act: Callable[[], object], *at: int) -> None:
        self._act = act
        self._at = set(at)
        self.count = 0

    @types.coroutine
    def drive(self, coroutine: Coroutine[Any, Any, _T]) -> Generator[Any, Any, _T]:
        """Await the coroutine step by step."""
        value: Any = None
        error: BaseException | None = None
        while True:
            try:
                waits_for = coroutine.send(value) if error is None else coroutine.throw(error)
            except StopIteration as end:
                result: _T = end.value
                return result
            self.count += 1
            if self.count in self._at:
                self._act()
            try:
                value, error = (yield waits_for), None
            except BaseException as thrown:  # noqa: BLE001 - thrown into the coroutine
                value, error = None, thrown


async def problems_at_every_point(
    run_at: Callable[[int], Awaitable[tuple[list[str], bool]]], *, every: int = 1, at_least: int = 2
) -> list[str]:
    """Disturb a run at its first point, then one at its next, until one ends before its point is reached.

    `run_at` says which laws are broken, and whether the point was reached. Gives the laws that are broken by the first
    run that breaks any. Fewer points than `at_least` are a problem, too: the others would say nothing.
    """
    point = 1
    problems, is_reached = await run_at(point)
    while is_reached and not problems:
        point += every
        problems, is_reached = await run_at(point)
    if not problems and point <= at_least:
        return [f"there are fewer than {at_least} points"]
    return [f"{point}: {problem}" for problem in problems]


async def cancel_problems(shape: AnyShape, new_place: Callable[[], Place], *, at_least: int = 2) -> list[str]:
    """Cancel a run at every point where its task waits. Gives the laws that the first bad run breaks."""
    return await problems_at_every_point(lambda point: _cancel_at(shape, new_place(), point), at_least=at_least)


async def _cancel_at(shape: AnyShape, place: Place, point: int) -> tuple[list[str], bool]:
    """Cancel a run at one point, then let recovery finish it."""
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
    return world.problems, ticks.count >= point


async def recover_and_check(shape: AnyShape, place: Place, world: World) -> None:
    """Somebody else recovers at once, which needs that nobody holds the saga; then its end is checked."""
    async with place.open() as other:
        with contextlib.suppress(SagaNotFound):
            owner = (await other.load(SAGA_ID)).summary.owner
            if owner is not None:
                world.problems.append(f"I7: still held by {owner}")
        world.process += 1
        await recover([shape], storage=other)
        await check_end(shape, place, world)
