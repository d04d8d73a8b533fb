"""What is special to RabbitMQ."""

from __future__ import annotations

import gc
import json
import re
from functools import partial
from hashlib import sha256
from uuid import uuid4

import aio_pika
import anyio
import pytest
from aiormq.abc import FieldTable
from brokers import RabbitMQ, message

from anysaga import InvalidArgument, PublishFailed
from anysaga.abc import Message
from anysaga.events.publishers import RabbitMQPublisher, _rabbitmq
from anysaga.events.publishers._parcels import Parcel

pytestmark = pytest.mark.anyio

MESSAGES = [message(number) for number in range(5)]


async def test_messages_survive_the_broker_and_say_what_they_are(rabbit: RabbitMQ) -> None:
    """They are persistent, have the time of the event, and name its saga and step."""
    async with rabbit.publisher() as publisher:
        assert await publisher.publish(MESSAGES[:1]) == [None]

    (found,) = rabbit.raw(1)
    assert found.delivery_mode == aio_pika.DeliveryMode.PERSISTENT
    assert found.timestamp == MESSAGES[0].time.replace(microsecond=0)
    assert found.headers["saga"] == "order"
    assert found.headers["sagaid"] == "order-0"
    assert found.headers["step"] == "PlaceOrder"


async def test_an_id_that_amqp_has_no_room_for_is_its_digest(rabbit: RabbitMQ) -> None:
    """A saga may be called by 200 characters; receivers still know its events by something that stays the same."""
    long = Message(f"{'ü' * 200}/1/act/1", "OrderPlaced", "{}", 0, "ü" * 200, "order", "PlaceOrder")
    async with rabbit.publisher() as publisher:
        assert await publisher.publish([long]) == [None]

    (found,) = rabbit.raw(1)
    assert found.message_id == sha256(long.id.encode()).hexdigest()
    assert json.loads(found.body)["id"] == long.id


async def test_a_message_that_reaches_no_queue_has_failed(rabbit: RabbitMQ) -> None:
    """The error names the routing key and the exchange, so that somebody can bind a queue."""
    async with rabbit.publisher() as publisher:
        (error,) = await publisher.publish([rabbit.refused()])

    assert isinstance(error, PublishFailed)
    assert error.reason == f"no queue takes the routing key 'NobodyWants' of the exchange {rabbit.place!r}"


async def test_a_message_that_the_broker_has_no_room_for_has_failed(rabbit: RabbitMQ) -> None:
    full: FieldTable = {"x-max-length": 1, "x-overflow": "reject-publish"}
    name = f"{rabbit.place}-full"
    queue = rabbit.portal.call(partial(rabbit.channel.declare_queue, name, arguments=full))
    async with RabbitMQPublisher(rabbit.url, routing_key=name) as publisher:
        assert await publisher.publish(MESSAGES[:1]) == [None]
        (error,) = await publisher.publish(MESSAGES[1:2])
    rabbit.portal.call(partial(queue.delete, if_empty=False))
    assert isinstance(error, PublishFailed)
    assert error.reason == "the broker refused it"


async def test_an_exchange_that_is_missing_is_named_and_waited_for(rabbit: RabbitMQ) -> None:
    """Nothing is declared unasked; the publisher works once somebody declared it."""
    name = f"{rabbit.place}-later"
    async with RabbitMQPublisher(rabbit.url, name, "orders") as publisher:
        with pytest.raises(PublishFailed, match=f"no exchange '{name}'"):
            await publisher.publish(MESSAGES)

        exchange = rabbit.portal.call(rabbit.channel.declare_exchange, name, "fanout")
        rabbit.portal.call(rabbit.queue.bind, exchange)
        assert await publisher.publish(MESSAGES) == [None] * len(MESSAGES)
    rabbit.portal.call(exchange.delete)


async def test_an_exchange_that_goes_and_comes_back(rabbit: RabbitMQ) -> None:
    """Publishing to a deleted exchange fails in time; the same publisher works when there is a new one."""
    async with rabbit.publisher() as publisher:
        assert await publisher.publish(MESSAGES[:1]) == [None]
        rabbit.portal.call(rabbit.channel.exchange_delete, rabbit.place)
        with anyio.fail_after(10):
            answers = await publisher.publish(MESSAGES)
        assert [type(error) for error in answers] == [PublishFailed] * len(MESSAGES)

        rabbit.portal.call(rabbit.channel.declare_exchange, rabbit.place, "topic")
        rabbit.portal.call(rabbit.queue.bind, rabbit.place, "#")
        assert await publisher.publish(MESSAGES) == [None] * len(MESSAGES)


