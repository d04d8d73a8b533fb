"""A point of no return in doubt: the saga waits for a person.

You see a payment whose answer is lost. It is a pivot, so it is neither guessed at nor undone: the saga is parked. A
person asks the bank, says that the payment is done, and recovery goes on with the next step.
"""

from argparse import ArgumentParser

import anyio
from attrs import define

from anysaga import MemoryStorage, Retry, Saga, SagaParked, SagaState, Step, recover_saga, resolve


@define
class Order:
    item: str


class ReserveSeat(Step[Order]):
    async def act(self, order: Order) -> None:
        print(f"seat for {order.item} reserved")

    async def compensate(self, order: Order) -> None:
        print("never called: the money may be gone already")


class Pay(Step[Order]):
    pivot = True

    async def act(self, order: Order) -> None:
        raise ConnectionResetError("the line went dead after the payment was sent")


class SendTicket(Step[Order, str]):
    retry = Retry(attempts=5)
    pivot = True

    async def act(self, order: Order) -> str:
        return f"ticket for {order.item} sent"


class TicketSaga(Saga[Order]):
    steps = (ReserveSeat, Pay, SendTicket)


async def main() -> None:
    async with MemoryStorage() as storage:
        saga = TicketSaga(storage=storage)
        try:
            await saga.run(Order("Hamlet"), saga_id="ticket-1")
        except SagaParked as parked:
            print(f"parked at {parked.step}: {parked.reason}\nbecause of: {parked.__cause__!r}")

        print("what waits for a person:")
        for summary in await storage.find(states=[SagaState.PARKED]):
            print(f"  {summary.saga_id}: {summary.note}")

        state = await resolve("ticket-1", "Pay", "done", storage=storage, note="the bank has it, booked at 9:14")
        print(f"resolved by a person: {state}")
        result = await recover_saga(saga, "ticket-1")
        print(f"recovered: {result.state}, {result[SendTicket].response}")


if __name__ == "__main__":
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--backend", choices=["asyncio", "trio"], default="asyncio")
    anyio.run(main, backend=parser.parse_args().backend)
