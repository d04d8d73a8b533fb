"""Runs of sagas that die at given points, are taken over, and are checked at their end."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Awaitable, Callable, Collection, Iterable, Sequence
from itertools import count
from pathlib import Path
from typing import Any, Protocol, Self, TypeVar

import anyio
from attrs import define
from point_shapes import WORLD, AnyShape
from point_world import Died, Fuse, World

from anysaga import MemoryStorage, NotDone, SagaNotFound, SagaParked, SagaState, SQLAlchemyStorage, recover
from anysaga.abc import LIVE_STATES, Claim, NewSaga, SagaRecord, SagaSummary, Storage, Write

_T = TypeVar("_T")
SAGA_ID = "trip-1"
EXPECTED_ERRORS = (ConnectionError, NotDone, SagaParked, Died)
ANY_END: Collection[SagaState | None] = {SagaState.COMPLETED, SagaState.COMPENSATED, None}
"""How a saga may end that was disturbed; None is one that never began, since its process died at once."""


class MortalStorage(Storage):
    """A store as a process sees it that may die before and after each write."""

    def __init__(self, inner: Storage, fuse: Fuse) -> None:
        self._inner = inner
        self._fuse = fuse

    async def create(self, new: NewSaga) -> Claim | None:
        return await self._written(lambda: self._inner.create(new))

    async def claim(self, saga_id: str, *, states: frozenset[SagaState] = LIVE_STATES) -> Claim:
        return await self._written(lambda: self._inner.claim(saga_id, states=states))

    async def claim_due(self, names: Iterable[str], limit: int) -> list[Claim]:
        return await self._written(lambda: self._inner.claim_due(names, limit))

    async def record(self, write: Write) -> int:
        return await self._written(lambda: self._inner.record(write))

    async def confirm(self, claim: Claim) -> None:
        await self._alive().confirm(claim)

    async def release(self, claim: Claim, *, wait: float = 0.0) -> None:
        await self._written(lambda: self._inner.release(claim, wait=wait))

    def defer(self, work: Write | Claim) -> None:
        if not self._fuse.dead:
            self._inner.defer(work)

    async def load(self, saga_id: str) -> SagaRecord:
        return await self._alive().load(saga_id)

    async def find(
        self, *, names: Iterable[str] = (), states: Iterable[SagaState] = (), limit: int = 100, after: str = ""
    ) -> list[SagaSummary]:
        return await self._alive().find(names=names, states=states, limit=limit, after=after)

    async def purge(self, *, before: int, states: Iterable[SagaState], limit: int = 1000) -> int:
        return await self._alive().purge(before=before, states=states, limit=limit)

    async def _written(self, write: Callable[[], Awaitable[_T]]) -> _T:
        self._fuse.point()
        result = await write()
        self._fuse.point()
        return result

    def _alive(self) -> Storage:
        if self._fuse.dead:
            raise Died
        return self._inner


class Place(Protocol):
    """Where sagas are kept: each process opens it anew, and is dead for ever once it is killed."""

    reader: Storage

    def open(self) -> Storage: ...

    def kill(self, storage: Storage) -> None: ...


class InMemory:
    def __init__(self) -> None:
        self._first = MemoryStorage()
        self.reader: Storage = self._first.twin()

    def open(self) -> MemoryStorage:
        return self._first.twin()

    def kill(self, storage: Storage) -> None:
        assert isinstance(storage, MemoryStorage)
        storage.kill()


class OnDisk:
    """A SQLite file. Its durability over a loss of power is not what is tested, so it need not wait for the disk."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self.reader: Storage = self.open()

    @classmethod
    def files_in(cls, folder: Path) -> Callable[[], Self]:
        """Give a function that makes a place of a new file each time."""
        numbers = count(1)
        return lambda: cls(folder / f"{next(numbers)}.db")

    def open(self) -> SQLAlchemyStorage:
        return SQLAlchemyStorage(self._file, durability="normal", lease=600)

    def kill(self, storage: Storage) -> None:
        assert isinstance(storage, SQLAlchemyStorage)
        storage._lease.stop()
        storage._core.writer.close()
        storage._core.reader.close()
        self.bury()

    def bury(self) -> None:
        """Declare every owner dead, as if its lease had run out."""
        connection = sqlite3.connect(self._file, timeout=30, isolation_level=None)
        with contextlib.closing(connection), contextlib.suppress(sqlite3.OperationalError):
            connection.execute("UPDATE anysaga_owners SET dead = 1")  # no table: it died before the file was set up


