"""The outbox, in every store that keeps one."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AsyncExitStack
from pathlib import Path

import anyio
import pytest
import sqlalchemy as sa
from attrs import define
from server_stores import DRIVERS, Server, servers

from anysaga import MemoryStorage, SQLAlchemyStorage, StaleFence
from anysaga.abc import (
    Claim,
    Delivery,
    Entry,
    EntryKind,
    NewSaga,
    Outbox,
    SagaState,
    Settlement,
    Storage,
    StoredEvent,
    Write,
)
from anysaga.storages._clock import ManualClock

pytestmark = pytest.mark.anyio

LONG = 600.0


@define
class Saga:
    """One saga in a store, and what was written of it so far."""

    storage: Storage
    claim: Claim
    seq: int = 0

    @property
    def id(self) -> str:
        return self.claim.record.summary.saga_id

    def write(
        self, *types: str, to: Sequence[str] = ("broker",), held: bool = False, state: SagaState = SagaState.RUNNING
    ) -> Write:
        """The next write: one entry with events of these types."""
        events = tuple(
            StoredEvent(f"{self.id}/{self.seq}/{n}", type_, '{"n":1}', "order", "Pay", tuple(to), held)
            for n, type_ in enumerate(types)
        )
        entry = Entry(EntryKind.DONE, "1", seq=self.seq + 1, fence=self.claim.fence, events=events)
        return Write(self.id, self.claim.fence, (entry,), state, held=True)

    async def record(
        self, *types: str, to: Sequence[str] = ("broker",), held: bool = False, state: SagaState = SagaState.RUNNING
    ) -> None:
        await self.storage.record(self.write(*types, to=to, held=held, state=state))
        self.seq += 1


@define
class Twins:
    """Two views of one store, as two processes have them."""

    here: MemoryStorage | SQLAlchemyStorage
    there: MemoryStorage | SQLAlchemyStorage

    async def begin(self, saga_id: str) -> Saga:
        claim = await self.here.create(NewSaga(saga_id, "order", 1, "[]", "", "{}", SagaState.RUNNING))
        assert claim is not None
        return Saga(self.here, claim)


@pytest.fixture(scope="module")
def server_of(require_service: Callable[[str], str]) -> Iterator[Callable[[str], Server]]:
    made: dict[str, Server] = {}
    find = servers(require_service, "outbox")

    def server_of(driver: str) -> Server:
        made[driver] = find(driver)
        return made[driver]

    yield server_of
    for server in made.values():
        server.drop()


@pytest.fixture(params=["memory", "sqlite", "aiosqlite", *DRIVERS])
async def twins(
    request: pytest.FixtureRequest, tmp_path: Path, server_of: Callable[[str], Server]
) -> AsyncIterator[Twins]:
    async with AsyncExitStack() as stack:
        here: MemoryStorage | SQLAlchemyStorage
        if request.param == "memory":
            here = MemoryStorage()
            there: MemoryStorage | SQLAlchemyStorage = here.twin()
        elif request.param in DRIVERS:
            server = server_of(request.param)
            here, there = server.new_storage(), server.twin()
        else:
            address = f"{'sqlite+aiosqlite' if request.param == 'aiosqlite' else 'sqlite'}:///{tmp_path / 's.db'}"
            here, there = SQLAlchemyStorage(address), SQLAlchemyStorage(address)
        await stack.enter_async_context(here)
        await stack.enter_async_context(there)
        yield Twins(here, there)


def types(deliveries: Sequence[Delivery]) -> list[str]:
    return [each.message.type for each in deliveries]


async def lease(outbox: Outbox, destination: str = "broker", *, seconds: float = LONG) -> list[Delivery]:
    return await outbox.lease_events(destination, 100, seconds)


async def test_an_event_comes_with_all_that_its_write_said(twins: Twins) -> None:
    saga = await twins.begin("one")
    await saga.record("paid")
    (delivery,) = await lease(twins.there)
    message = delivery.message
    assert (message.id, message.type, message.data) == ("one/0/0", "paid", '{"n":1}')
    assert (message.saga_id, message.saga, message.step) == ("one", "order", "Pay")
    assert message.at == (await twins.here.load("one")).entries[-1].at
    assert (delivery.destination, delivery.attempts) == ("broker", 1)


async def test_a_refused_write_leaves_no_event(twins: Twins) -> None:
    saga = await twins.begin("one")
    await saga.record()
    late = saga.write("paid")
    await saga.record()
    await saga.record()
    with pytest.raises(StaleFence):
        await twins.here.record(late)
    assert await lease(twins.here) == []


async def test_a_write_that_is_sent_again_leaves_its_event_once(twins: Twins) -> None:
    saga = await twins.begin("one")
    write = saga.write("paid")
    await twins.here.record(write)
    await twins.here.record(write)
    assert (await twins.here.outbox_lag()).waiting == 1


async def test_each_destination_has_the_event_on_its_own(twins: Twins) -> None:
    saga = await twins.begin("one")
    await saga.record("paid", to=("broker", "handler"))
    (to_broker,) = await lease(twins.here)
    await twins.here.settle_events([Settlement(to_broker)])
    (to_handler,) = await lease(twins.here, "handler")
    assert to_handler.message == to_broker.message


async def test_events_of_one_saga_come_one_after_the_other(twins: Twins) -> None:
    """The next one is leased once the one before was delivered: not while that is leased, nor while it waits."""
    saga = await twins.begin("one")
    await saga.record("first", "second")
    await saga.record("third")
    (first,) = await lease(twins.here)
    assert await lease(twins.there) == []
    await twins.here.settle_events([Settlement(first, "no answer", wait=LONG)])
    assert await lease(twins.there) == []
    await twins.here.settle_events([Settlement(first)])  # its lease is still the last one
    seen: list[str] = []
    while found := await lease(twins.there):
        seen += types(found)
        await twins.there.settle_events([Settlement(each) for each in found])
    assert seen == ["second", "third"]


async def test_an_event_waits_for_no_earlier_one_of_another_destination(twins: Twins) -> None:
    saga = await twins.begin("one")
    await saga.record("first", to=("x", "y"))
    await saga.record("second", to=("x", "y"))
    (first,) = await lease(twins.here, "x")
    await twins.here.settle_events([Settlement(first)])
    assert types(await lease(twins.here, "x")) == ["second"]


async def test_events_that_wait_for_others_take_no_place_of_those_that_are_due(twins: Twins) -> None:
    for name in ("a", "b"):
        saga = await twins.begin(name)
        await saga.record("first", "second")
    for name in ("a", "b"):
        (delivery,) = await twins.here.lease_events("broker", 1, LONG)
        assert (delivery.message.saga_id, delivery.message.type) == (name, "first")


async def test_events_of_many_sagas_come_together_the_longest_due_first(twins: Twins) -> None:
    for name in ("b", "c", "a"):
        saga = await twins.begin(name)
        await saga.record(name)
    assert types(await twins.here.lease_events("broker", 2, LONG)) == ["b", "c"]
    assert types(await twins.there.lease_events("broker", 2, LONG)) == ["a"]


async def test_a_lease_that_ran_out_is_given_to_another_whose_word_counts(twins: Twins) -> None:
    saga = await twins.begin("one")
    await saga.record("paid")
    (late,) = await lease(twins.here, seconds=0)
    (again,) = await lease(twins.there)
    assert (again.message, again.attempts) == (late.message, 2)
    await twins.here.settle_events([Settlement(late)])
    assert (await twins.here.outbox_lag()).waiting == 1
    await twins.here.settle_events([Settlement(late, "no answer", wait=0)])
    assert await lease(twins.here) == []
    await twins.there.settle_events([Settlement(again)])
    assert (await twins.here.outbox_lag()).waiting == 0


async def test_the_late_word_about_an_event_that_arrived_is_nothing(twins: Twins) -> None:
    saga = await twins.begin("one")
    await saga.record("paid")
    (late,) = await lease(twins.here, seconds=0)
    (again,) = await lease(twins.there)
    await twins.there.settle_events([Settlement(again)])
    await twins.here.settle_events([Settlement(late, "no")])
    assert await twins.here.dead_letters() == []
    assert not await twins.here.send_again(late)
    assert not await twins.here.skip_event(late)


async def test_what_failed_is_due_again_after_its_wait_and_says_why(twins: Twins) -> None:
    saga = await twins.begin("one")
    await saga.record("paid")
    (first,) = await lease(twins.here)
    await twins.here.settle_events([Settlement(first, "no answer", wait=0)])
    (again,) = await lease(twins.there)
    assert (again.attempts, again.error) == (2, "no answer")


async def test_what_failed_is_not_due_before_its_wait_is_over(twins: Twins) -> None:
    """Not even though its lease is."""
    saga = await twins.begin("one")
    await saga.record("paid")
    (first,) = await lease(twins.here, seconds=0)
    await twins.here.settle_events([Settlement(first, "no answer", wait=LONG)])
    assert await lease(twins.there) == []


async def test_no_lease_takes_two_events_of_one_saga_or_one_twice(twins: Twins) -> None:
    """However short it is."""
    saga = await twins.begin("one")
    await saga.record("first", "second")
    for _ in range(3):
        assert types(await lease(twins.here, seconds=0)) == ["first"]


async def test_an_attempt_that_was_none_is_not_counted(twins: Twins) -> None:
    saga = await twins.begin("one")
    await saga.record("paid")
    (first,) = await lease(twins.here)
    await twins.here.settle_events([Settlement(first, "the broker is away", wait=0, counts=False)])
    (again,) = await lease(twins.there)
    assert (again.attempts, again.error) == (1, "the broker is away")
    assert again.lease != first.lease


async def test_a_held_event_is_due_once_its_saga_is_completed(twins: Twins) -> None:
    saga = await twins.begin("one")
    await saga.record("receipt", held=True)
    await saga.record("paid")
    (paid,) = await lease(twins.here)
    assert paid.message.type == "paid"
    await twins.here.settle_events([Settlement(paid)])
    assert await lease(twins.here) == []
    await saga.record("thanks", held=True, state=SagaState.COMPLETED)
    (receipt,) = await lease(twins.here)
    assert receipt.message.type == "receipt"
    await twins.here.settle_events([Settlement(receipt)])
    assert types(await lease(twins.here)) == ["thanks"]


async def test_a_held_event_comes_after_all_that_are_not(twins: Twins) -> None:
    """Also after those that were recorded later, one of which may be under way when the saga ends."""
    saga = await twins.begin("one")
    await saga.record("receipt", held=True)
    await saga.record("paid")
    (paid,) = await lease(twins.here)
    await saga.record("sent", state=SagaState.COMPLETED)
    assert await lease(twins.here) == []
    await twins.here.settle_events([Settlement(paid)])
    (sent,) = await lease(twins.here)
    await twins.here.settle_events([Settlement(sent)])
    assert types([sent, *await lease(twins.here)]) == ["sent", "receipt"]


async def test_the_end_of_a_saga_changes_nothing_of_its_other_events(twins: Twins) -> None:
    """Neither of one that is leased, nor of a dead letter."""
    saga = await twins.begin("one")
    await saga.record("paid", to=("x", "y"))
    (leased,) = await lease(twins.here, "x")
    (dead,) = await lease(twins.here, "y")
    await twins.here.settle_events([Settlement(dead, "no")])
    await saga.record(state=SagaState.COMPLETED)
    assert await lease(twins.here, "x") == await lease(twins.here, "y") == []
    assert [each.destination for each in await twins.here.dead_letters()] == ["y"]
    await twins.here.settle_events([Settlement(leased)])
    assert (await twins.here.outbox_lag()).waiting == 0


@pytest.mark.parametrize("last", [(), ("refunded",)], ids=["silent-end", "told-end"])
@pytest.mark.parametrize("end", [SagaState.COMPENSATED, SagaState.ABANDONED])
async def test_a_held_event_is_dropped_if_its_saga_ends_otherwise(
    twins: Twins, end: SagaState, last: Sequence[str]
) -> None:
    """And no other: what is on its way is a fact."""
    saga = await twins.begin("one")
    await saga.record("paid")
    await saga.record("receipt", held=True)
    await saga.record(*last, state=end)
    assert (await twins.here.outbox_lag()).waiting == 1 + len(last)
    (paid,) = await lease(twins.here)
    assert paid.message.type == "paid"
    await twins.here.settle_events([Settlement(paid)])
    assert types(await lease(twins.here, seconds=0)) == list(last)


async def test_a_held_event_waits_while_its_saga_is_parked(twins: Twins) -> None:
    saga = await twins.begin("one")
    await saga.record("receipt", held=True)
    await saga.record(state=SagaState.PARKED)
    assert await lease(twins.here) == []
    saga.claim = await twins.here.claim("one", states=frozenset({SagaState.PARKED}))
    await saga.record(state=SagaState.COMPLETED)
    assert types(await lease(twins.here)) == ["receipt"]


async def test_a_dead_letter_holds_up_its_saga_until_it_is_sent_again(twins: Twins) -> None:
    for name in ("bad", "good"):
        saga = await twins.begin(name)
        await saga.record("first", "second")
    bad, good = await lease(twins.here)
    await twins.here.settle_events([Settlement(bad, "no"), Settlement(good)])
    assert [each.message.saga_id for each in await lease(twins.here)] == ["good"]
    (dead,) = await twins.there.dead_letters()
    assert (dead.message, dead.error, dead.attempts) == (bad.message, "no", 1)
    assert await twins.there.send_again(dead)
    assert not await twins.there.send_again(dead)
    (again,) = await lease(twins.here)
    assert (again.message, again.attempts) == (bad.message, 1)


async def test_a_dead_letter_that_is_skipped_lets_the_next_event_go(twins: Twins) -> None:
    saga = await twins.begin("one")
    await saga.record("first", "second")
    (first,) = await lease(twins.here)
    assert not await twins.here.skip_event(first)
    await twins.here.settle_events([Settlement(first, "no")])
    assert await twins.there.skip_event(first)
    assert types(await lease(twins.here)) == ["second"]


async def test_dead_letters_are_listed_page_by_page(twins: Twins) -> None:
    for name in ("c", "a", "b"):
        saga = await twins.begin(name)
        await saga.record("paid", to=("x", "y"))
    for destination in ("y", "x"):
        found = await lease(twins.here, destination)
        await twins.here.settle_events([Settlement(each, "no") for each in found])
    pages: list[tuple[str, str]] = []
    after: Delivery | None = None
    while page := await twins.there.dead_letters(limit=4, after=after):
        pages += [(each.message.saga_id, each.destination) for each in page]
        after = page[-1]
    assert pages == [(saga_id, destination) for saga_id in "abc" for destination in "xy"]


async def test_the_lag_counts_what_waits_and_what_is_dead_but_not_what_is_held(twins: Twins) -> None:
    assert await twins.here.outbox_lag() == (await twins.there.outbox_lag())
    saga = await twins.begin("one")
    await saga.record("first", "second")
    await saga.record("receipt", held=True)
    other = await twins.begin("two")
    await other.record("first")
    found = {each.message.saga_id: each for each in await lease(twins.here)}
    await twins.here.settle_events([Settlement(found["two"], "no")])
    lag = await twins.there.outbox_lag()
    assert (lag.waiting, lag.dead) == (2, 1)
    assert 0 <= lag.oldest < LONG


@pytest.mark.parametrize("store", ["memory", "sqlite"])
async def test_the_lag_is_the_age_of_the_oldest_event_that_is_no_dead_letter(store: str, tmp_path: Path) -> None:
    clock = ManualClock()
    made = MemoryStorage(clock=clock) if store == "memory" else SQLAlchemyStorage(tmp_path / "s.db", clock=clock)
    async with made as storage:
        twins = Twins(storage, storage)
        for name in ("dead", "old", "new"):
            saga = await twins.begin(name)
            await saga.record("paid")
            clock.advance(5)
        (dead,) = await storage.lease_events("broker", 1, LONG)
        await storage.settle_events([Settlement(dead, "no")])
        assert (dead.message.saga_id, (await storage.outbox_lag()).oldest) == ("dead", 10)


async def test_a_saga_is_kept_for_as_long_as_its_events_wait(twins: Twins) -> None:
    """Started again under the same id, it would send other events under the ids and places of those that wait."""
    for saga_id in ("one", "two", "three"):
        saga = await twins.begin(saga_id)
        await saga.record("paid", state=SagaState.COMPLETED)
    found = {each.message.saga_id: each for each in await lease(twins.here)}
    await twins.here.settle_events([Settlement(found["two"]), Settlement(found["three"], "no")])
    assert await twins.here.purge(before=2**62, states=[SagaState.COMPLETED], limit=1) == 1
    assert await twins.there.purge(before=2**62, states=[SagaState.COMPLETED], limit=1) == 0
    assert await twins.there.skip_event(found["three"])
    assert await twins.there.purge(before=2**62, states=[SagaState.COMPLETED], limit=1) == 1
    assert [summary.saga_id for summary in await twins.here.find()] == ["one"]


async def test_whoever_watches_is_told_of_new_events_only(twins: Twins) -> None:
    told: list[str] = []
    stop = twins.here.watch_events(lambda: told.append("event"))
    saga = await twins.begin("one")
    await saga.record()
    assert told == []
    await saga.record("paid")
    assert told == ["event"]
    stop()
    await saga.record("sent")
    assert told == ["event"]


async def test_two_relays_at_once_never_have_the_same_event(twins: Twins) -> None:
    for number in range(30):
        saga = await twins.begin(f"saga-{number}")
        await saga.record("paid")
    taken: list[Delivery] = []

    async def relay(outbox: Outbox) -> None:
        # Rows that the other one has locked are passed over, so an empty answer does not mean that all is taken.
        while len(taken) < 30:
            taken.extend(await outbox.lease_events("broker", 3, LONG))

    async with anyio.create_task_group() as group:
        for outbox in (twins.here, twins.there) * 2:
            group.start_soon(relay, outbox)
    assert set(Counter(each.message.id for each in taken).values()) == {1}


async def test_a_query_that_knows_too_little_of_earlier_events_leases_none_before_them(
    twins: Twins, monkeypatch: pytest.MonkeyPatch
) -> None:
    """MySQL finds both of two events that are committed meanwhile, and takes neither for the earlier one."""
    if isinstance(twins.here, MemoryStorage):
        pytest.skip("it asks no query")
    outbox, table = twins.here._core.outbox, twins.here._core._tables.outbox
    looked_for = sa.select(table).where(table.c.destination == sa.bindparam("b_destination"))
    monkeypatch.setattr(outbox, "_due", looked_for.with_for_update(skip_locked=True))
    saga = await twins.begin("one")
    await saga.record("paid", "sent")
    found = await lease(twins.here)
    assert types(found) == ["paid"]
    await twins.here.settle_events([Settlement(found[0], "no", wait=0.0)])
    assert types(await lease(twins.here)) == ["paid"]
