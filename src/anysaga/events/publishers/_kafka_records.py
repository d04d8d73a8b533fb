"""What both clients of Kafka are given."""

from __future__ import annotations

from collections.abc import Iterable

from anysaga._errors import InvalidArgument
from anysaga.abc import Message


def servers(given: str | Iterable[str]) -> list[str]:
    """The addresses of brokers to begin with, as a list."""
    listed = given.split(",") if isinstance(given, str) else list(given)
    found = [server.strip() for server in listed if server.strip()]
    if not found:
        raise InvalidArgument("bootstrap_servers", given, "name a broker, such as 'localhost:9092'")
    return found


def label(brokers: Iterable[str]) -> str:
    """What brokers are called in errors."""
    return f"kafka://{','.join(brokers)}"


def key(message: Message) -> bytes:
    """Events of one saga have one key, so they stay in one partition, and in their order."""
    return message.saga_id.encode()


def headers(message: Message) -> list[tuple[str, bytes]]:
    """What receivers may want to know before they read an envelope."""
    return [
        ("content-type", b"application/cloudevents+json"),
        ("id", message.id.encode()),
        ("type", message.type.encode()),
    ]
