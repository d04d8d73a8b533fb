"""A server that finishes interrupted sagas in the background.

You see a server at work: every now and then it finishes what was interrupted. Meanwhile somebody begins an order and
leaves it in the middle (here on purpose, with suspend; a crash would do the same), and the server picks it up.
"""

from argparse import ArgumentParser
from pathlib import Path
from tempfile import TemporaryDirectory

import anyio
from attrs import define

from anysaga import Saga, SQLAlchemyStorage, Step, StorageError, recover

PAUSE = 0.1  # seconds; a minute is plenty in production


@define
class Order:
    item: str


class ReserveItem(Step[Order, str]):
    async def act(self, order: Order) -> str:
        return f"{order.item} reserved"

    async def compensate(self, order: Order) -> None:
        print(f"{order.item} back on the shelf")


class SendParcel(Step[Order, str]):
    async def act(self, order: Order) -> str:
        return f"{order.item} sent"

    async def compensate(self, order: Order) -> None:
        print(f"{order.item} called back")


class OrderSaga(Saga[Order]):
    steps = (ReserveItem, SendParcel)


async def keep_recovering(storage: SQLAlchemyStorage, recovered: anyio.Event) -> None:
    while True:
        try:
            for result in await recover([OrderSaga], storage=storage):
                print(f"background: {result.saga_id} is {result.state}")
                recovered.set()
        except StorageError as error:
            print(f"background: {error}")  # the store is away; the next round tries again
        await anyio.sleep(PAUSE)


async def order_and_leave(storage: SQLAlchemyStorage) -> None:
    async with OrderSaga(storage=storage).transaction(Order("tea"), saga_id="order-1") as transaction:
        async for step in transaction:
            print(f"shop: {step.response}, and that is all for now")
            await transaction.suspend()


async def main() -> None:
    with TemporaryDirectory() as folder:
        async with SQLAlchemyStorage(Path(folder) / "orders.db") as storage, anyio.create_task_group() as server:
            server.start_soon(keep_recovering, storage, recovered := anyio.Event())
            await order_and_leave(storage)
            await recovered.wait()
            server.cancel_scope.cancel()  # recovery stops between two steps and gives back what it holds


if __name__ == "__main__":
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--backend", choices=["asyncio", "trio"], default="asyncio")
    anyio.run(main, backend=parser.parse_args().backend)
