"""A mediator in a service: it finds the saga for a context, and a customer who closes the page stops nothing.

You see a first customer who watches an order to its end, and a second one who goes away after the first step: that
order goes on. The third order is still under way when the service shuts down: it stops between two steps, and the next
start of the service, here in the same script, resumes it.
"""

from argparse import ArgumentParser
from pathlib import Path

import anyio
from attrs import define

from anysaga import MediatorClosed, Saga, SagaMap, SagaMediator, SagaState, SQLAlchemyStorage, Step, bootstrap

FILE = Path("orders.db").absolute()


@define
class Order:
    item: str
    reservation: str = ""


class Warehouse:
    async def reserve(self, item: str) -> str:
        await anyio.sleep(0.01)
        return f"{item} on shelf 4"


class ReserveItem(Step[Order, str]):
    def __init__(self, warehouse: Warehouse) -> None:
        self.warehouse = warehouse

    async def act(self, order: Order) -> str:
        order.reservation = await self.warehouse.reserve(order.item)
        return order.reservation

    async def compensate(self, order: Order) -> None:
        print(f"  undo: {order.reservation} is free again")


class SendItem(Step[Order, str]):
    async def act(self, order: Order) -> str:
        print(f"  {order.item} sent")
        return f"{order.item} on its way"

    async def compensate(self, order: Order) -> None:
        print(f"  undo: {order.item} called back")


class OrderSaga(Saga[Order]):
    steps = (ReserveItem, SendItem)


def bind_sagas(sagas: SagaMap) -> None:
    sagas.bind(Order, OrderSaga)


async def watch(mediator: SagaMediator) -> None:
    print("a customer who watches:")
    async for step in mediator.stream(Order("tea"), saga_id="order-1"):
        print(f"  seen: {step.step_name}: {step.response}")


async def go_away(mediator: SagaMediator) -> None:
    print("a customer who goes away after the first step:")
    async with mediator.stream(Order("a pot"), saga_id="order-2") as stream:
        print(f"  seen: {(await anext(stream)).step_name}")
    load = mediator.storage.load
    while (await load("order-2")).summary.state is not SagaState.COMPLETED:  # noqa: ASYNC110 - nobody here is told of it
        await anyio.sleep(0.01)
    print("  the order is completed all the same")


async def wait_in_vain(mediator: SagaMediator) -> None:
    try:
        await mediator.run(Order("a cup"), saga_id="order-3")
    except MediatorClosed as closed:
        print(f"  told: {closed}")


async def main() -> None:
    async with SQLAlchemyStorage(FILE) as storage:
        mediator = bootstrap(
            di_container={Warehouse: Warehouse},
            sagas_mapper=bind_sagas,
            saga_storage=storage,
            on_startup=[lambda: print("the service starts")],
        )
        async with anyio.create_task_group() as group, mediator:
            await watch(mediator)
            await go_away(mediator)
            print("the service shuts down in the middle of an order:")
            group.start_soon(wait_in_vain, mediator)
            await anyio.sleep(0.005)
        async with mediator:
            print("the service starts again:")
            result = await mediator.resume("order-3")
            print(f"  order-3: {result.state}, {result.context.reservation}")


if __name__ == "__main__":
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--backend", choices=["asyncio", "trio"], default="asyncio")
    anyio.run(main, backend=parser.parse_args().backend)
