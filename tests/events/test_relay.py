"""The relay as it runs: when it looks, how it ends, and what it is given."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from itertools import pairwise
from math import inf
from pathlib import Path

import anyio
import pytest
from paid_orders import Paid
from relays import Broker, Charged, Note, Twice, run, running
from virtual_time import in_jumping_time

from anysaga import EventMap, InvalidArgument, MemoryStorage, SQLAlchemyStorage, StorageClosed, StorageUnavailable
from anysaga._event_map import BROKER
from anysaga.abc import Delivery, Outbox, Settlement, Storage
from anysaga.events import EventRelay, current_message

pytestmark = pytest.mark.anyio


async def test_an_event_is_delivered_as_soon_as_it_is_committed(storage: Storage) -> None:
    """Not at the next look, which would be in ten minutes."""
    broker = Broker()
    async with running(EventRelay(storage, publisher=broker, poll=600)):
        for number in range(3):
            broker.got_some = anyio.Event()
            await run(storage, f"s{number}")
            await broker.got_some.wait()
    assert broker.ids == ["s0/1/act/1", "s1/1/act/1", "s2/1/act/1"]


@in_jumping_time
async def test_what_waited_behind_another_event_is_delivered_without_a_pause() -> None:
    storage, broker = MemoryStorage(), Broker()
    await run(storage, "a", step=Twice)
    began = anyio.current_time()
    async with running(EventRelay(storage, publisher=broker, poll=600)):
        await broker.wait_for(2)
    assert anyio.current_time() == began


@in_jumping_time
async def test_an_event_that_enters_while_a_relay_looks_is_delivered_without_a_pause() -> None:
    class Slow(MemoryStorage):
        """Its first answer is old when it comes."""

        async def lease_events(self, destination: str, limit: int, seconds: float) -> list[Delivery]:
            found = await super().lease_events(destination, limit, seconds)
            if not entered.is_set():
                entered.set()
                await run(self, "a")
                await anyio.wait_all_tasks_blocked()
            return found

    storage, broker, entered = Slow(), Broker(), anyio.Event()
    began = anyio.current_time()
    async with running(EventRelay(storage, publisher=broker, poll=600)):
        await broker.wait_for(1)
    assert anyio.current_time() == began


@in_jumping_time
async def test_events_of_a_store_that_cannot_tell_of_them_are_seen_at_the_next_look() -> None:
    class Mute(MemoryStorage):
        watch_events = Outbox.watch_events

    storage, broker = Mute(), Broker()
    relay = EventRelay(storage, publisher=broker, poll=600)
    began = anyio.current_time()
    async with anyio.create_task_group() as group:
        group.start_soon(relay.run)
        await anyio.wait_all_tasks_blocked()
        await run(storage, "a")
        await broker.wait_for(1)
        relay.drain()
    assert anyio.current_time() == began + 600


async def test_events_of_another_process_are_seen_at_the_next_look(tmp_path: Path) -> None:
    broker = Broker()
    async with (
        SQLAlchemyStorage(tmp_path / "s.db") as here,
        SQLAlchemyStorage(tmp_path / "s.db") as there,
        running(EventRelay(here, publisher=broker, poll=0.01)),
    ):
        await anyio.lowlevel.checkpoint()
        await run(there, "a")
        await broker.got_some.wait()
    assert broker.ids == ["a/1/act/1"]


async def test_many_relays_at_once_send_nothing_twice(tmp_path: Path) -> None:
    broker = Broker()
    async with SQLAlchemyStorage(tmp_path / "s.db") as one, SQLAlchemyStorage(tmp_path / "s.db") as two:
        await run(one, *(f"s{number}" for number in range(40)), step=Twice)
        async with anyio.create_task_group() as group:
            for storage in (one, two, one, two):
                group.start_soon(EventRelay(storage, publisher=broker).deliver_due)
        while await EventRelay(one, publisher=broker).deliver_due():  # what others held meanwhile
            continue
    assert len(broker.ids) == len(set(broker.ids)) == 80


async def test_a_relay_that_is_stopped_notes_what_arrived_and_gives_the_rest_back(storage: Storage) -> None:
    begun = {"a": anyio.Event(), "b": anyio.Event()}

    async def handle(_: Paid) -> None:
        saga_id = current_message().saga_id
        begun[saga_id].set()
        if saga_id == "b":
            await anyio.sleep_forever()

    events = EventMap(publish=False).bind(Paid, handle)
    await run(storage, "a", "b", events=events)
    relay = EventRelay(storage, events=events, max_concurrent=2)
    async with running(relay):
        for each in begun.values():
            await each.wait()
    assert isinstance(storage, MemoryStorage | SQLAlchemyStorage)
    (left,) = await storage.lease_events(next(iter(events.targets)), 10, 600)
    assert (left.message.saga_id, left.error) == ("b", "its relay was stopped, or had no time left for it")


async def test_a_relay_that_drains_ends_what_is_under_way_and_takes_up_nothing_more(storage: Storage) -> None:
    begun, may_end = anyio.Event(), anyio.Event()
    done: list[str] = []

    async def handle(_: Paid) -> None:
        begun.set()
        await may_end.wait()
        done.append(current_message().saga_id)

    events = EventMap(publish=False).bind(Paid, handle)
    await run(storage, "a", "b", events=events)
    relay = EventRelay(storage, events=events)
    async with anyio.create_task_group() as group:
        group.start_soon(relay.run)
        await begun.wait()
        relay.drain()
        may_end.set()
    assert len(done) == 1
    assert (await relay.lag()).waiting == 1


async def test_what_was_leased_while_its_relay_began_to_drain_is_given_back_untried() -> None:
    class Late(MemoryStorage):
        async def lease_events(self, destination: str, limit: int, seconds: float) -> list[Delivery]:
            leased = await super().lease_events(destination, limit, seconds)
            relay.drain()
            return leased

    storage, broker = Late(), Broker()
    await run(storage, "a")
    relay = EventRelay(storage, publisher=broker)
    await relay.run()
    assert broker.ids == []
    (left,) = await storage.lease_events(BROKER, 10, 600)
    assert left.attempts == 1


async def test_a_relay_that_was_told_to_drain_before_it_ran_may_run_afterwards() -> None:
    storage, broker = MemoryStorage(), Broker()
    await run(storage, "a")
    relay = EventRelay(storage, publisher=broker)
    relay.drain()
    await relay.run()
    assert broker.ids == []
    async with running(relay):
        await broker.wait_for(1)


async def test_a_relay_that_has_ended_watches_no_more() -> None:
    class Noting(MemoryStorage):
        watching = 0

        def watch_events(self, watcher: Callable[[], None]) -> Callable[[], None]:
            self.watching += 1
            return partial(setattr, self, "watching", 0)

    storage = Noting()
    async with running(EventRelay(storage, publisher=Broker())):
        await anyio.wait_all_tasks_blocked()
        assert storage.watching == 1
    assert storage.watching == 0


async def test_a_relay_may_run_twice_and_all_of_it_drains() -> None:
    storage = MemoryStorage()
    relay = EventRelay(storage, publisher=Broker(), poll=600)
    with anyio.fail_after(10):
        async with anyio.create_task_group() as group:
            group.start_soon(relay.run)
            group.start_soon(relay.run)
            async with running(relay):  # a third time, cancelled
                await anyio.wait_all_tasks_blocked()
            relay.drain()


class Moody(MemoryStorage):
    moods = 2

    async def lease_events(self, destination: str, limit: int, seconds: float) -> list[Delivery]:
        self.moods -= 1
        if self.moods >= 0:
            raise StorageUnavailable("memory", "it is asleep")
        return await super().lease_events(destination, limit, seconds)


async def test_a_store_that_does_not_answer_is_waited_for() -> None:
    storage, broker = Moody(), Broker()
    await run(storage, "a")
    async with running(EventRelay(storage, publisher=broker, poll=0.001)):
        await broker.got_some.wait()
    assert broker.ids == ["a/1/act/1"]


@in_jumping_time
async def test_a_store_that_does_not_answer_is_asked_less_and_less_often_until_it_does() -> None:
    looks: list[float] = []

    class Asleep(MemoryStorage):
        async def lease_events(self, destination: str, limit: int, seconds: float) -> list[Delivery]:
            looks.append(anyio.current_time())
            if len(looks) == 10:
                relay.drain()
            if len(looks) != 7:
                raise StorageUnavailable("memory", "it is asleep")
            return []

    relay = EventRelay(Asleep(), publisher=Broker(), poll=1)
    await relay.run()
    assert [after - before for before, after in pairwise(looks)] == [2, 4, 8, 16, 30, 30, 1, 2, 4]


@in_jumping_time
@pytest.mark.parametrize("trouble", ["silent", "away"])
async def test_a_store_that_does_not_note_what_was_sent_is_told_of(
    trouble: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Else somebody sees copies, and nothing that says why."""

    class Troubled(MemoryStorage):
        async def settle_events(self, settlements: Iterable[Settlement]) -> None:
            if trouble == "away":
                raise StorageUnavailable("memory", "it is asleep")
            await anyio.sleep_forever()

    storage, broker = Troubled(), Broker()
    await run(storage, "a")
    await EventRelay(storage, publisher=broker).deliver_due()
    assert broker.ids == ["a/1/act/1"]
    assert "what was sent to broker may be sent again" in caplog.text


