"""Runs of sagas that die at given points, are taken over, and are checked at their end."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Awaitable, Callable, Iterable, Sequence
from pathlib import Path
from typing import Protocol, TypeVar

import anyio
from attrs import define
from point_shapes import WORLD, AnyShape
from point_world import Died, Fuse, World

from anysaga import MemoryStorage, NotDone, SagaNotFound, SagaParked, SagaState, SQLAlchemyStorage, recover
from anysaga.abc import LIVE_STATES, Claim, NewSaga, SagaRecord, SagaSummary, Storage, Write

_T = TypeVar("_T")
SAGA_ID = "trip-1"
EXPECTED_ERRORS = (ConnectionError, NotDone, SagaParked, Died)


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
    """What came of a run: the broken laws, the state at the end, and the points that each process passed."""

    problems: list[str]
    state: SagaState | None
    points: list[int]


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


async def run_dying(shape: AnyShape, place: Place, deaths: Sequence[int]) -> Outcome:
    """Run a saga whose n-th process dies at the point ``deaths[n]``; the process after them lives."""
    world = shape.world(shape().definition, place.reader)
    points: list[int] = []
    for number, at in enumerate([*deaths, 0]):
        fuse = Fuse(at)
        storage = await live(shape, place, world, fuse, first=number == 0)
        points.append(fuse.points)
        place.kill(storage)
    state = await check_end(shape, place, world, undisturbed=not deaths)
    return Outcome(world.problems, state, points)


async def check_end(shape: AnyShape, place: Place, world: World, *, undisturbed: bool) -> SagaState | None:
    """Check the end of a saga, which may never have begun if its process died at once."""
    try:
        record = await place.reader.load(SAGA_ID)
    except SagaNotFound:
        if world.effects:
            world.problems.append("I4: effects of a saga that is not stored")
        return None
    world.check_end(record, {shape.end} if undisturbed else {SagaState.COMPLETED, SagaState.COMPENSATED})
    return record.summary.state
