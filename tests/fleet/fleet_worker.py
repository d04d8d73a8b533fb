"""A worker process of the fleet tests. Arguments: address, table prefix, folder, lease in seconds, event loop."""

from __future__ import annotations

import logging
import os
import sys
from contextlib import suppress
from pathlib import Path

import anyio
from attrs import define
from fleet_ledger import Ledger

from anysaga import NotDone, Retry, Saga, SagaWorker, SQLAlchemyStorage, Step, StorageUnavailable, current_step

STEPS = ["Reserve", "Charge", "Ship"]


@define
class Order:
    folder: str
    pause: float = 0.0
    """Seconds that each step takes."""
    holds: bool = False
    """Whether Charge waits for the test to say go."""
    refused: bool = False
    """Whether Ship is refused, so that the rest is undone."""


class Service(Step[Order]):
    """A step whose service keeps a ledger."""

    async def act(self, order: Order) -> None:
        step = current_step()
        await anyio.sleep(order.pause)
        if not Ledger(Path(order.folder) / "ledger").act(step.saga_id, step.step_name, step.act_key, step.fence):
            raise NotDone("its key was undone before")

    async def compensate(self, order: Order) -> None:
        step = current_step()
        Ledger(Path(order.folder) / "ledger").undo(step.saga_id, step.step_name, step.act_key, step.fence)


class Reserve(Service):
    """First."""


class Charge(Service):
    """Second; tells who it is, and waits, if it is to."""

    async def act(self, order: Order) -> None:
        if order.holds:
            step, folder = current_step(), Path(order.folder)
            (folder / f"{step.saga_id}.{step.fence}.{os.getpid()}").touch()
            while not (folder / f"{step.saga_id}.go").exists():  # noqa: ASYNC110 - another process makes it
                await anyio.sleep(0.01)
        await super().act(order)


class Ship(Service):
    """Third."""

    async def act(self, order: Order) -> None:
        if order.refused:
            raise NotDone("no courier")
        await super().act(order)


class OrderSaga(Saga[Order]):
    """Three steps."""

    name = "fleet-order"
    steps = (Reserve, Charge, Ship)
    compensate_retry = Retry(attempts=20, delay=0.05)
    grace = 1.0


async def _open(storage: SQLAlchemyStorage) -> None:
    """Try again, as whoever starts services would: one that is paused while it opens the store is cut off from it."""
    while True:
        with suppress(StorageUnavailable):
            await storage.open()
            return


async def main(address: str, prefix: str, lease: float) -> None:
    """Work until the process is ended."""
    storage = SQLAlchemyStorage(address, table_prefix=prefix, lease=lease)
    await _open(storage)
    async with storage:
        await SagaWorker([OrderSaga], storage=storage, concurrency=5, poll=0.1).run()


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, filename=Path(sys.argv[3]) / f"log.{os.getpid()}")
    anyio.run(main, sys.argv[1], sys.argv[2], float(sys.argv[4]), backend=sys.argv[5])