async def test_an_outage_of_any_length_is_waited_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """A wait that was doubled a thousand times is more than a float can hold."""
    monkeypatch.setattr("anysaga._retry.MAX_BACKOFF", 0.0)
    storage, broker = Moody(), Broker()
    storage.moods = 1100
    await run(storage, "a")
    async with running(EventRelay(storage, publisher=broker, poll=1e-9)):
        await broker.got_some.wait()
    assert broker.ids == ["a/1/act/1"]


async def test_a_closed_storage_ends_it_with_that_error(storage: Storage) -> None:
    relay = EventRelay(storage, publisher=Broker(), poll=0.01)
    await storage.aclose()
    with pytest.raises(StorageClosed):
        await relay.run()


@pytest.mark.parametrize(
    "options",
    [
        {"max_concurrent": 0},
        {"max_concurrent": 1.5},
        {"handler_timeout": 0},
        {"handler_timeout": inf},
        {"poll": -1},
        {"retry": 3},
        {"retry": None},
        {"events": None},
        {"events": [print]},
    ],
)
def test_what_cannot_work_is_refused(options: dict[str, object]) -> None:
    with pytest.raises(InvalidArgument) as caught:
        EventRelay(MemoryStorage(), **options)  # type: ignore[arg-type]  # on purpose
    assert caught.value.name == next(iter(options))


def test_a_relay_with_nothing_to_deliver_to_is_refused() -> None:
    with pytest.raises(InvalidArgument, match="nothing to deliver to"):
        EventRelay(MemoryStorage(), events=EventMap())


def test_handlers_of_several_maps_are_taken_together_if_their_names_differ() -> None:
    EventRelay(MemoryStorage(), events=[EventMap().bind(Paid, Note), EventMap().bind(Charged, print)])
    other = type("Note", (Note,), {"__qualname__": "Note"})
    with pytest.raises(InvalidArgument, match="rename"):
        EventRelay(MemoryStorage(), events=[EventMap().bind(Paid, Note), EventMap().bind(Paid, other)])


def test_a_storage_without_an_outbox_is_refused() -> None:
    with pytest.raises(InvalidArgument, match="keeps no events"):
        EventRelay(object())  # type: ignore[arg-type]  # on purpose
