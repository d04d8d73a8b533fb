"""An order kept in a storage of one's own, written by the contract in `anysaga.abc` alone.

You see the saga of `order.py` run on the `FolderStorage` of `folder_storage.py`, which keeps a JSON file and relies on
locks of the operating system, and then what the log in that file says. Not for Windows, which has other locks.
"""

from argparse import ArgumentParser
from pathlib import Path

import anyio
from folder_storage import FolderStorage
from order import Order, OrderSaga

FOLDER = Path("orders").absolute()


async def main() -> None:
    async with FolderStorage(FOLDER) as storage:
        result = await OrderSaga(storage=storage).run(Order(["tea"], "full"))
        print(f"{result.saga_id}: {result.state}, kept in {FOLDER}")
        for entry in (await storage.load(result.saga_id)).entries:
            print(f"  {entry.seq} {entry.kind} {entry.path} {entry.response or ''}")


if __name__ == "__main__":
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--backend", choices=["asyncio", "trio"], default="asyncio")
    anyio.run(main, backend=parser.parse_args().backend)
