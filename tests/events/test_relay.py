"""The relay: at least once, in order for each saga and destination, whatever fails."""

from __future__ import annotations

import json
import threading
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from itertools import pairwise
from math import inf
from pathlib import Path
from typing import TypeVar

import anyio
import anyio.from_thread
import pytest
from anyio.abc import TaskGroup
from attrs import define
from paid_orders import Order, Paid, Pay
from virtual_time import in_jumping_time

from anysaga import (
    EventHandler,
    EventMap,
    InvalidArgument,
    MemoryStorage,
    Retry,
    Saga,
    SQLAlchemyStorage,
    Step,
    StorageClosed,
    StorageUnavailable,
    current_step,
    secret,
)
from anysaga._event_map import BROKER
from anysaga.abc import Delivery, Message, Outbox, Publisher, Settlement, Storage
from anysaga.events import EventRelay, current_message
from anysaga.storages._clock import ManualClock

pytestmark = pytest.mark.anyio

T = TypeVar("T")

AT_ONCE = Retry(attempts=3, delay=0)


@define
class Charged:
    card: str = secret()


class Twice(Step[Order]):
    read_only = True

    async def act(self, order: Order) -> None:
        current_step().record(Paid(order.number))
        current_step().record(Paid(order.number + 1))


class Charge(Step[Order]):
    read_only = True

    async def act(self, order: Order) -> None:
        current_step().record(Charged("4711-0815"))


class Broker(Publisher):
    """A broker that notes what arrives; `refuses` says of a message why it does not."""

    def __init__(self) -> None:
        self.asked: list[Sequence[Message]] = []
        self.batches: list[Sequence[Message]] = []
        self.arrived: list[Message] = []
        self.down: BaseException | None = None
        self.refused: set[str] = set()
        self.got_some = anyio.Event()
        self.was_asked = anyio.Event()

    async def publish(self, messages: Sequence[Message], /) -> Sequence[Exception | None]:
        self.was_asked.set()
        self.asked.append(messages)
        if self.down is not None:
            raise self.down
        self.batches.append(messages)
        answers: list[Exception | None] = []
        for message in messages:
            refused = message.id in self.refused
            answers.append(ValueError(f"no {message.id}") if refused else None)
            if not refused:
                self.arrived.append(message)
        self.got_some.set()
        return answers

    async def wait_for(self, number: int) -> None:
        while len(self.arrived) < number:
            self.got_some = anyio.Event()
            await self.got_some.wait()

    @property
    def ids(self) -> list[str]:
        return [message.id for message in self.arrived]


async def run(storage: Storage, *sagas: str, step: type[Step[Order]] = Pay, events: EventMap | None = None) -> None:
    for saga_id in sagas:
        await Saga[Order](name="order", storage=storage, steps=[step], events=events).run(Order(), saga_id=saga_id)


@asynccontextmanager
async def running(relay: EventRelay) -> AsyncIterator[TaskGroup]:
    """The relay as it runs in the background."""
    async with anyio.create_task_group() as group:
        group.start_soon(relay.run)
        yield group
        group.cancel_scope.cancel()


# To the broker


async def test_each_event_arrives_and_is_then_forgotten(storage: Storage) -> None:
    await run(storage, "a", "b")
    broker = Broker()
    relay = EventRelay(storage, publisher=broker)
    assert await relay.deliver_due() == 2
    assert sorted(broker.ids) == ["a/1/act/1", "b/1/act/1"]
    assert (await relay.lag()).waiting == 0
    assert await relay.deliver_due() == 0


async def test_events_of_one_saga_arrive_in_their_order(storage: Storage) -> None:
    await run(storage, "a", "b", step=Twice)
    broker = Broker()
    await EventRelay(storage, publisher=broker).deliver_due()
    for saga_id in "ab":
        assert [each for each in broker.ids if each[0] == saga_id] == [f"{saga_id}/1/act/1", f"{saga_id}/1/act/2"]


