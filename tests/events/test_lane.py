"""What a lane does with its lease."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import anyio
import pytest
from attrs import define
from paid_orders import Order, Paid

from anysaga import EventMap, MemoryStorage, Saga, Step, current_step
from anysaga._wiring import container_of
from anysaga.abc import Delivery, Message, Publisher, Settlement
from anysaga.events import EventRelay, current_message
from anysaga.events._handling import _CLOSING, Handling
from anysaga.events._lane import Results
from anysaga.events._publishing import BROKER_TIME, Publishing
from anysaga.storages._clock import ManualClock

pytestmark = pytest.mark.anyio


@define
class Sent:
    number: int


class Pay(Step[Order]):
    read_only = True

    async def act(self, order: Order) -> None:
        current_step().record(Paid(order.number))
        current_step().record(Sent(order.number))
        current_step().record(Sent(order.number + 1))


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> ManualClock:
    """The time of the store and of the relays."""
    clock = ManualClock()
    for module in ("_handling", "_lane", "_publishing"):
        monkeypatch.setattr(f"anysaga.events.{module}.current_time", clock.monotonic)
    return clock


async def test_an_event_whose_lease_is_over_is_left_to_whoever_has_it(clock: ManualClock) -> None:
    """It waited for a handler that took long: meanwhile another relay had it, and the later ones of its saga."""
    storage, heard = MemoryStorage(clock=clock), list[str]()
    begun, leased = anyio.Event(), anyio.Event()

    async def slow(_: Paid) -> None:
        begun.set()
        await leased.wait()
        clock.advance(1000)
        await EventRelay(storage, events=EventMap().bind(Sent, quick)).deliver_due()
        relay.drain()

    async def quick(_: Sent) -> None:
        heard.append(current_message().id)

    class AfterTheOther(MemoryStorage):
        async def lease_events(self, destination: str, limit: int, seconds: float) -> list[Delivery]:
            if destination.endswith("quick"):
                await begun.wait()
            deliveries = await storage.lease_events(destination, limit, seconds)
            if destination.endswith("quick"):
                leased.set()
            return deliveries

        async def settle_events(self, settlements: Iterable[Settlement]) -> None:
            await storage.settle_events(settlements)

    events = EventMap(publish=False).bind(Paid, slow).bind(Sent, quick)
    await Saga[Order](name="order", storage=storage, steps=[Pay], events=events).run(Order(), saga_id="a")
    relay = EventRelay(AfterTheOther(), events=events)
    await relay.run()
    assert heard == ["a/1/act/2", "a/1/act/3"]


async def test_a_batch_whose_lease_is_over_is_not_published(clock: ManualClock) -> None:
    """The process was stopped between the lease and the publisher."""
    given: list[str] = []

    class Broker(Publisher):
        async def publish(self, messages: Sequence[Message], /) -> list[Exception | None]:
            given.extend(message.id for message in messages)
            return [None] * len(messages)

    class Stopped(MemoryStorage):
        async def lease_events(self, destination: str, limit: int, seconds: float) -> list[Delivery]:
            deliveries = await super().lease_events(destination, limit, seconds)
            clock.advance(31)
            await EventRelay(storage, publisher=Broker()).deliver_due()
            return deliveries

    storage = MemoryStorage(clock=clock)
    await Saga[Order](name="order", storage=storage, steps=[Pay]).run(Order(), saga_id="a")
    stopped = Stopped(clock=clock)
    stopped._shelf = storage._shelf
    await EventRelay(stopped, publisher=Broker()).deliver_due()
    assert given == ["a/1/act/1", "a/1/act/2", "a/1/act/3"]


async def test_nothing_is_begun_that_could_be_under_way_when_its_lease_is_over(clock: ManualClock) -> None:
    """Neither by a handler, whose scope may take its time, too, nor by a publisher."""
    storage, begun = MemoryStorage(clock=clock), list[str]()
    events = EventMap().bind(Paid, lambda _: begun.append("handle_all"))
    ((destination, target),) = events.targets.items()
    await Saga[Order](name="order", storage=storage, steps=[Pay], events=events).run(Order())

    class Broker(Publisher):
        async def publish(self, messages: Sequence[Message], /) -> list[Exception | None]:
            begun.append("publish_all")
            return [None] * len(messages)

    handling = Handling(target, container_of(None), 30.0, anyio.CapacityLimiter(1), anyio.CapacityLimiter(1))
    ways = [
        (handling.handle_all, await storage.lease_events(destination, 1, 0), 30.0 + _CLOSING),
        (Publishing(Broker()).publish_all, await storage.lease_events("broker", 1, 0), BROKER_TIME),
    ]
    for send, deliveries, longest in ways:
        results: Results = {}
        await send(deliveries, results, clock.monotonic() + longest - 0.1)
        assert (begun, results) == ([], {})
        await send(deliveries, results, clock.monotonic() + longest)
        assert (begun.pop(), list(results)) == (send.__name__, deliveries)
