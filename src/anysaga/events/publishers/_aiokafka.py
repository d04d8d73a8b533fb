"""Kafka, by the package aiokafka."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine, Iterable, Sequence
from inspect import signature
from typing import Any

from attrs import define

from anysaga._errors import InvalidArgument, MissingPackage
from anysaga.abc import Message
from anysaga.events.publishers._hosted import HostedPublisher
from anysaga.events.publishers._kafka_records import headers, key, label, servers
from anysaga.events.publishers._parcels import Parcel, Said, reason

try:
    from aiokafka import AIOKafkaProducer  # type: ignore[import-untyped]
    from aiokafka.errors import (  # type: ignore[import-untyped]
        KafkaConnectionError,
        KafkaError,
        KafkaTimeoutError,
        MessageSizeTooLargeError,
        NodeNotReadyError,
        RequestTimedOutError,
    )
except ImportError as error:
    raise MissingPackage("aiokafka", "kafka") from error

_SILENCE = (KafkaConnectionError, KafkaTimeoutError, NodeNotReadyError, RequestTimedOutError)


@define(eq=False)
class _Line:
    """A producer, and whether it failed in a way that it may not recover from."""

    producer: Any
    has_failed: bool = False

    def judged(self, error: Exception) -> Exception:
        """Note what an error says of the producer. One that is too large says nothing."""
        if isinstance(error, KafkaError) and not isinstance(error, MessageSizeTooLargeError):
            self.has_failed = True
        return error


class AioKafkaPublisher(HostedPublisher[_Line]):
    """Publishes to Kafka by aiokafka, which is written in Python. `KafkaPublisher` is the faster one.

    `topic` is one topic, or a function of the `Message`. The key is the saga's id. All in-sync replicas confirm. Each
    publish ends within `timeout` seconds. A connection is made when there is something to publish. Other `options` are
    those of `AIOKafkaProducer` (``security_protocol``, ``ssl_context``, ``compression_type``).

        AioKafkaPublisher("broker:9092", "orders")

    aiokafka's idempotence is off: with it a message is never given up, and one that a broker refuses blocks its
    partition.

    Works on asyncio and Trio. Raises `InvalidArgument` for options that cannot work, and `MissingPackage`, when it is
    imported, without the package aiokafka.
    """

    def __init__(
        self,
        bootstrap_servers: str | Iterable[str],
        topic: str | Callable[[Message], str],
        *,
        timeout: float = 15.0,
        **options: Any,
    ) -> None:
        brokers = servers(bootstrap_servers)
        try:
            signature(AIOKafkaProducer).bind(**options)
        except TypeError as error:
            raise InvalidArgument("options", sorted(options), reason(error)) from error
        super().__init__(label(brokers), topic, timeout)
        self._options = {
            "bootstrap_servers": brokers,
            "acks": "all",
            "request_timeout_ms": max(1, round(timeout * 1000)),
        } | options

    async def _connect(self) -> _Line:
        producer = AIOKafkaProducer(**self._options)
        try:
            await producer.start()
        except BaseException:
            self._leave(producer.stop())
            raise
        return _Line(producer)

    async def _disconnect(self, client: _Line) -> None:
        await client.producer.stop()

    def _is_usable(self, client: _Line) -> bool:
        return not client.has_failed

    def _work(self, client: _Line, parcels: Sequence[Parcel], said: Said) -> Iterable[Coroutine[Any, Any, None]]:
        """Topic by topic, since nothing can be sent before a topic is known, and one may never be."""
        topics: dict[str, list[Parcel]] = {}
        for parcel in parcels:
            topics.setdefault(parcel.address, []).append(parcel)
        return [self._send(client, of_topic, said) for of_topic in topics.values()]

    def _is_silence(self, error: Exception) -> bool:
        return isinstance(error, _SILENCE)

    async def _send(self, client: _Line, parcels: Sequence[Parcel], said: Said) -> None:
        sent: list[tuple[int, Awaitable[object]]] = []
        for parcel in parcels:
            message = parcel.message
            try:
                sending = await client.producer.send(
                    parcel.address, parcel.body, key=key(message), headers=headers(message)
                )
            except Exception as error:  # noqa: BLE001 - whatever it is, it is the answer
                said[parcel.index] = client.judged(error)
            else:
                sent.append((parcel.index, sending))
        for index, sending in sent:
            try:
                await sending
                said[index] = None
            except Exception as error:  # noqa: BLE001 - as above
                said[index] = client.judged(error)