async def test_no_batch_has_two_events_of_one_saga() -> None:
    storage = MemoryStorage()
    batches: list[list[str]] = []

    class Noting(Broker):
        async def publish(self, messages: Sequence[Message], /) -> Sequence[Exception | None]:
            batches.append(sorted(message.saga_id for message in messages))
            return await super().publish(messages)

    await run(storage, "a", "b", step=Twice)
    await EventRelay(storage, publisher=Noting()).deliver_due()
    assert batches == [["a", "b"], ["a", "b"]]


async def test_an_event_that_is_refused_comes_again_and_holds_up_its_own_saga_only() -> None:
    storage = MemoryStorage()
    await run(storage, "a", "b", step=Twice)
    broker = Broker()
    broker.refused = {"a/1/act/1"}
    relay = EventRelay(storage, publisher=broker, retry=Retry(attempts=3, delay=600))
    await relay.deliver_due()
    assert broker.ids == ["b/1/act/1", "b/1/act/2"]
    assert (await relay.lag()).waiting == 2


async def test_what_is_refused_as_often_as_may_be_is_a_dead_letter(storage: Storage) -> None:
    await run(storage, "a", step=Twice)
    broker = Broker()
    broker.refused = {"a/1/act/1"}
    relay = EventRelay(storage, publisher=broker, retry=AT_ONCE)
    assert await relay.deliver_due() == AT_ONCE.attempts
    (dead,) = await relay.dead_letters()
    assert (dead.message.id, dead.attempts, dead.error) == ("a/1/act/1", 3, "ValueError: no a/1/act/1")
    assert broker.ids == []


async def test_a_dead_letter_is_sent_again_or_skipped_and_then_the_rest_goes_on(storage: Storage) -> None:
    await run(storage, "a", "b", step=Twice)
    broker = Broker()
    broker.refused = {"a/1/act/1", "b/1/act/1"}
    relay = EventRelay(storage, publisher=broker, retry=Retry(attempts=1))
    await relay.deliver_due()
    first, second = await relay.dead_letters()
    broker.refused = set()
    assert await relay.send_again(first)
    assert await relay.skip(second)
    await relay.deliver_due()
    assert sorted(broker.ids) == ["a/1/act/1", "a/1/act/2", "b/1/act/2"]


async def test_an_error_that_is_worth_no_other_attempt_makes_a_dead_letter_at_once() -> None:
    storage, broker = MemoryStorage(), Broker()
    await run(storage, "a")
    broker.refused = {"a/1/act/1"}
    relay = EventRelay(storage, publisher=broker, retry=Retry(attempts=3, delay=0, on=ConnectionError))
    assert await relay.deliver_due() == 1
    assert len(await relay.dead_letters()) == 1


async def test_what_is_refused_again_and_again_waits_longer_each_time() -> None:
    clock = ManualClock()
    storage, broker, asked_at = MemoryStorage(clock=clock), Broker(), list[int]()
    await run(storage, "a")
    broker.refused = {"a/1/act/1"}
    relay = EventRelay(storage, publisher=broker, retry=Retry(attempts=10, delay=1, backoff=2))
    for second in range(8):
        asked_at += [second] * await relay.deliver_due()
        clock.advance(1)
    assert asked_at == [0, 1, 3, 7]


async def test_an_error_that_the_policy_cannot_judge_makes_a_dead_letter_and_the_rest_goes_on() -> None:
    storage = MemoryStorage()

    def judge(error: BaseException) -> bool:
        status: int = error.response.status  # type: ignore[attr-defined]  # other errors have none
        return status >= 500

    broker = Broker()
    relay = EventRelay(storage, publisher=broker, retry=Retry(on=judge))
    await run(storage, "a", "b")
    broker.refused = {"a/1/act/1"}
    await relay.deliver_due()
    assert broker.ids == ["b/1/act/1"]
    assert [letter.message.id for letter in await relay.dead_letters()] == ["a/1/act/1"]