@define
class Outcome:
    """What came of a run: the broken laws, and how many points each process passed."""

    problems: list[str]
    points: list[int]


async def run_dying(shape: AnyShape, place: Place, deaths: Sequence[int]) -> Outcome:
    """Run a saga whose n-th process dies at the point ``deaths[n]``; the process after them lives."""
    world = shape.world(shape().definition, place.reader)
    points: list[int] = []
    for number, at in enumerate([*deaths, 0]):
        fuse = Fuse(at)
        storage = await live(shape, place, world, fuse, first=number == 0)
        points.append(fuse.points)
        place.kill(storage)
    await check_end(shape, place, world, _ends(shape, len(deaths)))
    return Outcome(world.problems, points)


async def live(shape: AnyShape, place: Place, world: World, fuse: Fuse, *, first: bool) -> Storage:
    """The life of one process: it runs the saga, or recovers it, until it is done or dead. Returns its storage."""
    storage = place.open()
    world.fuse = fuse
    world.process += 1
    token = WORLD.set(world)
    saga = shape(storage=MortalStorage(storage, fuse))
    try:
        if first:
            await saga.run(shape.begin(), saga_id=SAGA_ID)
        else:
            await recover([saga], storage=saga.storage)
    except EXPECTED_ERRORS:
        pass
    except BaseExceptionGroup as group:
        if group.split((Died, anyio.get_cancelled_exc_class()))[1] is not None:
            raise
    finally:
        WORLD.reset(token)
    return storage


def _ends(shape: AnyShape, crashes: int) -> Collection[SagaState | None]:
    """A single crash changes only the end of a saga that says so."""
    if crashes == 0:
        return {shape.end}
    return ANY_END if crashes > 1 or shape.may_turn_back else {shape.end, None}


async def check_end(shape: AnyShape, place: Place, world: World, ends: Collection[SagaState | None] = ANY_END) -> None:
    """Check the end of a saga."""
    try:
        record = await place.reader.load(SAGA_ID)
    except SagaNotFound:
        if world.effects:
            world.problems.append("I4: effects of a saga that is not stored")
        if None not in ends:
            world.problems.append("I0: the saga was never stored")
    else:
        world.check_end(record, ends)


Choice = Callable[[int, Sequence[int]], Sequence[int]]
"""At which of so many points a process dies whose predecessors died at these points."""


def every_point(points: int, _: Sequence[int] = ()) -> range:
    """Choose all points."""
    return range(1, points + 1)


def shared(choice: Choice, backend: str) -> Choice:
    """Choose every second of these points; those between are the other loop's, which begins with the next death."""
    begins = 0 if backend == "asyncio" else 1
    return lambda points, deaths: choice(points, deaths)[(begins + sum(deaths)) % 2 :: 2]


def every_second(backend: str) -> Choice:
    """Choose every second point; those between are the other loop's. For runs that wait for a disk."""
    return shared(every_point, backend)


async def crash_problems(
    shape: AnyShape,
    new_place: Callable[[], Any],
    *choices: Choice,
    run: Callable[[AnyShape, Any, Sequence[int]], Awaitable[Outcome]] = run_dying,
    deaths: Sequence[int] = (),
) -> list[str]:
    """Run a saga without a crash, with one at each point of the first choice, with a second one, and so on.

    Gives the laws that are broken by the first run that breaks any.
    """
    outcome = await run(shape, new_place(), deaths)
    if outcome.problems or not choices:
        return [f"{list(deaths)}: {problem}" for problem in outcome.problems]
    choice, *others = choices
    for point in choice(outcome.points[-1], deaths):
        if problems := await crash_problems(shape, new_place, *others, run=run, deaths=[*deaths, point]):
            return problems
    return []
