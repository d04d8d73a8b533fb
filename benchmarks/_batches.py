"""What publishers are given to publish, and how it is timed."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Sequence
from functools import partial

from anysaga.abc import Message, Publisher
from benchmarks._harness import in_loop

SIZE = 200
"""As many as a relay takes at a time."""

SECONDS = 30.0


def messages() -> list[Message]:
    """A batch of events as sagas have them."""
    data = '{"order_id":"order-17","items":["a book","a pot"],"total":"30.00","currency":"EUR"}'
    return [
        Message(
            id=f"order-{number}/3/act/1",
            type="OrderPlaced",
            data=data,
            at=1_763_700_000_123_456 + number,
            saga_id=f"order-{number}",
            saga="order",
            step="PlaceOrder",
        )
        for number in range(SIZE)
    ]


def published(backend: str, make: Callable[[], Publisher], times: int) -> float:
    """Seconds a message by a publisher of ours."""
    return in_loop(backend, partial(_published, make, times))()


async def timed(times: int, publish: Callable[[], Awaitable[object]]) -> float:
    """Seconds a message, given how to publish a batch; one goes ahead, in which clients connect."""
    await publish()
    began = time.perf_counter()
    for _ in range(times):
        await publish()
    return (time.perf_counter() - began) / (times * SIZE)


async def _published(make: Callable[[], Publisher], times: int) -> float:
    batch = messages()
    async with make() as publisher:
        return await timed(times, partial(_confirmed, publisher, batch))


async def _confirmed(publisher: Publisher, batch: Sequence[Message]) -> None:
    for error in await publisher.publish(batch):
        if error is not None:
            raise error