async def test_a_broker_that_is_down_loses_nothing(storage: Storage) -> None:
    await run(storage, "a", "b")
    broker = Broker()
    broker.down = ConnectionError("nobody there")
    relay = EventRelay(storage, publisher=broker, poll=0.001, retry=Retry(attempts=10**6, delay=0.001, backoff=1))
    async with running(relay):
        await broker.was_asked.wait()
        broker.down = None
        await broker.wait_for(2)
    assert sorted(broker.ids) == ["a/1/act/1", "b/1/act/1"]


class Odd(BaseException):
    """No `Exception`, as what some test frameworks raise, and no wish to end either."""


@pytest.mark.parametrize("down", [ConnectionError("nobody there"), Odd()], ids=["Exception", "BaseException"])
async def test_a_broker_that_is_away_makes_no_dead_letters(down: BaseException) -> None:
    """However often it was asked, an event that is refused later on was tried once before."""
    storage = MemoryStorage()
    await run(storage, "a", "b")
    broker = Broker()
    relay = EventRelay(storage, publisher=broker, retry=Retry(attempts=2, delay=0))
    broker.down = down
    for _ in range(5):
        assert await relay.deliver_due() == 0
    broker.down = None
    broker.refused = {"a/1/act/1"}
    assert await relay.deliver_due() == 3
    (dead,) = await relay.dead_letters()
    assert (dead.message.id, dead.attempts) == ("a/1/act/1", 2)
    assert broker.ids == ["b/1/act/1"]


class Forgetful(Publisher):
    async def publish(self, messages: Sequence[Message], /) -> None:  # type: ignore[override]  # what it forgets
        """Send them, and say nothing of them."""


class Curt(Publisher):
    async def publish(self, messages: Sequence[Message], /) -> Sequence[None]:
        return []


class Gathering(Publisher):
    async def publish(self, messages: Sequence[Message], /) -> list[object]:  # type: ignore[override]  # receipts
        return ["a receipt of the broker's" for _ in messages]


class Blocking(Publisher):
    def publish(self, messages: Sequence[Message], /) -> list[None]:  # type: ignore[override]  # it is not `async`
        return [None] * len(messages)


@pytest.mark.parametrize("publisher", [Forgetful, Curt, Gathering, Blocking])
async def test_a_publisher_that_does_not_answer_for_each_message_is_told_to(
    publisher: type[Publisher], caplog: pytest.LogCaptureFixture
) -> None:
    """And what it was given is no dead letter: it may have arrived."""
    storage = MemoryStorage()
    await run(storage, "a")
    relay = EventRelay(storage, publisher=publisher())
    await relay.deliver_due()
    assert "return a list with None, or an error, for each message" in caplog.text
    assert (await relay.lag()).waiting == 1


async def test_a_broker_that_is_away_is_not_asked_for_each_message() -> None:
    storage = MemoryStorage()
    await run(storage, *"abcdefghijklmnop")
    broker = Broker()
    broker.down = ConnectionError("nobody there")
    await EventRelay(storage, publisher=broker).deliver_due()
    assert [len(batch) for batch in broker.asked] == [16, 8, 8, 4, 4, 4, 4]


async def test_a_broker_that_is_away_is_asked_once_though_handlers_have_more_to_do() -> None:
    storage, heard = MemoryStorage(), list[Paid]()
    events = EventMap().bind(Paid, heard.append)
    await run(storage, "a", step=Twice, events=events)
    broker = Broker()
    broker.down = ConnectionError("nobody there")
    await EventRelay(storage, publisher=broker, events=events).deliver_due()
    assert (heard, len(broker.asked)) == ([Paid(1), Paid(2)], 1)


async def test_no_more_is_leased_at_once_than_can_be_sent_at_once() -> None:
    """However many batches came before."""

    class Noting(MemoryStorage):
        limits: set[int] = set()

        async def lease_events(self, destination: str, limit: int, seconds: float) -> list[Delivery]:
            self.limits.add(limit)
            return await super().lease_events(destination, limit, seconds)

    storage, heard = Noting(), list[Paid]()
    events = EventMap(publish=False).bind(Paid, heard.append)
    await run(storage, *"abcdef", events=events)
    await EventRelay(storage, events=events, max_concurrent=2).deliver_due()
    assert (len(heard), storage.limits) == (6, {2})