async def test_an_exchange_is_declared_if_asked_for(rabbit: RabbitMQ) -> None:
    """It is a durable topic exchange; declaring it again changes nothing."""
    name = f"{rabbit.place}-declared"
    for _ in range(2):
        async with RabbitMQPublisher(rabbit.url, name, declare_exchange=True) as publisher:
            await publisher.publish(MESSAGES[:1])

    same = rabbit.portal.call(lambda: rabbit.channel.declare_exchange(name, "topic", durable=True))
    rabbit.portal.call(same.delete)


async def test_the_default_exchange_delivers_to_a_queue(rabbit: RabbitMQ) -> None:
    """The routing key names it; it may differ from message to message."""
    queues = {"order-0": rabbit.place, "order-1": f"nowhere-{uuid4().hex}"}
    async with RabbitMQPublisher(rabbit.url, routing_key=lambda each: queues[each.saga_id]) as publisher:
        first, second = await publisher.publish(MESSAGES[:2])

    assert first is None
    assert isinstance(second, PublishFailed)
    assert [each.id for each in rabbit.received(1)] == [MESSAGES[0].id]


async def test_a_message_that_closes_the_channel_fails_alone(rabbit: RabbitMQ, monkeypatch: pytest.MonkeyPatch) -> None:
    """RabbitMQ ends a channel over some messages; the others of the batch arrive all the same."""
    letter = _rabbitmq._letter

    def forged(parcel: Parcel) -> aio_pika.Message:
        made = letter(parcel)
        made.user_id = "somebody-else" if parcel.index == 2 else None
        return made

    monkeypatch.setattr(_rabbitmq, "_letter", forged)
    async with rabbit.publisher() as publisher:
        answers = await publisher.publish(MESSAGES)

    assert [type(error) for error in answers] == [type(None), type(None), PublishFailed, type(None), type(None)]
    assert "user_id" in str(answers[2])
    assert len(rabbit.received(4)) == 4


async def test_a_wrong_password_is_told_and_not_shown(rabbit: RabbitMQ) -> None:
    """Errors name the broker and the user only."""
    address = rabbit.url.replace("guest:guest@", "guest:hunter2@")
    async with RabbitMQPublisher(address, rabbit.place) as publisher:
        with pytest.raises(PublishFailed, match="ACCESS_REFUSED") as caught:
            await publisher.publish(MESSAGES)

    assert "amqp://guest@127.0.0.1" in str(caught.value)
    assert "hunter2" not in f"{caught.value}{caught.value.__cause__}{vars(caught.value)}"


async def test_a_connection_that_breaks_with_each_batch_is_held_against_no_message(rabbit: RabbitMQ) -> None:
    """A broker that lets everybody in, and dies of what it is given or is cut off, is away: publishing raises."""
    async with rabbit.publisher() as publisher:
        for _ in range(2):
            rabbit.proxy.cut_at(re.compile(b"order-0"))
            with pytest.raises(PublishFailed, match="did not confirm any message"):
                await publisher.publish(MESSAGES)
        assert await publisher.publish(MESSAGES) == [None] * len(MESSAGES)


async def test_options_are_handed_on(rabbit: RabbitMQ) -> None:
    """What aio-pika can be told besides is told to it."""
    properties = {"connection_name": "orders"}
    async with RabbitMQPublisher(rabbit.url, rabbit.place, client_properties=properties) as publisher:
        assert await publisher.publish(MESSAGES) == [None] * len(MESSAGES)
        assert publisher._client is not None
        assert publisher._client.connection.kwargs["client_properties"] == properties


async def test_failed_connections_leave_nothing_behind(rabbit: RabbitMQ) -> None:
    """A client that never connected is closed too: aio-pika minds it otherwise, whenever it is collected."""
    rabbit.proxy.down()
    async with rabbit.publisher() as publisher:
        for _ in range(3):
            with pytest.raises(PublishFailed, match="Connect"):
                await publisher.publish(MESSAGES)
    del publisher
    gc.collect()


@pytest.mark.parametrize("url", ["amqp://user:hunter2@host:port/", "amqp://[broken"])
def test_an_address_must_be_one(url: str) -> None:
    """What is refused is not shown: it may have a password."""
    with pytest.raises(InvalidArgument, match="amqp://user:password@host:5672/") as caught:
        RabbitMQPublisher(url)
    assert "hunter2" not in str(caught.value)


def test_what_is_declared_needs_a_name() -> None:
    with pytest.raises(InvalidArgument, match="name the exchange"):
        RabbitMQPublisher("amqp://localhost", declare_exchange=True)
