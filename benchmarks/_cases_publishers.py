"""Publishers beside the bare clients. RabbitMQ is the server that the environment names: ``ANYSAGA_RABBITMQ_URL``."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence

from benchmarks._batches import SIZE
from benchmarks._harness import BACKENDS, Scale, Subject, Target, compare
from benchmarks._peers import Peer
from benchmarks._table import Row, seconds_a

RABBITMQ = "ANYSAGA_RABBITMQ_URL"

_RABBITMQ = Peer("aio-pika", "benchmarks._peers_rabbitmq")
_KAFKA = Peer("confluent-kafka", "benchmarks._peers_kafka")


def rabbitmq(scale: Scale) -> Iterator[Row]:
    """Persistent, confirmed messages to a durable queue."""
    address, times, bare = os.environ.get(RABBITMQ), scale.of(10, 1), "aio-pika, gather"
    target = [Target.of_cost(bare, at_most=1.5)]
    subjects = [
        Subject(bare, _RABBITMQ.subject("bare", address, times) if address else None),
        *(
            Subject(backend, _RABBITMQ.subject("ours", backend, address, times) if address else None, target)
            for backend in BACKENDS
        ),
    ]
    yield from _compare("RabbitMQ", subjects, scale)


def kafka(scale: Scale) -> Iterator[Row]:
    """Messages that all replicas of the mock confirmed, by either client."""
    times = scale.of(50, 1)
    bare, ready = "confluent-kafka, bare", "the same, envelopes ready"
    floors = [
        Subject(ready, _KAFKA.subject("bare_confluent", times, True)),  # noqa: FBT003 - a case of a table
        Subject(bare, _KAFKA.subject("bare_confluent", times, False)),  # noqa: FBT003 - as above
    ]
    targets = [Target.of_cost(bare, at_most=1.5), Target.of_cost(ready)]
    yield from _compare("Kafka", [*floors, *_ours_on_kafka("confluent-kafka", targets, times)], scale)

    bare = "aiokafka, bare"
    floors = [Subject(bare, _KAFKA.subject("bare_aiokafka", times))]
    targets = [Target.of_cost(bare, at_most=1.5)]
    yield from _compare("Kafka", [*floors, *_ours_on_kafka("aiokafka", targets, times)], scale)


def _ours_on_kafka(client: str, targets: Sequence[Target], times: int) -> list[Subject]:
    return [
        Subject(f"{client}, {backend}", _KAFKA.subject("ours", client, backend, times), targets) for backend in BACKENDS
    ]


def _compare(broker: str, subjects: Sequence[Subject], scale: Scale) -> Iterator[Row]:
    case = f"{broker}, batches of {SIZE}"
    yield from compare(case, subjects, scale, rounds=7, show=seconds_a("message"))