async def test_delivering_what_is_due_ends_though_each_event_brings_another() -> None:
    storage = MemoryStorage()

    class Endless(Broker):
        async def publish(self, messages: Sequence[Message], /) -> Sequence[Exception | None]:
            await run(storage, f"{messages[0].saga_id}+")
            return await super().publish(messages)

    await run(storage, "a")
    assert await EventRelay(storage, publisher=Endless(), retry=Retry(attempts=3)).deliver_due() == 3


async def test_new_events_do_not_hurry_a_broker_that_is_away() -> None:
    storage = MemoryStorage()
    broker = Broker()
    broker.down = ConnectionError("nobody there")
    async with running(EventRelay(storage, publisher=broker, poll=1000)):
        await run(storage, "a")
        await broker.was_asked.wait()
        await anyio.wait_all_tasks_blocked()
        broker.was_asked = anyio.Event()
        await run(storage, "b")
        await anyio.wait_all_tasks_blocked()
        assert not broker.was_asked.is_set()


async def test_a_broker_that_was_away_is_given_one_event_then_two_then_more() -> None:
    storage = MemoryStorage()
    await run(storage, *"abcdefg")
    broker = Broker()
    broker.down = ConnectionError("nobody there")
    async with running(EventRelay(storage, publisher=broker, poll=0.001)):
        await broker.was_asked.wait()
        broker.down = None
        await broker.wait_for(7)
    assert [len(batch) for batch in broker.batches] == [1, 2, 4]


class Touchy(Broker):
    """One that raises whenever a certain message is in the batch."""

    def __init__(self, *minded: str) -> None:
        super().__init__()
        self.minded = minded

    async def publish(self, messages: Sequence[Message], /) -> Sequence[Exception | None]:
        if any(message.id in self.minded for message in messages):
            raise KeyError("no subject for it")
        return await super().publish(messages)


async def test_a_message_that_the_publisher_raises_for_fails_alone() -> None:
    storage = MemoryStorage()
    await run(storage, *"abcdefg")
    broker = Touchy("c/1/act/1", "f/1/act/1")
    relay = EventRelay(storage, publisher=broker, retry=Retry(attempts=1))
    await relay.deliver_due()
    assert sorted(each[0] for each in broker.ids) == list("abdeg")
    dead = await relay.dead_letters()
    assert [letter.message.id for letter in dead] == ["c/1/act/1", "f/1/act/1"]
    assert [letter.error for letter in dead] == ["KeyError: 'no subject for it'"] * 2


async def test_what_is_refused_unasked_does_not_say_that_the_broker_is_there() -> None:
    """A publisher knows some refusals by itself: one of them must not put the blame for an outage on the others."""
    storage = MemoryStorage()

    class Away(Broker):
        async def publish(self, messages: Sequence[Message], /) -> Sequence[Exception | None]:
            if [message.id for message in messages] == ["a/1/act/1"]:
                return [ValueError("no topic for it")]
            return await super().publish(messages)

    await run(storage, "a", "b", "c")
    broker = Away()
    broker.down = ConnectionError("nobody there")
    relay = EventRelay(storage, publisher=broker, retry=AT_ONCE)
    for _ in range(4):
        await relay.deliver_due()
    assert [letter.message.id for letter in await relay.dead_letters()] == ["a/1/act/1"]
    broker.down = None
    await relay.deliver_due()
    assert broker.ids == ["b/1/act/1", "c/1/act/1"]


