"""Brokers for tests."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from brokers import AioKafka, Broker, Kafka, RabbitMQ, kafka, kafka_cluster, rabbitmq


@pytest.fixture(scope="session")
def kafka_port() -> Iterator[int]:
    """Give the port of a mock cluster of Kafka, which needs no server."""
    with kafka_cluster() as port:
        yield port


@pytest.fixture
def rabbit(require_service: Callable[[str], str]) -> Iterator[RabbitMQ]:
    """Give a place at the RabbitMQ server that the environment names."""
    with rabbitmq(require_service("rabbitmq")) as broker:
        yield broker


@pytest.fixture(params=["rabbitmq", "kafka", "aiokafka"])
def broker(request: pytest.FixtureRequest) -> Iterator[Broker]:
    """Give a place at each broker, by each client."""
    if request.param == "rabbitmq":
        yield request.getfixturevalue("rabbit")
        return
    kind = Kafka if request.param == "kafka" else AioKafka
    with kafka(kind, request.getfixturevalue("kafka_port")) as made:
        yield made
