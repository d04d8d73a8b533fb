"""What the tests of the relay share: steps that record events, a broker that notes them, and a relay that runs."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import anyio
from anyio.abc import TaskGroup
from attrs import define
from paid_orders import Order, Paid, Pay

from anysaga import EventHandler, EventMap, Retry, Saga, Step, current_step, secret
from anysaga.abc import Message, Publisher, Storage
from anysaga.events import EventRelay, current_message

AT_ONCE = Retry(attempts=3, delay=0)


@define
class Charged:
    card: str = secret()


class Twice(Step[Order]):
    read_only = True

    async def act(self, order: Order) -> None:
        current_step().record(Paid(order.number))
        current_step().record(Paid(order.number + 1))


class Charge(Step[Order]):
    read_only = True

    async def act(self, order: Order) -> None:
        current_step().record(Charged("4711-0815"))


class Broker(Publisher):
    """A broker that notes what arrives; `refuses` says of a message why it does not."""

    def __init__(self) -> None:
        self.asked: list[Sequence[Message]] = []
        self.batches: list[Sequence[Message]] = []
        self.arrived: list[Message] = []
        self.down: BaseException | None = None
        self.refused: set[str] = set()
        self.got_some = anyio.Event()
        self.was_asked = anyio.Event()

    async def publish(self, messages: Sequence[Message], /) -> Sequence[Exception | None]:
        self.was_asked.set()
        self.asked.append(messages)
        if self.down is not None:
            raise self.down
        self.batches.append(messages)
        answers: list[Exception | None] = []
        for message in messages:
            refused = message.id in self.refused
            answers.append(ValueError(f"no {message.id}") if refused else None)
            if not refused:
                self.arrived.append(message)
        self.got_some.set()
        return answers

    async def wait_for(self, number: int) -> None:
        while len(self.arrived) < number:
            self.got_some = anyio.Event()
            await self.got_some.wait()

    @property
    def ids(self) -> list[str]:
        return [message.id for message in self.arrived]


class Ledger:
    """What handlers have done."""

    def __init__(self) -> None:
        self.done: list[tuple[str, int, str]] = []
        self.closed = 0


class Note(EventHandler[Paid]):
    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger

    async def handle(self, event: Paid) -> None:
        self.ledger.done.append(("note", event.number, current_message().id))


class Odd(BaseException):
    """No `Exception`, as what some test frameworks raise, and no wish to end either."""


async def run(storage: Storage, *sagas: str, step: type[Step[Order]] = Pay, events: EventMap | None = None) -> None:
    for saga_id in sagas:
        await Saga[Order](name="order", storage=storage, steps=[step], events=events).run(Order(), saga_id=saga_id)


@asynccontextmanager
async def running(relay: EventRelay) -> AsyncIterator[TaskGroup]:
    """The relay as it runs in the background."""
    async with anyio.create_task_group() as group:
        group.start_soon(relay.run)
        yield group
        group.cancel_scope.cancel()
