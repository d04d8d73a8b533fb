"""A fallback behind a circuit of aiobreaker, run by a mediator: for those who keep their breakers from python-cqrs.

You see three orders. The warehouse fails twice, and the depot takes over; the warehouse's circuit is open then, so the
third order goes to the depot at once. Works on Trio as well. Needs the extra `aiobreaker`; without that package
`CircuitBreaker` stands in the same place, as in fallback_order.py.
"""

import uuid
from argparse import ArgumentParser

import anyio
from attrs import define

from anysaga import Fallback, MemoryStorage, NotDone, Saga, SagaMap, Step, bootstrap
from anysaga.integrations import AioBreakerAdapter


@define
class Order:
    order_id: str
    reservation: str | None = None


@define
class Reservation:
    number: str


class ReserveAtWarehouse(Step[Order, Reservation]):
    async def act(self, order: Order) -> Reservation:
        print("  the warehouse is asked")
        raise NotDone("the warehouse is closed")

    async def compensate(self, order: Order) -> None: ...


class ReserveAtDepot(Step[Order, Reservation]):
    async def act(self, order: Order) -> Reservation:
        order.reservation = f"depot-{order.order_id}"
        return Reservation(order.reservation)

    async def compensate(self, order: Order) -> None:
        print(f"  undo: {order.reservation}")


class OrderSaga(Saga[Order]):
    steps = (
        Fallback(
            step=ReserveAtWarehouse,
            fallback=ReserveAtDepot,
            circuit_breaker=AioBreakerAdapter(fail_max=2, timeout_duration=60),
        ),
    )


def bind_sagas(sagas: SagaMap) -> None:
    sagas.bind(Order, OrderSaga)


async def main() -> None:
    async with bootstrap(di_container=None, sagas_mapper=bind_sagas, saga_storage=MemoryStorage()) as mediator:
        for number in ("1", "2", "3"):
            print(f"order {number}:")
            async for step in mediator.stream(Order(number), saga_id=uuid.uuid4()):
                print(f"  {step.step_type.__name__} ({step.source}): {step.response.number}")


if __name__ == "__main__":
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--backend", choices=["asyncio", "trio"], default="asyncio")
    anyio.run(main, backend=parser.parse_args().backend)
