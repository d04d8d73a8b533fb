"""RabbitMQ, by the package aio-pika."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable, Sequence
from hashlib import sha256
from typing import Any

from attrs import define, field

from anysaga._errors import InvalidArgument, MissingPackage, PublishFailed
from anysaga.abc import Message
from anysaga.events.publishers._hosted import HostedPublisher, now
from anysaga.events.publishers._parcels import Parcel, Said, caused

try:
    import aio_pika
    from aio_pika import abc as pika
    from aio_pika.exceptions import ChannelClosed, ChannelInvalidStateError, DeliveryError, PublishError
    from yarl import URL
except ImportError as error:
    raise MissingPackage("aio-pika", "rabbitmq") from error


_MOST_BYTES = 255
"""What a property of a message may have."""


def _event_type(message: Message) -> str:
    return message.type


@define(eq=False)
class _Line:
    """A connection, its one channel, the exchange that it speaks to, and the ids of what is under way."""

    connection: pika.AbstractConnection
    channel: pika.AbstractChannel
    exchange: pika.AbstractExchange
    sending: dict[str, asyncio.Task[Any] | None] = field(factory=dict[str, asyncio.Task[Any] | None])


class RabbitMQPublisher(HostedPublisher[_Line]):
    """Publishes to an exchange of RabbitMQ, or of another broker that speaks AMQP 0.9.1.

    Messages are persistent, and confirmed by the broker. One that reaches no queue is returned, and counts as failed:
    bind a queue first. `routing_key` is one key, or a function of the `Message`; by default it is the event's type.
    The exchange ``""`` delivers to the queue that the routing key names.

    Nothing is declared, unless `declare_exchange` asks for a durable topic exchange of that name. Each publish ends
    within `timeout` seconds. A connection is made when there is something to publish, and made anew after it was lost.
    Other `options` are those of `aio_pika.Connection` (``ssl_context``, ``client_properties``).

        RabbitMQPublisher("amqp://orders:secret@broker/", exchange="events")

    Works on asyncio and Trio. Raises `InvalidArgument` for options that cannot work, and `MissingPackage`, when it is
    imported, without the package aio-pika.
    """

    def __init__(
        self,
        url: str,
        exchange: str = "",
        routing_key: str | Callable[[Message], str] = _event_type,
        *,
        timeout: float = 15.0,
        declare_exchange: bool = False,
        **options: Any,
    ) -> None:
        if declare_exchange and not exchange:
            raise InvalidArgument("declare_exchange", declare_exchange, "name the exchange that is to be declared")
        super().__init__(_without_password(url), routing_key, timeout)
        self._url = url
        self._exchange = exchange
        self._declares = declare_exchange
        self._options: dict[str, Any] = {"client_properties": {"connection_name": "anysaga"}} | options

    async def _deliver(self, parcels: Sequence[Parcel]) -> Said:
        """See there. A message that the broker minds so much that it closes the channel fails alone.

        All that shared its channel are sent again, one by one.
        """
        deadline = now() + self._timeout
        answers = await self._sent(await self._connected(deadline), parcels, deadline)
        if len(parcels) > 1:
            for parcel in parcels:
                if _closed_the_channel(answers[parcel.index]):
                    answers |= await self._sent_alone(parcel, deadline)
        return answers

    async def _sent_alone(self, parcel: Parcel, deadline: float) -> Said:
        try:
            return await self._sent(await self._connected(deadline), [parcel], deadline)
        except PublishFailed as error:
            return {parcel.index: PublishFailed(error.broker, parcel.message.id, error.reason)}

    async def _connect(self) -> _Line:
        connection = aio_pika.Connection(URL(self._url), **self._options)
        try:
            await connection.connect()
            channel = await connection.channel(publisher_confirms=True, on_return_raises=True)
            return _Line(connection, channel, await self._exchange_of(channel))
        except BaseException:
            self._leave(connection.close())
            raise

    async def _exchange_of(self, channel: pika.AbstractChannel) -> pika.AbstractExchange:
        if not self._exchange:
            return channel.default_exchange
        if self._declares:
            return await channel.declare_exchange(self._exchange, aio_pika.ExchangeType.TOPIC, durable=True)
        return await channel.get_exchange(self._exchange)

    async def _disconnect(self, client: _Line) -> None:
        await client.connection.close()

    def _is_usable(self, client: _Line) -> bool:
        return not client.connection.is_closed and not client.channel.is_closed

    def _work(self, client: _Line, parcels: Sequence[Parcel], said: Said) -> Iterable[Coroutine[Any, Any, None]]:
        return [self._send(client, parcel, said) for parcel in parcels]

    def _is_silence(self, error: Exception) -> bool:
        return isinstance(error, OSError | ChannelInvalidStateError)  # as those of lost connections are

    async def _send(self, client: _Line, parcel: Parcel, said: Said) -> None:
        message_id = parcel.message.id
        while other := client.sending.get(message_id):
            await asyncio.wait([other])  # of two with one id, the client would not know which one was returned
        client.sending[message_id] = asyncio.current_task()
        try:
            await client.exchange.publish(_letter(parcel), parcel.address, mandatory=True)
            said[parcel.index] = None
        except PublishError as error:
            reason = f"no queue takes the routing key {parcel.address!r} of the exchange {self._exchange!r}"
            said[parcel.index] = caused(PublishFailed(self._broker, message_id, reason), error)
        except DeliveryError as error:
            said[parcel.index] = caused(PublishFailed(self._broker, message_id, "the broker refused it"), error)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is the answer
            said[parcel.index] = error
        finally:
            del client.sending[message_id]


def _letter(parcel: Parcel) -> aio_pika.Message:
    message = parcel.message
    return aio_pika.Message(
        parcel.body,
        content_type="application/cloudevents+json",
        delivery_mode=aio_pika.DeliveryMode.PERSISTENT,
        message_id=_short(message.id),
        timestamp=message.time,
        type=message.type,
        headers={"saga": message.saga, "sagaid": message.saga_id, "step": message.step},
    )


def _short(message_id: str) -> str:
    """An id that AMQP has room for, and the same each time: a long saga id, or a step deep in a tree, needs more."""
    data = message_id.encode()
    return message_id if len(data) <= _MOST_BYTES else sha256(data).hexdigest()


def _closed_the_channel(answer: Exception | None) -> bool:
    return answer is not None and isinstance(answer.__cause__, ChannelClosed)


def _without_password(url: str) -> str:
    try:
        return str(URL(url).with_password(None))
    except ValueError:
        raise InvalidArgument("url", "...", "give an address like amqp://user:password@host:5672/") from None
