"""The relay: takes events out of the outbox, to handlers and to the broker."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from itertools import chain

from anyio import CapacityLimiter, create_task_group

from anysaga._arguments import check_counts, check_seconds
from anysaga._crossing_threads import in_own_loop
from anysaga._errors import InvalidArgument, StorageClosed
from anysaga._event_map import BROKER, EventMap, Target, check_map
from anysaga._outbox import Delivery, Outbox, OutboxLag, Publisher, check_publisher
from anysaga._retry import Retry
from anysaga._wiring import GivenContainer, container_of
from anysaga.abc import Storage

from ._handling import Handling
from ._lane import DeliveryLane, Send
from ._publishing import BROKER_TIME, Publishing

DEFAULT_RETRY = Retry(attempts=10, delay=1.0, backoff=2.0, max_delay=300.0, jitter=0.1)

_MOST_AT_ONCE = 200
_MARGIN = 10.0
_LONGEST = 7 * 86_400.0


class EventRelay:
    """Delivers the events of sagas, at least once each, in the order of each saga: to handlers, and to the broker.

    Run as many relays as you like on one storage, beside the sagas or in processes of their own: an event is leased to
    one of them at a time. What fails comes again as `retry` says, and is a dead letter in the end; until somebody sends
    it again, or skips it, later events of its saga to the same destination wait. None of that touches the saga. A
    broker that is away is waited for, and that counts against no event.

    `events` says which handlers there are, `publisher` sends what goes to the broker; without one, that is left to
    another relay. `container` makes handlers, in a scope of their own for each event.

    `max_concurrent` is how many handlers run at once, all types together; with ``concurrent=False`` it is one after the
    other. `handler_timeout` is how many seconds a handler may take; it counts as failed then. `poll` is how many
    seconds pass between two looks if nobody says that there is something; events of this process are seen at once.

        async with SQLAlchemyStorage(url) as storage, KafkaPublisher(servers, topic="orders") as publisher:
            await EventRelay(storage, events=events, publisher=publisher, container=services).run()

    Raises `InvalidArgument` for a storage that keeps no events, and for what cannot work.
    """

    def __init__(
        self,
        storage: Storage,
        *,
        events: EventMap | Iterable[EventMap] = (),
        publisher: Publisher | None = None,
        container: GivenContainer | None = None,
        max_concurrent: int = 1,
        concurrent: bool = True,
        handler_timeout: float = 30.0,
        retry: Retry = DEFAULT_RETRY,
        poll: float = 1.0,
    ) -> None:
        if not isinstance(storage, Outbox):
            raise InvalidArgument("storage", storage, "it keeps no events: use SQLAlchemyStorage, or implement Outbox")
        check_publisher(publisher)
        check_counts(max_concurrent=max_concurrent)
        check_seconds(handler_timeout=handler_timeout, poll=poll)
        if handler_timeout > _LONGEST:
            raise InvalidArgument("handler_timeout", handler_timeout, "an event is kept for a dead relay for as long")
        if not isinstance(retry, Retry):
            raise InvalidArgument("retry", retry, "give a Retry, such as `Retry(attempts=10)`")
        self._outbox: Outbox = storage
        self._targets = _targets(_maps(events))
        if publisher is None and not self._targets:
            raise InvalidArgument("events", events, "there is nothing to deliver to: give handlers, or a publisher")
        self._publisher = publisher
        self._container = container_of(container)
        self._max_concurrent = max_concurrent if concurrent else 1
        self._handler_timeout = handler_timeout
        self._retry = retry
        self._poll = poll
        self._running: list[DeliveryLane] = []
        self._drains = False

    async def run(self) -> None:
        """Deliver events until `drain` is called, or this is cancelled: what is under way then is given back.

        Raises `StorageClosed` if the storage was closed. Other errors of the store, and of brokers, are waited out.
        """
        lanes, closed = self._lanes(), list[StorageClosed]()
        self._running = [*self._running, *lanes]  # it may run already, here or in another task
        if self._drains:  # it may be told before it begins
            self.drain()
        stop_watching = self._outbox.watch_events(in_own_loop(partial(_wake, lanes)))
        try:
            async with create_task_group() as group:
                for lane in lanes:
                    group.start_soon(_serve, lane, closed, group.cancel_scope.cancel)
        finally:
            stop_watching()
            self._running = [lane for lane in self._running if lane not in lanes]
            self._drains = self._drains and bool(self._running)
        if closed:
            raise closed[0]  # not from inside, where the task group would wrap it

    def drain(self) -> None:
        """Take up nothing more, let what is under way end, and have `run` return, also one that is about to begin."""
        self._drains = True
        for lane in self._running:
            lane.drain()

    async def deliver_due(self) -> int:
        """Try everything that is due once, and return how many deliveries that were. For jobs, tests and shutdowns.

        It ends also if new events come faster than they are delivered: it tries as often as what waited at first may be
        tried. A broker that is away is asked once, and what it was to get is not counted. Raises `StorageError`.
        """
        lanes, delivered, found = self._lanes(), 0, True
        most = (await self._outbox.outbox_lag()).waiting * self._retry.attempts
        while found and delivered < most:
            found = False
            for lane in tuple(lanes):
                number = await lane.deliver()
                if number is None:
                    lanes.remove(lane)
                    continue
                delivered += number
                found = found or number > 0
        return delivered

    async def lag(self) -> OutboxLag:
        """How far the deliveries are behind, all destinations together."""
        return await self._outbox.outbox_lag()

    async def dead_letters(self, *, limit: int = 100, after: Delivery | None = None) -> list[Delivery]:
        """List dead letters, ordered by saga and destination, beginning `after` the one given."""
        return await self._outbox.dead_letters(limit=limit, after=after)

    async def send_again(self, delivery: Delivery) -> bool:
        """Have a dead letter sent again, from its first attempt. False: it is no dead letter any more."""
        return await self._outbox.send_again(delivery)

    async def skip(self, delivery: Delivery) -> bool:
        """Give a dead letter up, so that later events of its saga go on. False: it is no dead letter any more."""
        return await self._outbox.skip_event(delivery)

    def _lanes(self) -> list[DeliveryLane]:
        """One for each destination. Made for each run, since limits belong to the loop they are made in."""
        limit, threads = CapacityLimiter(self._max_concurrent), CapacityLimiter(self._max_concurrent)
        # All lanes lease as much as is handled at once: that is done in as many turns as there are lanes, at worst.
        lease = self._handler_timeout * (len(self._targets) + 1) + _MARGIN
        lanes: list[DeliveryLane] = []
        for destination, target in self._targets.items():
            handling = Handling(target, self._container, self._handler_timeout, limit, threads)
            lanes.append(self._lane(destination, handling.handle_all, self._max_concurrent, lease))
        if self._publisher is not None:
            lanes.append(
                self._lane(BROKER, Publishing(self._publisher).publish_all, _MOST_AT_ONCE, BROKER_TIME + _MARGIN)
            )
        return lanes

    def _lane(self, destination: str, send: Send, batch: int, lease: float) -> DeliveryLane:
        return DeliveryLane(self._outbox, destination, send, batch, lease, self._retry, self._poll)


def _targets(maps: Iterable[EventMap]) -> dict[str, Target]:
    """The handlers of several maps by destination. Raises `InvalidArgument` if two are called the same."""
    targets: dict[str, Target] = {}
    for destination, target in chain.from_iterable(events.targets.items() for events in maps):
        known = targets.setdefault(destination, Target(target.handler, {}))
        if known.handler != target.handler:
            raise InvalidArgument("events", target.handler, f"another handler is called {destination!r}: rename one")
        known.types.update(target.types)
    return targets


def _maps(events: EventMap | Iterable[EventMap]) -> list[EventMap]:
    """The maps that were given, one or several. Raises `InvalidArgument` for anything else."""
    return [check_map(each) for each in events] if isinstance(events, Iterable) else [check_map(events)]


async def _serve(lane: DeliveryLane, closed: list[StorageClosed], stop: Callable[[], None]) -> None:
    try:
        await lane.run()
    except StorageClosed as error:
        closed.append(error)
        stop()


def _wake(lanes: Sequence[DeliveryLane]) -> None:
    for lane in lanes:
        lane.wake()
