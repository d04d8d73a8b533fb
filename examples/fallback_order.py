"""An order whose warehouse is down: another one takes over, and after two failures the first is not asked any more.

You see three orders. For the first two the main warehouse is tried, fails, and is undone before the other one acts.
Then its circuit is open, so the third order goes to the other one at once. A minute later one order may try again.
"""

from argparse import ArgumentParser
from pathlib import Path

import anyio
from attrs import define

from anysaga import CircuitBreaker, Fallback, Saga, SQLAlchemyStorage, Step

FILE = Path("orders.db").absolute()


@define
class Order:
    item: str
    reservation: str = ""


class MainWarehouse(Step[Order, str]):
    async def act(self, order: Order) -> str:
        order.reservation = "half of a reservation"
        print("  main warehouse: asked")
        raise ConnectionError("the main warehouse does not answer")

    async def compensate(self, order: Order) -> None:
        print(f"  main warehouse: {order.reservation} cancelled, should there be one")


class OtherWarehouse(Step[Order, str]):
    async def act(self, order: Order) -> str:
        print(f"  other warehouse: asked, with reservation {order.reservation!r}")
        order.reservation = f"{order.item} from the other warehouse"
        return order.reservation

    async def compensate(self, order: Order) -> None:
        print("  other warehouse: cancelled")


class OrderSaga(Saga[Order]):
    steps = (
        Fallback(
            step=MainWarehouse,
            fallback=OtherWarehouse,
            failure_exceptions=(ConnectionError,),
            circuit_breaker=CircuitBreaker(fail_max=2, reset_timeout=60),
        ),
    )


async def main() -> None:
    async with SQLAlchemyStorage(FILE) as storage:
        saga = OrderSaga(storage=storage)
        for item in ("tea", "a pot", "a cup"):
            print(f"an order of {item}:")
            async with saga.transaction(Order(item)) as transaction:
                async for step in transaction:
                    print(f"  {step.step_name} ({step.source}): {step.response}")


if __name__ == "__main__":
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--backend", choices=["asyncio", "trio"], default="asyncio")
    anyio.run(main, backend=parser.parse_args().backend)
