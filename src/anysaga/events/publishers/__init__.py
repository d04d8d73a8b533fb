"""Brokers that events are sent to. Each needs its package, and is imported when it is first used.

Write your own as a `Publisher` of `anysaga.abc`.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from anysaga.events.publishers._aiokafka import AioKafkaPublisher as AioKafkaPublisher
    from anysaga.events.publishers._devnull import DevnullPublisher as DevnullPublisher
    from anysaga.events.publishers._kafka import KafkaPublisher as KafkaPublisher
    from anysaga.events.publishers._rabbitmq import RabbitMQPublisher as RabbitMQPublisher

_PUBLISHERS = {
    "AioKafkaPublisher": "anysaga.events.publishers._aiokafka",
    "DevnullPublisher": "anysaga.events.publishers._devnull",
    "KafkaPublisher": "anysaga.events.publishers._kafka",
    "RabbitMQPublisher": "anysaga.events.publishers._rabbitmq",
}


def __getattr__(name: str) -> object:
    if name not in _PUBLISHERS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    publisher = getattr(import_module(_PUBLISHERS[name]), name)
    publisher.__module__ = __name__
    return publisher


def __dir__() -> list[str]:
    return sorted({*globals(), *_PUBLISHERS})
