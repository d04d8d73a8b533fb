"""Brokers that events are sent to. Each needs its package, and is imported when it is first used.

Write your own as a `Publisher` of `anysaga.abc`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from anysaga._lazy import attach

if TYPE_CHECKING:
    from anysaga.events.publishers._aiokafka import AioKafkaPublisher as AioKafkaPublisher
    from anysaga.events.publishers._devnull import DevnullPublisher as DevnullPublisher
    from anysaga.events.publishers._kafka import KafkaPublisher as KafkaPublisher
    from anysaga.events.publishers._rabbitmq import RabbitMQPublisher as RabbitMQPublisher
else:
    __getattr__, __dir__ = attach(
        __name__,
        {
            "AioKafkaPublisher": "anysaga.events.publishers._aiokafka",
            "DevnullPublisher": "anysaga.events.publishers._devnull",
            "KafkaPublisher": "anysaga.events.publishers._kafka",
            "RabbitMQPublisher": "anysaga.events.publishers._rabbitmq",
        },
        needs={"AioKafkaPublisher": "aiokafka", "KafkaPublisher": "confluent_kafka", "RabbitMQPublisher": "aio_pika"},
    )
