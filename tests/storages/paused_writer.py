"""A process that stops inside a write transaction. Arguments: address, table prefix, lease in seconds."""

from __future__ import annotations

import math
import signal
import sys
from typing import Any

import anyio

from anysaga import AnysagaError, StorageUnavailable
from anysaga._records import EntryKind
from anysaga.storages import SQLAlchemyStorage
from anysaga.testing._storage._harness import created, entry, write


async def main(address: str, prefix: str, lease: float) -> None:
    """Stop when a write is carried out and not yet committed; once continued, tell what became of it."""
    storage = SQLAlchemyStorage(address, table_prefix=prefix, lease=lease)
    claim = await created(storage)
    operations: Any = storage._core.operations
    release = operations.release
    stops = [signal.SIGSTOP]

    def release_and_stop(*arguments: Any) -> None:  # what comes last in each batch
        release(*arguments)
        while stops:
            signal.raise_signal(stops.pop())  # to this thread: it must not come to the commit before it stops

    operations.release = release_and_stop
    storage._core.writer._good_at = -math.inf  # as after a while: else it may be a statement without a transaction
    for _ in range(3):  # as the journal sends a write again of which nothing was heard
        try:
            await storage.record(write(claim, entry(2, EntryKind.DONE)))
        except AnysagaError as error:
            sys.stdout.write(f"{type(error).__name__}\n")
            if not isinstance(error, StorageUnavailable):
                break
    await storage.aclose()


if __name__ == "__main__":
    anyio.run(main, sys.argv[1], sys.argv[2], float(sys.argv[3]))
