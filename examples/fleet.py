"""A fleet: two workers on one database, of which one is killed in the middle of its work.

You see a shop submit orders and two worker processes take them up. One of them is killed while it is paying; the other
one takes over what it held, under the same keys, and all orders are completed. It runs on a SQLite file; give it a
server to see the same on PostgreSQL: ``--storage postgresql+psycopg://user@host/database``.
"""

import subprocess
import sys
from argparse import ArgumentParser
from pathlib import Path
from tempfile import TemporaryDirectory

import anyio
from attrs import define

from anysaga import Saga, SagaState, SQLAlchemyStorage, Step, current_step, run_worker
from anysaga.abc import SagaSummary

LEASE = 2.0  # seconds; with 30, the default, a busy machine takes nobody for dead
ORDERS = [f"order-{number}" for number in range(1, 7)]


@define
class Order:
    item: str


class Reserve(Step[Order]):
    async def act(self, order: Order) -> None:
        print(f"reserves {order.item}", flush=True)

    async def compensate(self, order: Order) -> None:
        print(f"puts {order.item} back", flush=True)


class Pay(Step[Order]):
    slow = False

    async def act(self, order: Order) -> None:
        print(f"pays {order.item} under {current_step().key}", flush=True)
        await anyio.sleep(3600 if self.slow else 0)  # the bank does not answer this worker

    async def compensate(self, order: Order) -> None:
        print(f"pays {order.item} back", flush=True)


class OrderSaga(Saga[Order]):
    name = "fleet-order"
    steps = (Reserve, Pay)


def storage_at(address: str) -> SQLAlchemyStorage:
    return SQLAlchemyStorage(address, lease=LEASE, table_prefix="fleet_example_")


async def submit_all(address: str) -> None:
    async with storage_at(address) as storage:
        saga = OrderSaga(storage=storage)
        for order in ORDERS:
            print("submitted:", await saga.submit(Order(f"tea for {order}"), saga_id=order))


async def wait_for_all(address: str) -> None:
    async with storage_at(address) as storage:
        done: list[SagaSummary] = []
        while len(done) < len(ORDERS):  # noqa: ASYNC110 - other processes do the work
            done = await storage.find(names=[OrderSaga.name], states=[SagaState.COMPLETED])
            await anyio.sleep(0.1)
        print("completed:", *(summary.saga_id for summary in done))
        await storage.purge(before=sys.maxsize, states=[SagaState.COMPLETED])  # so that you can run it again


def start_worker(name: str, address: str) -> subprocess.Popen[str]:
    command = [sys.executable, __file__, "--storage", address, "--work", name]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)  # noqa: S603 - this very script


def line_of(worker: subprocess.Popen[str], wanted: str) -> str:
    return next(line.strip() for line in worker.stdout or () if wanted in line)


def main(address: str) -> None:
    anyio.run(submit_all, address)
    first = start_worker("slow", address)
    print("first worker:", line_of(first, "pays"))
    first.kill()
    print("first worker: killed")
    second = start_worker("quick", address)
    anyio.run(wait_for_all, address)
    second.terminate()  # SIGTERM: it drains
    said, _ = second.communicate()
    print("second worker: drained, exit status", second.returncode)
    for line in sorted(said.splitlines()):
        print("second worker:", line)


if __name__ == "__main__":
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--storage", help="an address, such as postgresql+psycopg://user@host/database")
    parser.add_argument("--work", choices=["slow", "quick"], help="be a worker, instead of the shop")
    options = parser.parse_args()
    if options.work:
        Pay.slow = options.work == "slow"
        run_worker([OrderSaga], storage=storage_at(options.storage), concurrency=2, poll=0.1)
    elif options.storage:
        main(options.storage)
    else:
        with TemporaryDirectory() as folder:
            main(str(Path(folder) / "orders.db"))