async def test_an_event_whose_relay_dies_each_time_is_tried_alone_and_is_then_a_dead_letter() -> None:
    """Those that were under way with it are none the worse for it."""
    clock = ManualClock()
    storage, broker = MemoryStorage(clock=clock), Broker()
    await run(storage, "a", "b", "c")
    relay = EventRelay(storage, publisher=broker, retry=Retry(attempts=2, delay=0))

    async def die(limit: int = 100) -> None:
        await storage.lease_events("broker", limit, 1)
        clock.advance(2)

    await die()
    await die()
    broker.down = SystemError("it would be killed here")
    await relay.deliver_due()
    assert [len(batch) for batch in broker.asked] == [1]
    await die(1)
    broker.down = None
    await relay.deliver_due()
    (dead,) = await relay.dead_letters()
    assert dead.message.id not in broker.ids
    assert len(broker.ids) == 2
    assert "it was under way 3 times, and nothing was heard of its relay again" in str(dead.error)


async def test_delivering_what_is_due_goes_on_behind_an_event_whose_relays_died() -> None:
    clock = ManualClock()
    storage, heard = MemoryStorage(clock=clock), list[str]()
    events = EventMap(publish=False).bind(Paid, lambda _: heard.append(current_message().saga_id))
    await run(storage, "a", events=events)
    for _ in range(2):
        await storage.lease_events(next(iter(events.targets)), 1, 1)
        clock.advance(2)
    await run(storage, "b", events=events)
    assert await EventRelay(storage, events=events, retry=Retry(attempts=1)).deliver_due() == 2
    assert heard == ["b"]


async def test_delivering_what_is_due_gets_to_all_that_it_tries_alone() -> None:
    """What waits meanwhile, and is leased and given back, uses up none of its tries."""
    clock = ManualClock()
    storage, broker = MemoryStorage(clock=clock), Broker()
    await run(storage, "a", "b", "c")
    await storage.lease_events("broker", 3, 1)  # by a relay that dies
    clock.advance(2)
    assert await EventRelay(storage, publisher=broker, retry=Retry(attempts=1)).deliver_due() == 3
    assert broker.ids == ["a/1/act/1", "b/1/act/1", "c/1/act/1"]


async def test_what_a_stopped_relay_did_not_get_to_counts_as_no_attempt() -> None:
    storage, begun = MemoryStorage(), anyio.Event()

    async def slow(_: Paid) -> None:
        begun.set()
        await anyio.sleep_forever()

    events = EventMap(publish=False).bind(Paid, slow)
    await run(storage, "a", events=events)
    async with running(EventRelay(storage, events=events)):
        await begun.wait()
    (destination,) = events.targets
    (again,) = await storage.lease_events(destination, 1, 0)
    assert again.attempts == 1


async def test_a_publisher_that_never_answers_is_left_after_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("anysaga.events._publishing.BROKER_TIME", 0.01)

    class Silent(Broker):
        async def publish(self, messages: Sequence[Message], /) -> Sequence[Exception | None]:
            await anyio.sleep_forever()
            return ()

    storage = MemoryStorage()
    await run(storage, "a")
    await EventRelay(storage, publisher=Silent()).deliver_due()
    (waiting,) = await storage.lease_events("broker", 1, 0)
    assert waiting.error == "TimeoutError"


async def test_without_a_publisher_the_brokers_events_are_left_to_another_relay(storage: Storage) -> None:
    await run(storage, "a")
    relay = EventRelay(storage, events=EventMap().bind(Charged, Note))  # type: ignore[arg-type]  # never called
    assert await relay.deliver_due() == 0
    assert (await relay.lag()).waiting == 1


# To handlers


class Ledger:
    """What handlers have done."""

    def __init__(self) -> None:
        self.done: list[tuple[str, int, str]] = []
        self.closed = 0


class Note(EventHandler[Paid]):
    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger

    async def handle(self, event: Paid) -> None:
        self.ledger.done.append(("note", event.number, current_message().id))


class NoteInThread(EventHandler[Paid]):
    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger

    def handle(self, event: Paid) -> None:
        assert threading.current_thread() is not threading.main_thread()
        self.ledger.done.append(("thread", event.number, current_message().id))


