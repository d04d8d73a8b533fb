"""The publisher of those who have no broker."""

from __future__ import annotations

from collections.abc import Sequence

from anysaga.abc import Message, Publisher


class DevnullPublisher(Publisher):
    """Confirms every message, and sends it nowhere."""

    async def publish(self, messages: Sequence[Message], /) -> list[Exception | None]:
        """Confirm all."""
        return [None] * len(messages)
