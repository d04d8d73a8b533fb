"""The contracts of events on their way: what an outbox keeps, and what a publisher is given."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime, timedelta
from json.encoder import encode_basestring as _quoted
from typing import Self
from urllib.parse import quote

from attrs import field

from anysaga._errors import InvalidArgument
from anysaga._records import frozen

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@frozen
class Message:
    """An event as it leaves for a handler or a broker.

    `id` is the same each time it is sent: receivers tell by it that they know it already. `type` is the event's name,
    `data` its fields as JSON text. `at` is the moment of the commit, in microseconds UTC by the store's clock. `step`
    is the name of the step that recorded it.
    """

    id: str
    type: str
    data: str = field(repr=False)  # it may hold what is secret
    at: int
    saga_id: str
    saga: str
    step: str

    @property
    def time(self) -> datetime:
        """The moment of the commit that made the event a fact."""
        return _EPOCH + timedelta(microseconds=self.at)

    def to_json(self) -> bytes:
        """The envelope that brokers get: a CloudEvent 1.0 in JSON, with `saga`, `sagaid` and `step` as extensions.

        See https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/formats/json-format.md. Its media type is
        ``application/cloudevents+json``.
        """
        text = (
            f'{{"specversion":"1.0","id":{_quoted(self.id)},"source":"/sagas/{quote(self.saga, safe="")}",'
            f'"type":{_quoted(self.type)},"subject":{_quoted(self.saga_id)},"time":"{self.time.isoformat()[:-6]}Z",'
            f'"saga":{_quoted(self.saga)},"sagaid":{_quoted(self.saga_id)},"step":{_quoted(self.step)},'
            f'"datacontenttype":"application/json","data":{self.data}}}'
        )
        return text.encode()


@frozen
class Delivery:
    """A message on its way to one destination, leased to one relay.

    `position` orders the events of a saga. `attempts` counts how often it was tried, this time included. `lease` is
    what tells this lease from a later one of the same message. `error` is why the last attempt failed.
    """

    message: Message
    destination: str
    position: int
    attempts: int
    lease: int
    error: str | None = None


@frozen
class Settlement:
    """What became of a delivery: delivered (`error` is None), due again in `wait` seconds, or (None) a dead letter.

    One that is due again although nothing was learnt of it (its relay was stopped, the broker is away) `counts` not as
    an attempt.
    """

    delivery: Delivery
    error: str | None = None
    wait: float | None = None
    counts: bool = True


@frozen
class OutboxLag:
    """How far the deliveries are behind. `oldest` is the age in seconds of the oldest one that is no dead letter."""

    waiting: int
    dead: int
    oldest: float


class Outbox(ABC):
    """Keeps events until they are delivered. Every verb is one transaction.

    An event enters it in the commit that made it a fact (`Entry.events`), once for each of its destinations; one that
    is `held` enters it too, and is due, or dropped, with the write that ends its saga (`Write.frees_held`). Events of
    one saga go to one destination in their order: while one is there, leased, waiting or dead, no later one is leased.
    """

    @abstractmethod
    async def lease_events(self, destination: str, limit: int, seconds: float) -> list[Delivery]:
        """Take up to `limit` deliveries that are due, the longest due first; at most one of each saga.

        Nobody else is given them for `seconds`. Each counts as an attempt, unless its settlement says otherwise: so one
        whose relay dies each time is told by its `attempts`.
        """

    @abstractmethod
    async def settle_events(self, settlements: Iterable[Settlement]) -> None:
        """Say what became of deliveries. One whose lease is over and was given to another relay is left as it is."""

    @abstractmethod
    async def dead_letters(self, *, limit: int = 100, after: Delivery | None = None) -> list[Delivery]:
        """List what is not tried again, ordered by saga and destination, beginning `after` the one given."""

    @abstractmethod
    async def send_again(self, delivery: Delivery) -> bool:
        """Have a dead letter sent again, from its first attempt. False: it is no dead letter any more."""

    @abstractmethod
    async def skip_event(self, delivery: Delivery) -> bool:
        """Give a dead letter up, so that later events of its saga go on. False: it is no dead letter any more."""

    @abstractmethod
    async def outbox_lag(self) -> OutboxLag:
        """Count what waits, held events excepted."""

    def watch_events(self, watcher: Callable[[], None]) -> Callable[[], None]:
        """Have `watcher` called, from any thread, whenever events entered through this object. Returns how to stop it.

        A store that cannot tell leaves this as it is: its relays look at their interval.
        """
        del watcher
        return lambda: None


class Publisher(ABC):
    """Sends messages to a broker. Open it with ``async with``; a `SagaMediator` does that for the one it is given.

    It may be used on asyncio and on Trio, in one event loop at a time.
    """

    @abstractmethod
    async def publish(self, messages: Sequence[Message], /) -> Sequence[Exception | None]:
        """Send messages, and return once the broker has confirmed each of them, or not.

        Returns, in the order of `messages`, None for one that was confirmed, else why it was not. Raises if nothing is
        known of any of them, as when the broker is away: that is waited out, for as long as it takes, while what was
        refused so many times is a dead letter. If it raises for some messages and not for others, those are found, and
        count as refused. No two of them are of one saga, so they may be sent in any order. What is not confirmed is
        sent again later, with the same id.
        """

    async def open(self) -> None:
        """Connect. What fails here may be tried again."""

    async def aclose(self) -> None:
        """Disconnect. Safe to call twice."""

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.aclose()


def check_publisher(given: object) -> None:
    """Raise `InvalidArgument` for what is no `Publisher`, and not None."""
    if given is not None and not isinstance(given, Publisher):
        raise InvalidArgument("publisher", given, "give a Publisher, such as KafkaPublisher(servers, topic)")
