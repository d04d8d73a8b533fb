"""The relay and the broker: at least once, in order for each saga, whatever fails."""

from __future__ import annotations

from collections.abc import Sequence

import anyio
import pytest
from paid_orders import Paid
from relays import AT_ONCE, Broker, Charged, Note, Odd, Twice, run, running

from anysaga import EventMap, MemoryStorage, Retry
from anysaga.abc import Delivery, Message, Publisher, Storage
from anysaga.events import EventRelay, current_message
from anysaga.storages._clock import ManualClock

pytestmark = pytest.mark.anyio


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