async def test_each_handler_of_a_type_gets_the_event_made_by_the_container() -> None:
    storage = MemoryStorage()
    ledger = Ledger()
    functions: list[Paid] = []
    events = EventMap(publish=False).bind(Paid, Note, NoteInThread, functions.append)
    await run(storage, "a", events=events)
    relay = EventRelay(storage, events=events, container={Ledger: lambda: ledger})
    assert await relay.deliver_due() == 3
    assert sorted(ledger.done) == [("note", 1, "a/1/act/1"), ("thread", 1, "a/1/act/1")]
    assert functions == [Paid(1)]


async def test_what_a_handler_returns_unawaited_is_awaited_before_its_event_counts_as_handled() -> None:
    class Unawaited(Note):
        async def handle(self, event: Paid) -> None:
            return super().handle(event)  # type: ignore[return-value]  # the forgotten `await`

    storage, ledger = MemoryStorage(), Ledger()
    events = EventMap(publish=False).bind(Paid, Unawaited)
    await run(storage, "a", events=events)
    await EventRelay(storage, events=events, container={Ledger: lambda: ledger}).deliver_due()
    assert ledger.done == [("note", 1, "a/1/act/1")]


async def test_a_scope_is_open_for_one_event_and_then_closed() -> None:
    storage = MemoryStorage()
    ledger = Ledger()

    class Container:
        @asynccontextmanager
        async def scope(self) -> AsyncIterator[Container]:
            yield self
            ledger.closed += 1

        async def get(self, wanted: type, /) -> object:
            return Note(ledger) if wanted is Note else ledger

    events = EventMap(publish=False).bind(Paid, Note)
    await run(storage, "a", "b", events=events)
    await EventRelay(storage, events=events, container=Container()).deliver_due()  # type: ignore[arg-type]  # as one
    assert (len(ledger.done), ledger.closed) == (2, 2)


@pytest.mark.parametrize("stopped_by", ["its time limit", "the relay"])
async def test_a_scope_is_closed_although_its_handler_was_stopped(stopped_by: str) -> None:
    """Closing may wait, as that of a connection does."""
    storage = MemoryStorage()
    ledger, began = Ledger(), anyio.Event()

    class Hangs(EventHandler[Paid]):
        async def handle(self, event: Paid) -> None:
            began.set()
            await anyio.sleep_forever()

    class Container:
        @asynccontextmanager
        async def scope(self) -> AsyncIterator[Container]:
            try:
                yield self
            finally:
                await anyio.lowlevel.checkpoint()
                ledger.closed += 1

        async def get(self, wanted: type, /) -> object:
            return Hangs()

    events = EventMap(publish=False).bind(Paid, Hangs)
    await run(storage, "a", events=events)
    limit = 0.01 if stopped_by == "its time limit" else 600.0
    relay = EventRelay(storage, events=events, container=Container(), handler_timeout=limit)  # type: ignore[arg-type]  # as one
    if stopped_by == "its time limit":
        await relay.deliver_due()
    else:
        async with running(relay):
            await began.wait()
    assert ledger.closed == 1


class Scopes:
    """A container that does in its scopes what it is told, and makes what needs nothing."""

    def __init__(self, scope: Callable[[], AbstractAsyncContextManager[None]]) -> None:
        self._scope = scope

    @asynccontextmanager
    async def scope(self) -> AsyncIterator[Scopes]:
        async with self._scope():
            yield self

    async def get(self, wanted: type[T], /) -> T:
        return wanted()


async def test_a_scope_hears_that_its_handler_failed() -> None:
    """Whoever keeps a transaction in it would commit it otherwise."""
    storage, seen = MemoryStorage(), list[Exception]()

    class Fails(EventHandler[Paid]):
        def handle(self, event: Paid) -> None:
            raise RuntimeError("no")

    @asynccontextmanager
    async def scope() -> AsyncIterator[None]:
        try:
            yield
        except Exception as error:
            seen.append(error)
            raise

    events = EventMap(publish=False).bind(Paid, Fails)
    await run(storage, "a", events=events)
    await EventRelay(storage, events=events, container=Scopes(scope)).deliver_due()
    assert [str(error) for error in seen] == ["no"]


