"""A process is killed in the middle of a payment, and another one finishes its saga.

You see a worker that pays and is killed (SIGKILL) before it hears the answer. Nobody knows by then whether it has paid;
so recovery pays again, under the same idempotency key, which the bank knows already.
"""

import subprocess
import sys
from argparse import ArgumentParser
from pathlib import Path
from tempfile import TemporaryDirectory

import anyio
from attrs import define

from anysaga import Saga, SQLAlchemyStorage, Step, current_step, recover


@define
class Order:
    euros: int
    bank: Path


class Pay(Step[Order, str]):
    async def act(self, order: Order) -> str:
        answer = pay(order.bank, order.euros, key=current_step().key)
        if current_step().attempt == 1:
            print("worker: payment sent", flush=True)
            await anyio.sleep_forever()  # the answer is on its way
        return answer

    async def compensate(self, order: Order) -> None:
        print("paid back")


def pay(bank: Path, euros: int, *, key: str) -> str:
    if bank.exists() and key in bank.read_text():
        return "was paid before"
    bank.write_text(f"{euros} euros for {key}")
    return "paid"


class OrderSaga(Saga[Order]):
    steps = (Pay,)


async def work(folder: Path) -> None:
    async with SQLAlchemyStorage(folder / "orders.db", lease=1.0) as storage:
        await OrderSaga(storage=storage).run(Order(30, folder / "bank"), saga_id="order-17")


async def finish(folder: Path) -> None:
    async with SQLAlchemyStorage(folder / "orders.db", lease=1.0) as storage:
        while not (results := await recover([OrderSaga], storage=storage)):  # noqa: ASYNC110  # a lease has no event
            await anyio.sleep(0.1)
    print(f"recovered {results[0].saga_id}: {results[0].state}, {results[0][Pay].response}")
    print(f"the bank's book: {(folder / 'bank').read_text()}")


def main(folder: str, backend: str) -> None:
    command = [sys.executable, __file__, "--backend", backend, "--work-in", folder]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as worker:  # noqa: S603  # this file
        for line in worker.stdout or ():
            print(line, end="")
            if "payment sent" in line:
                worker.kill()
    print("worker killed")
    anyio.run(finish, Path(folder), backend=backend)


if __name__ == "__main__":
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--backend", choices=["asyncio", "trio"], default="asyncio")
    parser.add_argument("--work-in", type=Path)
    options = parser.parse_args()
    if options.work_in:
        anyio.run(work, options.work_in, backend=options.backend)
    with TemporaryDirectory() as folder:
        main(folder, options.backend)
