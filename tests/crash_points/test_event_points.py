"""I5: a process dies before and after every write, effect and publication: events are those of the log, and arrive."""

from __future__ import annotations

import sqlite3
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path

import pytest
from attrs import define
from point_runs import EXPECTED_ERRORS, SAGA_ID, InMemory, MortalStorage, OnDisk, Outcome, crash_problems, every_point
from point_shapes import (
    WORLD,
    FailsAtTheEnd,
    First,
    Plain,
    RetriesWell,
    Second,
    Shape,
    Third,
    Trip,
    UndoneWithTrouble,
    Well,
)
from point_world import Fuse, World

from anysaga import MemoryStorage, Parallel, SagaNotFound, SQLAlchemyStorage, current_step, recover
from anysaga.abc import Delivery, EntryKind, Message, Outbox, OutboxLag, Publisher, Settlement, Storage, StoredEvent
from anysaga.events import EventRelay
from anysaga.storages._letters import Letters

pytestmark = pytest.mark.anyio


@define
class Happened:
    verb: str


def telling(shape: type[Shape]) -> type[Shape]:
    """The same saga, whose steps record an event for each act and undo, before their effect and after it."""
    return type(f"Telling{shape.__name__}", (shape,), {"steps": [_telling(step) for step in shape.steps]})  # type: ignore[arg-type]


def _telling(step: type[Plain]) -> type[Plain]:
    class Telling(step):  # type: ignore[misc, valid-type]
        async def act(self, trip: Trip) -> str:
            current_step().record(Happened("act"))
            answer = await step.act(self, trip)
            current_step().record(Happened("acted"))
            return answer

        async def compensate(self, trip: Trip) -> None:
            current_step().record(Happened("undo"))
            await step.compensate(self, trip)
            current_step().record(Happened("undone"))

    return Telling


class Broker(Publisher):
    """What has arrived, in whichever process; a process may die before a publication, and after it."""

    def __init__(self) -> None:
        self.arrived: list[str] = []
        self.fuse = Fuse()

    async def publish(self, messages: Sequence[Message], /) -> Sequence[Exception | None]:
        self.fuse.point()
        self.arrived += [message.id for message in messages]
        self.fuse.point()
        return [None for _ in messages]


class MortalOutbox(MortalStorage, Outbox):
    """A store with an outbox, as a process sees it that may die before and after each write."""

    def __init__(self, inner: MemoryStorage | SQLAlchemyStorage, fuse: Fuse) -> None:
        super().__init__(inner, fuse)
        self._outbox = inner

    async def lease_events(self, destination: str, limit: int, seconds: float) -> list[Delivery]:
        return await self._written(lambda: self._outbox.lease_events(destination, limit, seconds))

    async def settle_events(self, settlements: Iterable[Settlement]) -> None:
        known = list(settlements)
        await self._written(lambda: self._outbox.settle_events(known))

    async def dead_letters(self, *, limit: int = 100, after: Delivery | None = None) -> list[Delivery]:
        return await self._outbox.dead_letters(limit=limit, after=after)

    async def send_again(self, delivery: Delivery) -> bool:
        return await self._outbox.send_again(delivery)

    async def skip_event(self, delivery: Delivery) -> bool:
        return await self._outbox.skip_event(delivery)

    async def outbox_lag(self) -> OutboxLag:
        return await self._outbox.outbox_lag()


class MemoryPlace(InMemory):
    def free_leases(self) -> None:
        assert isinstance(self.reader, MemoryStorage)
        letters = self.reader._shelf.letters
        for letter in letters._all():
            letter.due_at = 0
            letters._schedule([letter])


class DiskPlace(OnDisk):
    def free_leases(self) -> None:
        with closing(sqlite3.connect(self._file)) as connection, connection:
            if connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'anysaga_outbox'").fetchone():
                connection.execute("UPDATE anysaga_outbox SET due_at = 0")


Place = MemoryPlace | DiskPlace


async def live(shape: type[Shape], place: Place, world: World, broker: Broker, fuse: Fuse, *, first: bool) -> None:
    """The life of one process: it runs the saga, or recovers it, and relays its events."""
    storage = place.open()
    place.free_leases()  # as if the time of a dead relay were over
    world.fuse = broker.fuse = fuse
    world.process += 1
    mortal = MortalOutbox(storage, fuse)
    saga = shape(storage=mortal)
    relay = EventRelay(mortal, publisher=broker)
    token = WORLD.set(world)
    try:
        work: list[Callable[[], Awaitable[object]]] = [
            (lambda: saga.run(shape.begin(), saga_id=SAGA_ID)) if first else (lambda: recover([saga], storage=mortal)),
            relay.deliver_due,
        ]
        for each in work:
            await _in_its_time(each)
    finally:
        WORLD.reset(token)
    place.kill(storage)


