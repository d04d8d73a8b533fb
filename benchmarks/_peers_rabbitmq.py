"""aio-pika, bare and below our publisher, on a durable queue that drops what is old."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from uuid import uuid4

import aio_pika

from anysaga.abc import Message
from anysaga.events.publishers import RabbitMQPublisher
from benchmarks._batches import SIZE, messages, published, timed

_ROOM = 10 * SIZE


def bare(address: str, times: int) -> float:
    """A batch by ``asyncio.gather`` of confirmed publishes: the same messages as ours."""
    with _queue(address) as queue:
        return asyncio.run(_bare(address, queue, times))


def ours(backend: str, address: str, times: int) -> float:
    """The same by our publisher."""
    with _queue(address) as queue:
        return published(backend, partial(RabbitMQPublisher, address, routing_key=queue), times)


async def _bare(address: str, queue: str, times: int) -> float:
    batch = messages()
    async with await aio_pika.connect(address) as connection:
        channel = await connection.channel(publisher_confirms=True, on_return_raises=True)

        async def publish() -> None:
            await asyncio.gather(
                *(channel.default_exchange.publish(_letter(message), queue, mandatory=True) for message in batch)
            )

        return await timed(times, publish)


def _letter(message: Message) -> aio_pika.Message:
    return aio_pika.Message(
        message.to_json(),
        content_type="application/cloudevents+json",
        delivery_mode=aio_pika.DeliveryMode.PERSISTENT,
        message_id=message.id,
        timestamp=message.time,
        type=message.type,
        headers={"saga": message.saga, "sagaid": message.saga_id, "step": message.step},
    )


@contextmanager
def _queue(address: str) -> Iterator[str]:
    name = f"anysaga-bench-{uuid4().hex}"
    asyncio.run(_declare(address, name))
    try:
        yield name
    finally:
        asyncio.run(_delete(address, name))


async def _declare(address: str, name: str) -> None:
    async with await aio_pika.connect(address) as connection:
        channel = await connection.channel()
        await channel.declare_queue(name, durable=True, arguments={"x-max-length": _ROOM})


async def _delete(address: str, name: str) -> None:
    async with await aio_pika.connect(address) as connection:
        channel = await connection.channel()
        await channel.queue_delete(name)
