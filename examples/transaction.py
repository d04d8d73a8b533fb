"""A saga made of a list of steps, and the ways to leave its transaction.

You see four orders. The first is watched to its end. In the second the one who watches raises an error, and in the
third aborts: what was done is undone, the last step first. The fourth is left in the middle on purpose, and finished by
its id.
"""

import uuid
from argparse import ArgumentParser

import anyio
from attrs import define

from anysaga import MemoryStorage, Saga, Step, recover_saga


@define
class Order:
    item: str
    shelf: str = ""


class Warehouse:
    async def reserve(self, item: str) -> str:
        return f"{item} on shelf 4"


class ReserveItem(Step[Order, str]):
    def __init__(self, warehouse: Warehouse) -> None:
        self.warehouse = warehouse

    async def act(self, order: Order) -> str:
        order.shelf = await self.warehouse.reserve(order.item)
        return order.shelf

    async def compensate(self, order: Order) -> None:
        print(f"  undo: {order.shelf} is free again")


class BookCourier(Step[Order, str]):
    async def act(self, order: Order) -> str:
        return f"a courier comes for {order.item}"

    async def compensate(self, order: Order) -> None:
        print(f"  undo: the courier for {order.item} stays at home")


class SendParcel(Step[Order, str]):
    async def act(self, order: Order) -> str:
        return f"{order.item} sent"

    async def compensate(self, order: Order) -> None:
        print(f"  undo: {order.item} called back")


class CustomerGone(Exception): ...


async def watch(saga: Saga[Order]) -> None:
    async with saga.transaction(Order("tea")) as transaction:
        async for step in transaction:
            print(f"  {step.step_type.__name__}: {step.response}")
    print(f"  {transaction.state}")


async def fail(saga: Saga[Order]) -> None:
    async with saga.transaction(Order("a pot")) as transaction:
        async for step in transaction:
            if step.step_type is BookCourier:
                raise CustomerGone


async def abort(saga: Saga[Order]) -> None:
    async with saga.transaction(Order("a cup")) as transaction:
        async for _ in transaction:
            await transaction.abort("the cup is broken")
    print(f"  {transaction.state}: {transaction.result.reason}")


async def leave(saga: Saga[Order], saga_id: uuid.UUID) -> None:
    async with saga.transaction(Order("a spoon"), saga_id=saga_id) as transaction:
        async for step in transaction:
            print(f"  {step.step_type.__name__}: {step.response}")
            await transaction.suspend()
    print(f"  {transaction.state}")


async def main() -> None:
    steps = [ReserveItem, BookCourier, SendParcel]
    saga = Saga[Order](name="order", steps=steps, container={Warehouse: Warehouse}, storage=MemoryStorage())
    print("watched to its end:")
    await watch(saga)
    print("the one who watches raises:")
    try:
        await fail(saga)
    except CustomerGone as error:
        print(f"  {error.__notes__[0]}")
    print("aborted:")
    await abort(saga)
    print("left in the middle:")
    await leave(saga, spoon := uuid.uuid4())
    print("finished by its id:")
    result = await recover_saga(saga, spoon)
    print(f"  {result.state}: {result[SendParcel].response}")


if __name__ == "__main__":
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--backend", choices=["asyncio", "trio"], default="asyncio")
    anyio.run(main, backend=parser.parse_args().backend)
