"""Real brokers behind a network that fails on demand, and consumers that share nothing with the publishers."""

from __future__ import annotations

import struct
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from uuid import uuid4

import aio_pika
from aio_pika.abc import AbstractIncomingMessage, AbstractQueue
from anyio.from_thread import BlockingPortal, start_blocking_portal
from attrs import frozen
from confluent_kafka import Consumer, Producer, TopicPartition
from tcp_proxy import TcpProxy
from yarl import URL

from anysaga.abc import Message, Publisher
from anysaga.events.publishers import AioKafkaPublisher, KafkaPublisher, RabbitMQPublisher

Address = str | Callable[[Message], str]

SECONDS = 30.0
"""How long a consumer waits for what must be there."""


def message(number: int = 0, type: str = "OrderPlaced", data: str = '{"total":1}') -> Message:  # noqa: A002
    return Message(
        id=f"order-{number}/1/act/1",
        type=type,
        data=data,
        at=1_763_700_000_123_456,
        saga_id=f"order-{number}",
        saga="order",
        step="PlaceOrder",
    )


@frozen
class Received:
    """What a consumer got, in words that brokers share."""

    key: str
    body: bytes
    id: str
    type: str
    content_type: str


def as_received(message: Message, key: str) -> Received:
    return Received(key, message.to_json(), message.id, message.type, "application/cloudevents+json")


class Broker(ABC):
    """One place at a broker that a test has for itself, and the proxy on the way to it."""

    def __init__(self, proxy: TcpProxy) -> None:
        self.proxy = proxy
        self.place = f"anysaga-{uuid4().hex}"

    @abstractmethod
    def publisher(self, address: Address | None = None, *, timeout: float = SECONDS) -> Publisher:
        """Make a publisher that goes through the proxy, to the place unless `address` says otherwise."""

    @abstractmethod
    def received(self, count: int) -> list[Received]:
        """Wait for so many messages, whatever way they came; in the order of their ids. Copies count once."""

    @abstractmethod
    def address(self, message: Message) -> str:
        """Where in the broker a message goes, as a publisher is told."""

    @property
    @abstractmethod
    def arguments(self) -> list[str]:
        """What a publisher is made from, in words, in a process that knows nothing of the proxy's owner."""

    @abstractmethod
    def key(self, message: Message) -> str:
        """What a message is routed or partitioned by."""

    @abstractmethod
    def refused(self) -> Message:
        """Make a message that the broker, or its client, does not take."""


class RabbitMQ(Broker):
    def __init__(self, portal: BlockingPortal, connection: aio_pika.abc.AbstractConnection, proxy: TcpProxy, url: URL):
        super().__init__(proxy)
        self.portal = portal
        self.url = str(url.with_host("127.0.0.1").with_port(proxy.port))
        self.connection = connection

    def publisher(self, address: Address | None = None, *, timeout: float = SECONDS) -> RabbitMQPublisher:
        return RabbitMQPublisher(self.url, self.place, address or self.key, timeout=timeout)

    def received(self, count: int) -> list[Received]:
        found = (
            Received(str(each.routing_key), each.body, str(each.message_id), str(each.type), str(each.content_type))
            for each in self.portal.call(self._received, count)
        )
        return sorted(found, key=lambda each: each.id)

    @property
    def arguments(self) -> list[str]:
        return [self.url, self.place]

    def key(self, message: Message) -> str:
        return message.type

    address = key

    def refused(self) -> Message:
        return message(99, type="NobodyWants")

    def raw(self, count: int) -> list[AbstractIncomingMessage]:
        return self.portal.call(self._received, count)

    async def prepare(self) -> None:
        """Declare an exchange, and a queue for its orders."""
        self.channel = await self.connection.channel()
        self.exchange = await self.channel.declare_exchange(self.place, "topic", durable=True)
        self.queue: AbstractQueue = await self.channel.declare_queue(
            self.place, arguments={"x-expires": 120_000}, durable=True
        )
        await self.queue.bind(self.exchange, "OrderPlaced")

    async def remove(self) -> None:
        await self.queue.delete(if_unused=False, if_empty=False)
        await self.channel.exchange_delete(self.place)
        await self.channel.close()

    async def _received(self, count: int) -> list[AbstractIncomingMessage]:
        found: dict[str | None, AbstractIncomingMessage] = {}
        async with self.queue.iterator(timeout=SECONDS, no_ack=True) as waiting:
            async for each in waiting:
                found[each.message_id] = each
                if len(found) == count:
                    break
        return list(found.values())


