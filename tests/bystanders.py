"""What has nothing to do with a failure, and must go on beside it: another saga, another handler."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import anyio
from attrs import define
from journeys import Journey, Leg, saga_of

from anysaga import EventMap, Saga, SagaResult, Step, current_step, recover
from anysaga.abc import Storage
from anysaga.events import EventRelay


@define
class Other:
    """The context of a saga that has nothing to do with it."""


class Waits(Step[Other]):
    read_only = True

    async def act(self, other: Other) -> None:
        await anyio.sleep(0.02)


class OtherSaga(Saga[Other]):
    steps = (Waits,)


class Bank:
    """What a container makes."""


class Needs(Waits):
    def __init__(self, bank: Bank) -> None: ...


class NeedsSaga(Saga[Other]):
    steps = (Needs,)


@define
class Told:
    """An event."""


async def recovered_beside(bank: Callable[[], Any], storage: Storage) -> list[SagaResult[Any]]:
    """Recover two sagas, one of which ("n") needs what the container makes with `bank`; the other one is "o"."""
    await NeedsSaga(storage=storage).submit(Other(), saga_id="n")
    await OtherSaga(storage=storage).submit(Other(), saga_id="o")
    return await recover([NeedsSaga, OtherSaga], storage=storage, container={Bank: bank})


async def told_to_two(
    hear_badly: Callable[[Told], Awaitable[None]], storage: Storage, did: list[str]
) -> tuple[EventRelay, list[object]]:
    """A relay of an event that a saga recorded for a handler that fails and another one; and what that one hears."""

    async def tell(journey: Journey) -> None:
        current_step().record(Told())

    heard: list[object] = []

    async def hear(event: Told) -> None:
        heard.append(event)

    events = EventMap(publish=False)
    events.bind(Told, hear_badly, hear)
    await saga_of(storage, Leg("a", did, act=tell), events=events).run(Journey())
    return EventRelay(storage, events=events, max_concurrent=2), heard
