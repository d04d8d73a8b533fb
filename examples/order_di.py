"""A saga whose services come from a container of the package di, opened for each saga and closed after it.

You see one order go through, and another one go back. The warehouse's connection is opened once for each of them; it is
still open when the steps are undone, and closed after that. A container of dishka, svcs or dependency-injector stands
in the same place. Needs the extra `di`.
"""

from argparse import ArgumentParser
from collections.abc import AsyncIterator

import anyio
from attrs import define
from di import Container, bind_by_type
from di.dependent import Dependent

from anysaga import NotDone, Saga, Step

BALANCE = 20


@define
class Order:
    item: str
    euros: int


class Warehouse:
    async def reserve(self, item: str) -> None:
        print(f"  {item} reserved")

    async def release(self, item: str) -> None:
        print(f"  {item} back on the shelf")


async def open_warehouse() -> AsyncIterator[Warehouse]:  # noqa: ASYNC900 - di makes a context manager of it
    print("  warehouse: connected")
    try:
        yield Warehouse()
    finally:  # the saga's error passes through here
        print("  warehouse: disconnected")


class ReserveItem(Step[Order]):
    def __init__(self, warehouse: Warehouse) -> None:
        self.warehouse = warehouse

    async def act(self, order: Order) -> None:
        await self.warehouse.reserve(order.item)

    async def compensate(self, order: Order) -> None:
        await self.warehouse.release(order.item)


class ChargeCard(Step[Order]):
    async def act(self, order: Order) -> None:
        if order.euros > BALANCE:
            raise NotDone(f"the card has {BALANCE} euros")

    async def compensate(self, order: Order) -> None: ...


class OrderSaga(Saga[Order]):
    steps = (ReserveItem, ChargeCard)


async def main() -> None:
    container = Container()
    container.bind(bind_by_type(Dependent(open_warehouse, scope="request"), Warehouse))
    saga = OrderSaga(container=container)
    for order in (Order("tea", 8), Order("a pot", 30)):
        print(f"an order of {order.item}:")
        try:
            result = await saga.run(order)
            print(f"  {result.state}")
        except NotDone as error:
            print(f"  failed: {error}")


if __name__ == "__main__":
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--backend", choices=["asyncio", "trio"], default="asyncio")
    anyio.run(main, backend=parser.parse_args().backend)
