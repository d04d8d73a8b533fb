"""Sagas in a database: a file of SQLite, or a server, by an address as SQLAlchemy writes them.

You see a service run an order and stop. When it is started again, the same id is the same saga: nothing acts twice, and
the stored result is there. At the end: what the database says of the order. Give it another address to see the same on
PostgreSQL or MySQL: ``--storage postgresql+asyncpg://user@host/database``. Tables are made when they are missing.
"""

import sys
from argparse import ArgumentParser

import anyio
from attrs import define

from anysaga import Saga, SagaMap, SagaState, SQLAlchemyStorage, Step, bootstrap

SAGA_ID = "order-17"


@define
class Order:
    items: list[str]
    reservation: str | None = None


class ReserveItems(Step[Order, str]):
    async def act(self, order: Order) -> str:
        print(f"  act: reserve {' and '.join(order.items)}")
        order.reservation = f"reservation of {len(order.items)}"
        return order.reservation

    async def compensate(self, order: Order) -> None:
        print(f"  undo: {order.reservation}")


class ChargeCard(Step[Order, str]):
    async def act(self, order: Order) -> str:
        print("  act: charge the card")
        return "30 euros paid"

    async def compensate(self, order: Order) -> None:
        print("  undo: 30 euros paid back")


class OrderSaga(Saga[Order]):
    name = "database-order"
    steps = (ReserveItems, ChargeCard)


def bind_sagas(sagas: SagaMap) -> None:
    sagas.bind(Order, OrderSaga)


def storage_at(address: str) -> SQLAlchemyStorage:
    return SQLAlchemyStorage(address, table_prefix="example_")  # or an Engine of your own in the address's place


async def serve(address: str) -> None:
    storage = storage_at(address)
    mediator = bootstrap(di_container=None, sagas_mapper=bind_sagas, saga_storage=storage)
    async with storage, mediator:
        order = Order(["tea", "a pot"])
        async with mediator.stream(order, saga_id=SAGA_ID) as stream:
            async for step in stream:
                print(f"  seen: {step.step_name}: {step.response}")
        print(f"  {stream.result.state}: {stream.result[ChargeCard].response}, {order.reservation}")


async def look(address: str) -> None:
    async with storage_at(address) as storage:
        for entry in (await storage.load(SAGA_ID)).entries:
            print(f"  {entry.seq}: {entry.kind} {entry.path}".rstrip())
        await storage.purge(before=sys.maxsize, states=[SagaState.COMPLETED])  # so that you can run it again


async def main(address: str) -> None:
    print("the service runs an order:")
    await serve(address)
    print("started again, with the same order:")
    await serve(address)
    print("in the database:")
    await look(address)


if __name__ == "__main__":
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--storage", default="sqlite:///orders.db", help="an address, as SQLAlchemy writes them")
    parser.add_argument("--backend", choices=["asyncio", "trio"], default="asyncio")
    options = parser.parse_args()
    anyio.run(main, options.storage, backend=options.backend)