@in_jumping_time
async def test_a_scope_that_does_not_end_closing_holds_up_its_relay_for_a_moment_only(
    caplog: pytest.LogCaptureFixture,
) -> None:
    storage, heard = MemoryStorage(), list[str]()

    class Hears(EventHandler[Paid]):
        async def handle(self, event: Paid) -> None:
            heard.append(current_message().saga_id)

    @asynccontextmanager
    async def scope() -> AsyncIterator[None]:
        yield
        await anyio.sleep_forever()

    events = EventMap(publish=False).bind(Paid, Hears)
    await run(storage, "a", "b", events=events)
    await EventRelay(storage, events=events, container=Scopes(scope), handler_timeout=600).deliver_due()
    assert heard == ["a", "b"]
    assert "the scope of a handler was not closed" in caplog.text


async def test_whatever_a_handler_raises_ends_no_relay() -> None:
    storage, heard = MemoryStorage(), list[str]()

    def handle(_: Paid) -> None:
        heard.append(current_message().saga_id)
        if heard[-1] == "a":
            raise Odd

    events = EventMap(publish=False).bind(Paid, handle)
    await run(storage, "a", "b", events=events)
    relay = EventRelay(storage, events=events)
    assert await relay.deliver_due() == 2
    assert heard == ["a", "b"]
    assert [letter.error for letter in await relay.dead_letters()] == ["Odd"]


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@pytest.mark.parametrize("destination", ["handler", "broker"])
def test_an_interrupt_ends_the_relay_and_is_no_failure_of_what_it_came_in(destination: str, backend: str) -> None:
    storage, broker = MemoryStorage(), Broker()
    broker.down = KeyboardInterrupt()

    async def handle(_: Paid) -> None:
        raise KeyboardInterrupt

    events = EventMap(publish=destination == "broker")
    if destination == "handler":
        events.bind(Paid, handle)
    relay = EventRelay(storage, events=events, publisher=broker)

    async def main() -> None:
        await run(storage, "a", events=events)
        await relay.deliver_due()

    with pytest.raises((KeyboardInterrupt, BaseExceptionGroup)):
        anyio.run(main, backend=backend)
    lag = anyio.run(relay.lag, backend=backend)
    assert (lag.waiting, lag.dead) == (1, 0)


async def test_a_handler_that_fails_gets_its_event_again_and_no_other_handler_does() -> None:
    storage = MemoryStorage()
    done: list[str] = []

    def flaky(_: Paid) -> None:
        done.append("flaky")
        if done.count("flaky") < 3:
            raise RuntimeError("not yet")

    def steady(_: Paid) -> None:
        done.append("steady")

    events = EventMap(publish=False).bind(Paid, flaky, steady)
    await run(storage, "a", events=events)
    relay = EventRelay(storage, events=events, retry=AT_ONCE)
    await relay.deliver_due()
    assert (done.count("flaky"), done.count("steady")) == (3, 1)
    assert await relay.dead_letters() == []


async def test_a_handler_that_hangs_is_stopped_and_counts_as_failed() -> None:
    storage = MemoryStorage()

    async def hangs(_: Paid) -> None:
        await anyio.sleep_forever()

    events = EventMap(publish=False).bind(Paid, hangs)
    await run(storage, "a", events=events)
    relay = EventRelay(storage, events=events, handler_timeout=0.01, retry=Retry(attempts=1))
    await relay.deliver_due()
    (dead,) = await relay.dead_letters()
    assert dead.error == "TimeoutError"


