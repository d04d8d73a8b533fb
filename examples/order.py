"""An order across three services, kept in a SQLite file.

You see two orders. The first goes through, step by step. The card of the second is declined, so what was done for it
is undone, the last step first. At the end: the file where both are kept, and what it says of them.
"""

from argparse import ArgumentParser
from pathlib import Path

import anyio
from attrs import define

from anysaga import Saga, SQLAlchemyStorage, Step

FILE = Path("orders.db").absolute()


class CardDeclined(Exception): ...


@define
class Order:
    items: list[str]
    card: str
    parcel: str | None = None


class ReserveItems(Step[Order, str]):
    async def act(self, order: Order) -> str:
        return " and ".join(order.items)

    async def compensate(self, order: Order) -> None:
        print(f"  undo: {' and '.join(order.items)} back on the shelf")


class BookCourier(Step[Order, str]):
    async def act(self, order: Order) -> str:
        order.parcel = f"a parcel of {len(order.items)}"
        return order.parcel

    async def compensate(self, order: Order) -> None:
        print(f"  undo: {order.parcel} called off")


class ChargeCard(Step[Order, str]):
    not_done_on = (CardDeclined,)

    async def act(self, order: Order) -> str:
        if order.card == "empty":
            raise CardDeclined("no 30 euros on this card")
        return "30 euros paid"

    async def compensate(self, order: Order) -> None:
        print("  undo: 30 euros paid back")


class OrderSaga(Saga[Order]):
    steps = (ReserveItems, BookCourier, ChargeCard)


async def main() -> None:
    async with SQLAlchemyStorage(FILE) as storage:
        saga = OrderSaga(storage=storage)
        for card in ("full", "empty"):
            print(f"an order with a card that is {card}:")
            try:
                async with saga.transaction(Order(["tea", "a pot"], card)) as transaction:
                    async for step in transaction:
                        print(f"  {step.step_name}: {step.response}")
            except CardDeclined as error:
                print(f"  failed: {error}\n  {error.__notes__[0]}")
        print(f"kept in {FILE}:")
        for summary in await storage.find():
            print(f"  {summary.saga_id}: {summary.state} {summary.note or ''}")


if __name__ == "__main__":
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--backend", choices=["asyncio", "trio"], default="asyncio")
    anyio.run(main, backend=parser.parse_args().backend)
