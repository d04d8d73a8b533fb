"""confluent-kafka and aiokafka, bare and below our publishers, on librdkafka's mock of a cluster."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

from aiokafka import AIOKafkaProducer  # type: ignore[import-untyped]
from confluent_kafka import Producer

from anysaga.abc import Message, Publisher
from anysaga.events.publishers import AioKafkaPublisher, KafkaPublisher
from anysaga.events.publishers._kafka_records import headers, key
from benchmarks._batches import SECONDS, SIZE, messages, published, timed

_TOPIC = "orders"
_OURS: Mapping[str, Callable[[str, str], Publisher]] = {
    "confluent-kafka": KafkaPublisher,
    "aiokafka": AioKafkaPublisher,
}


def bare_confluent(times: int, ready: bool) -> float:  # noqa: FBT001 - handed on from a table of cases
    """A batch by ``produce`` and ``flush``: the same messages, with the same settings, as ours.

    Where they are `ready`, the envelopes are made before the clock starts.
    """
    batch = messages()
    envelopes = _envelopes(batch)
    with _cluster() as servers:
        producer = Producer({"bootstrap.servers": servers, "enable.idempotence": True, "acks": "all", "log_level": 0})

        def publish() -> None:
            for saga, body, marks in envelopes if ready else _envelopes(batch):
                producer.produce(_TOPIC, body, saga, headers=[*marks], on_delivery=_confirmed)
            producer.flush()

        publish()
        began = time.perf_counter()
        for _ in range(times):
            publish()
        return (time.perf_counter() - began) / (times * SIZE)


def bare_aiokafka(times: int) -> float:
    """A batch of the same messages by ``send``, and ``asyncio.gather`` of what that returns."""
    with _cluster() as servers:
        return asyncio.run(_bare_aiokafka(servers, times))


def ours(client: str, backend: str, times: int) -> float:
    """The same by our publisher over that client."""
    with _cluster() as servers:
        return published(backend, partial(_OURS[client], servers, _TOPIC), times)


async def _bare_aiokafka(servers: str, times: int) -> float:
    batch = messages()
    async with AIOKafkaProducer(bootstrap_servers=servers, acks="all") as producer:

        async def publish() -> None:
            await asyncio.gather(
                *[await producer.send(_TOPIC, body, key=saga, headers=marks) for saga, body, marks in _envelopes(batch)]
            )

        return await timed(times, publish)


def _envelopes(batch: Sequence[Message]) -> list[tuple[bytes, bytes, list[tuple[str, bytes]]]]:
    return [(key(message), message.to_json(), headers(message)) for message in batch]


def _confirmed(error: object, _message: Any) -> None:
    if error is not None:
        raise RuntimeError(error)


@contextmanager
def _cluster() -> Iterator[str]:
    mock = Producer({"test.mock.num.brokers": 1, "log_level": 0})
    (node,) = mock.list_topics(timeout=SECONDS).brokers.values()
    yield f"{node.host}:{node.port}"
    mock.flush(0)