@pytest.mark.parametrize(("limit", "concurrent", "most"), [(1, True, 1), (3, True, 3), (3, False, 1)])
async def test_so_many_handlers_run_at_once_as_the_limit_says(limit: int, *, concurrent: bool, most: int) -> None:
    storage = MemoryStorage()
    at_work = seen = done = 0
    all_done = anyio.Event()

    async def handle(_: Paid) -> None:
        nonlocal at_work, seen, done
        at_work += 1
        seen = max(seen, at_work)
        for _turn in range(5):
            await anyio.lowlevel.checkpoint()
        at_work -= 1
        done += 1
        if done == 12:
            all_done.set()

    async def other(event: Paid) -> None:
        await handle(event)

    events = EventMap(publish=False).bind(Paid, handle, other)
    await run(storage, *"abcdef", events=events)
    async with running(EventRelay(storage, events=events, max_concurrent=limit, concurrent=concurrent)):
        await all_done.wait()
    assert seen == most


async def test_as_many_plain_functions_run_at_once_as_the_limit_says() -> None:
    """None of them waits for a thread, which would use up its time."""
    storage, number = MemoryStorage(), 50
    all_there = threading.Barrier(number, timeout=60)
    events = EventMap(publish=False).bind(Paid, lambda _: all_there.wait())
    await run(storage, *(f"s{each}" for each in range(number)), events=events)
    relay = EventRelay(storage, events=events, max_concurrent=number)
    assert await relay.deliver_due() == number
    assert (await relay.lag()).waiting == 0


async def test_what_a_handler_says_of_a_secret_is_blotted_out(caplog: pytest.LogCaptureFixture) -> None:
    storage = MemoryStorage()

    def fails(event: Charged) -> None:
        raise RuntimeError(f"{event.card} was refused")

    events = EventMap(publish=False).bind(Charged, fails)
    await run(storage, "a", step=Charge, events=events)
    relay = EventRelay(storage, events=events, retry=Retry(attempts=1))
    await relay.deliver_due()
    (dead,) = await relay.dead_letters()
    assert dead.error == "RuntimeError: *** was refused"
    assert "4711" not in caplog.text


async def test_an_event_of_a_name_that_is_bound_no_more_is_a_dead_letter_that_says_so() -> None:
    storage = MemoryStorage()
    await run(storage, "a", events=EventMap(publish=False).bind(Paid, Note, name="old"))
    relay = EventRelay(storage, events=EventMap().bind(Paid, Note, name="new"), retry=Retry(attempts=1))
    await relay.deliver_due()
    (dead,) = await relay.dead_letters()
    assert dead.error is not None
    assert "not bound to events of this name" in dead.error


# Running in the background


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


def test_the_source_of_an_envelope_is_a_uri() -> None:
    """A name may have characters that a URI has not, and receivers refuse what is none."""
    message = Message("1", "paid", "{}", 0, "1", "Bücher & more/2", "Pay")
    envelope = json.loads(message.to_json())
    assert (envelope["source"], envelope["saga"]) == ("/sagas/B%C3%BCcher%20%26%20more%2F2", "Bücher & more/2")


def test_an_envelope_is_json_whatever_its_names_are() -> None:
    message = Message('"o"/1/act/1', 'the "type"', "{}", 0, '"o"', 'an "order"', 'P\\y"')
    envelope = json.loads(message.to_json())
    assert (envelope["id"], envelope["type"], envelope["subject"]) == (message.id, message.type, message.saga_id)
    assert (envelope["saga"], envelope["sagaid"], envelope["step"]) == (message.saga, message.saga_id, message.step)


async def test_a_publisher_is_open_for_as_long_as_its_block() -> None:
    life: list[str] = []

    class Living(Broker):
        async def open(self) -> None:
            life.append("open")

        async def aclose(self) -> None:
            life.append("closed")

    async with Living():
        assert life == ["open"]
    assert life == ["open", "closed"]


def test_the_envelope_is_a_cloud_event() -> None:
    message = Message("o/1/act/1", "order.paid", '{"number":1}', 1_700_000_000_000_001, "o", "order", "Pay")
    assert message.to_json().decode() == (
        '{"specversion":"1.0","id":"o/1/act/1","source":"/sagas/order","type":"order.paid","subject":"o",'
        '"time":"2023-11-14T22:13:20.000001Z","saga":"order","sagaid":"o","step":"Pay",'
        '"datacontenttype":"application/json","data":{"number":1}}'
    )