async def _in_its_time(work: Callable[[], Awaitable[object]]) -> None:
    try:
        await work()
    except EXPECTED_ERRORS:
        pass
    except BaseExceptionGroup as group:
        if group.split(EXPECTED_ERRORS)[1] is not None:
            raise


async def run_dying(shape: type[Shape], place: Place, deaths: Sequence[int]) -> Outcome:
    """Run it with processes that die at these points, then one that lives."""
    world = shape.world(shape().definition, place.reader)
    broker = Broker()
    points: list[int] = []
    for number, at in enumerate([*deaths, 0]):
        fuse = Fuse(at)
        await live(shape, place, world, broker, fuse, first=number == 0)
        points.append(fuse.points)
    return Outcome([*world.problems, *await _broken_laws(place.reader, broker)], points)


async def _broken_laws(reader: Storage, broker: Broker) -> list[str]:
    try:
        record = await reader.load(SAGA_ID)
    except SagaNotFound:
        return [f"events of a saga that is not there: {broker.arrived}"] if broker.arrived else []
    told = [
        f"{SAGA_ID}/{entry.path}/{_VERBS[entry.kind]}/{number}"
        for entry in record.entries
        if entry.kind in _VERBS
        for number in (1, 2)
    ]
    problems: list[str] = []
    if sorted(set(broker.arrived)) != sorted(told):
        problems.append(f"arrived are {broker.arrived}, and the log says {told}")
    if list(dict.fromkeys(broker.arrived)) != told:
        problems.append(f"they arrived in the order {broker.arrived}, and the log says {told}")
    assert isinstance(reader, MemoryStorage | SQLAlchemyStorage)
    if (await reader.outbox_lag()).waiting:
        problems.append("some still wait")
    return problems


_VERBS = {EntryKind.DONE: "act", EntryKind.UNDONE: "undo"}


class InParallel(Shape):
    steps = [Parallel(First, Second), Third]


SHAPES = [telling(shape) for shape in (Well, FailsAtTheEnd, RetriesWell, UndoneWithTrouble)]


event_problems = partial(crash_problems, run=run_dying)


@pytest.mark.parametrize("shape", SHAPES)
async def test_every_crash_point_in_memory(shape: type[Shape]) -> None:
    assert await event_problems(shape, MemoryPlace, every_point) == []


async def test_some_crash_points_on_sqlite(tmp_path: Path) -> None:
    """Every sixth: what a write does in which store is held by the outbox's own tests."""
    files = DiskPlace.files_in(tmp_path)
    assert await event_problems(telling(FailsAtTheEnd), files, lambda points, _: every_point(points)[::6]) == []


async def test_pairs_of_crash_points_in_memory() -> None:
    """After a death at any point, the successor dies at one of those that follow each other the closest: publishing."""
    shape = telling(FailsAtTheEnd)
    assert await event_problems(shape, MemoryPlace, every_point, lambda points, _: every_point(points)[:8]) == []


# Defects put in by hand: each must turn the sweep red


def events_of_failed_attempts_too(patch: pytest.MonkeyPatch) -> None:
    def record(self: object, event: object, *, publish: str = "now") -> None:
        step = current_step()
        assert step._keeper is not None
        del kept[4:]
        kept.append(step._keeper.store(step, event, held=False))
        step.events = tuple(kept)

    kept: list[StoredEvent] = []
    patch.setattr("anysaga._current.CurrentStep.record", record)


def events_after_the_commit(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Letters, "enter", lambda *_: None)


def settled_before_it_is_sent(patch: pytest.MonkeyPatch) -> None:
    lease = MortalOutbox.lease_events

    async def hasty(self: MortalOutbox, destination: str, limit: int, seconds: float) -> list[Delivery]:
        found = await lease(self, destination, limit, seconds)
        await self.settle_events([Settlement(each) for each in found])
        return found

    patch.setattr(MortalOutbox, "lease_events", hasty)


def later_events_before_earlier_ones(patch: pytest.MonkeyPatch) -> None:
    patch.setattr("anysaga.storages._letters._head", lambda letters: letters[-1] if letters else None)


DEFECTS = [
    events_of_failed_attempts_too,
    events_after_the_commit,
    settled_before_it_is_sent,
    later_events_before_earlier_ones,
]


@pytest.mark.parametrize("defect", DEFECTS)
async def test_the_suite_notices(defect: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch) -> None:
    defect(monkeypatch)
    assert any([await event_problems(shape, MemoryPlace, every_point) for shape in SHAPES])
