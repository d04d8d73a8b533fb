"""A service whose sagas tell others what they did: events, their handlers, a broker, and middlewares.

You see two orders. The first goes through, the card of the second is declined. Each step that is done records an event
in the very commit that says so, and so does the undo of the second reservation. Handlers of this service and the broker
get them later, in the order of each saga. A middleware sees every call. The broker here only prints; KafkaPublisher and
RabbitMQPublisher of anysaga.events.publishers stand in the same place.
"""

from argparse import ArgumentParser
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import anyio
from attrs import define, frozen

from anysaga import (
    EventHandler,
    EventMap,
    Middleware,
    NextStep,
    NotDone,
    Saga,
    SagaMap,
    SagaMediator,
    SQLAlchemyStorage,
    Step,
    StepCall,
    bootstrap,
    current_step,
)
from anysaga.abc import Message, Publisher


@define
class Order:
    item: str
    card: str


@frozen
class ItemReserved:
    item: str


@frozen
class ItemReleased:
    item: str


@frozen
class OrderPaid:
    euros: int


class ReserveItem(Step[Order]):
    async def act(self, order: Order) -> None:
        current_step().record(ItemReserved(order.item))

    async def compensate(self, order: Order) -> None:
        current_step().record(ItemReleased(order.item))


class ChargeCard(Step[Order]):
    async def act(self, order: Order) -> None:
        if order.card == "empty":
            raise NotDone("no 30 euros on this card")
        current_step().record(OrderPaid(30))

    async def compensate(self, order: Order) -> None: ...


class OrderSaga(Saga[Order]):
    steps = (ReserveItem, ChargeCard)


class Catalogue:
    def __init__(self) -> None:
        self.reserved: Counter[str] = Counter()


class CountUp(EventHandler[ItemReserved]):
    def __init__(self, catalogue: Catalogue) -> None:
        self.catalogue = catalogue

    async def handle(self, event: ItemReserved) -> None:
        self.catalogue.reserved[event.item] += 1


class CountDown(EventHandler[ItemReleased]):
    def __init__(self, catalogue: Catalogue) -> None:
        self.catalogue = catalogue

    async def handle(self, event: ItemReleased) -> None:
        self.catalogue.reserved[event.item] -= 1


class PrintingPublisher(Publisher):
    async def publish(self, messages: Sequence[Message], /) -> list[Exception | None]:
        for message in messages:
            print(f"  broker: {message.id} is {message.type} {message.data}")
        return [None] * len(messages)


class PrintingMiddleware(Middleware):
    async def step(self, call: StepCall, call_next: NextStep) -> Any:
        print(f"  {call.saga_id}: {call.verb} of {call.step}")
        return await call_next()


def bind_sagas(sagas: SagaMap) -> None:
    sagas.bind(Order, OrderSaga)


def bind_events(events: EventMap) -> None:
    events.bind(ItemReserved, CountUp)
    events.bind(ItemReleased, CountDown)
    events.bind(OrderPaid, name="order.paid")  # to the broker only, under this name


async def place(mediator: SagaMediator, saga_id: str, order: Order) -> None:
    try:
        await mediator.run(order, saga_id=saga_id)
    except NotDone as error:
        print(f"  {saga_id} failed: {error}")


async def main(folder: str) -> None:
    catalogue = Catalogue()
    async with SQLAlchemyStorage(Path(folder) / "orders.db") as storage:
        mediator = bootstrap(
            di_container={Catalogue: lambda: catalogue},
            sagas_mapper=bind_sagas,
            saga_storage=storage,
            domain_events_mapper=bind_events,
            message_broker=PrintingPublisher(),
            middlewares=[PrintingMiddleware()],
            on_startup=[lambda: print("the service starts")],
            max_concurrent_event_handlers=4,
            concurrent_event_handle_enable=True,
        )
        async with mediator:
            await place(mediator, "order-1", Order("tea", "full"))
            await place(mediator, "order-2", Order("a pot", "empty"))
            while (await storage.outbox_lag()).waiting:  # noqa: ASYNC110 - the store is asked, since relays may be anywhere
                await anyio.sleep(0.01)
    print(f"reserved in the catalogue: {catalogue.reserved['tea']} tea, {catalogue.reserved['a pot']} a pot")


if __name__ == "__main__":
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--backend", choices=["asyncio", "trio"], default="asyncio")
    options = parser.parse_args()
    with TemporaryDirectory() as folder:
        anyio.run(main, folder, backend=options.backend)
