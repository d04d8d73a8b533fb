"""A process of its own: completes sagas, and relays their events into a file, until it is killed."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

import anyio
from paid_orders import Order, Pay

from anysaga import Saga, SQLAlchemyStorage
from anysaga.abc import Message, Publisher
from anysaga.events import EventRelay


class OrderSaga(Saga[Order]):
    name = "order"
    steps = [Pay]


class File(Publisher):
    """Writes ids into a file, and may be killed before it does, or after."""

    def __init__(self, path: Path, dies: str) -> None:
        self.path = path
        self.dies = dies

    async def publish(self, messages: Sequence[Message], /) -> Sequence[Exception | None]:
        if self.dies == "before":
            die()
        with self.path.open("a") as file:
            file.writelines(f"{message.id}\n" for message in messages)
            file.flush()
            os.fsync(file.fileno())
        if self.dies == "after":
            die()
        return [None for _ in messages]


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


async def main(directory: Path, dies: str) -> None:
    async with SQLAlchemyStorage(directory / "sagas.db") as storage:
        for number in range(3):
            await OrderSaga(storage=storage).run(Order(number), saga_id=f"o{number}")
        if dies == "committed":
            die()
        await EventRelay(storage, publisher=File(directory / "arrived", dies)).deliver_due()


if __name__ == "__main__":
    anyio.run(main, Path(sys.argv[1]), sys.argv[2])