class Kafka(Broker):
    def __init__(self, server: str, proxy: TcpProxy) -> None:
        super().__init__(proxy)
        self.server = server
        self.servers = f"127.0.0.1:{proxy.port}"

    def publisher(self, address: Address | None = None, *, timeout: float = SECONDS) -> Publisher:
        return KafkaPublisher(
            self.servers, address or self.place, timeout=timeout, config={"reconnect.backoff.max.ms": 100}
        )

    def received(self, count: int) -> list[Received]:
        found: dict[str, Received] = {}
        for each in self.raw(count):
            said = {name: value.decode() for name, value in each.headers()}
            found[said["id"]] = Received(
                each.key().decode(), each.value(), said["id"], said["type"], said["content-type"]
            )
        return sorted(found.values(), key=lambda each: each.id)

    def raw(self, count: int) -> list[Any]:
        """Read until there are messages of so many ids."""
        consumer = Consumer({"bootstrap.servers": self.server, "group.id": "tests", "enable.auto.commit": False})
        try:
            partitions = consumer.list_topics(self.place, timeout=SECONDS).topics[self.place].partitions
            consumer.assign([TopicPartition(self.place, partition, 0) for partition in partitions])
            found: list[Any] = []
            while len({dict(each.headers())["id"] for each in found}) < count:
                each = consumer.poll(SECONDS)
                assert each is not None, f"{count} messages were expected, and only {len(found)} came"
                assert each.error() is None
                found.append(each)
            return found
        finally:
            consumer.close()

    @property
    def arguments(self) -> list[str]:
        return [self.servers, self.place]

    def key(self, message: Message) -> str:
        return message.saga_id

    def address(self, message: Message) -> str:
        return self.place

    def refused(self) -> Message:
        return message(99, data=f'"{"x" * 2_000_000}"')


class AioKafka(Kafka):
    def publisher(self, address: Address | None = None, *, timeout: float = SECONDS) -> Publisher:
        return AioKafkaPublisher(self.servers, address or self.place, timeout=timeout)


@contextmanager
def rabbitmq(address: str) -> Iterator[RabbitMQ]:
    """Give a place at a RabbitMQ server."""
    url = URL(address)
    with (
        start_blocking_portal("asyncio") as portal,
        TcpProxy((url.host or "localhost", url.port or 5672)) as proxy,
    ):
        broker = RabbitMQ(portal, portal.call(aio_pika.connect, url), proxy, url)
        try:
            portal.call(broker.prepare)
            yield broker
            portal.call(broker.remove)
        finally:
            portal.call(broker.connection.close)


@contextmanager
def kafka_cluster() -> Iterator[int]:
    """Start librdkafka's mock of a Kafka cluster with one broker, and give its port."""
    cluster = Producer({"test.mock.num.brokers": 1, "log_level": 0})
    (node,) = cluster.list_topics(timeout=SECONDS).brokers.values()
    yield node.port
    cluster.flush(0)


@contextmanager
def kafka(kind: type[Kafka], port: int) -> Iterator[Kafka]:
    """Give a topic of that cluster. The broker says where it is, so the proxy has to say that it is the broker."""
    with TcpProxy(("127.0.0.1", port)) as proxy:
        proxy.replace[_place(port)] = _place(proxy.port)
        yield kind(f"127.0.0.1:{port}", proxy)


def _place(port: int) -> bytes:
    return b"127.0.0.1" + struct.pack(">i", port)
