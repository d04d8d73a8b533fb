"""The library's asyncio thread: one for all, out of every caller's reach, and no burden at the end."""

from __future__ import annotations

import gc
import subprocess
import sys
import threading
import weakref
from pathlib import Path

import anyio
import pytest

from anysaga._client_loop import ClientLoop
from anysaga._errors import StorageClosed
from anysaga._records import EntryKind
from anysaga.storages import SQLAlchemyStorage
from anysaga.storages.sql._hosts import AsyncioThread, asyncio_thread, calling_thread
from anysaga.testing._storage._harness import created, entry, write

pytestmark = pytest.mark.anyio


def _address(directory: Path, name: str = "orders") -> str:
    return f"sqlite+aiosqlite:///{directory / name}.db"


def _driver_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "anysaga-drivers"]


async def test_all_storages_share_one_thread(tmp_path: Path) -> None:
    async with SQLAlchemyStorage(_address(tmp_path)) as first, SQLAlchemyStorage(_address(tmp_path, "x")) as second:
        await created(first)
        await created(second)
        (thread,) = _driver_threads()
        assert thread.daemon


async def test_drivers_that_block_need_none(tmp_path: Path) -> None:
    storage = SQLAlchemyStorage(tmp_path / "orders.db")
    assert storage._core.database.host is calling_thread
    assert SQLAlchemyStorage(_address(tmp_path))._core.database.host is asyncio_thread


async def test_the_thread_starts_at_the_first_call(tmp_path: Path) -> None:
    loop = ClientLoop()
    host = AsyncioThread(loop)
    host.post(list)  # a finalizer starts nothing
    assert "anysaga-drivers" not in str(loop._thread)
    assert await anyio.to_thread.run_sync(host.call, threading.current_thread) is loop._thread
    loop.stop()
    host.post(list)
    with pytest.raises(StorageClosed):
        host.call(list)


async def test_a_call_returns_and_raises_what_the_function_does() -> None:
    assert asyncio_thread.call(lambda: 7) == 7
    asyncio_thread.call(lambda: asyncio_thread.sleep(0))
    with pytest.raises(ZeroDivisionError):
        asyncio_thread.call(lambda: 1 // 0)


async def test_many_loops_and_threads_use_one_storage(tmp_path: Path) -> None:
    storage = SQLAlchemyStorage(_address(tmp_path))
    backends = ["asyncio", "trio"] * 3

    async def drive(saga_id: str) -> None:
        claim = await created(storage, saga_id)
        for seq in range(2, 8):
            await storage.record(write(claim, entry(seq, EntryKind.DONE)))

    threads = [
        threading.Thread(target=lambda n=n, backend=backend: anyio.run(drive, f"saga-{n}", backend=backend))
        for n, backend in enumerate(backends)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        await anyio.to_thread.run_sync(thread.join)
    assert [summary.seq for summary in await storage.find()] == [7] * len(backends)
    await storage.aclose()


async def test_a_storage_that_nobody_uses_any_more_lets_go_of_its_connections(tmp_path: Path) -> None:
    storage = SQLAlchemyStorage(_address(tmp_path))
    await created(storage)
    writer, core = storage._core.writer, weakref.ref(storage._core)
    del storage
    with anyio.fail_after(60):
        while core() is not None:  # its threads let go of it some time after they have answered
            await anyio.to_thread.run_sync(gc.collect)
        while writer._connection is not None:
            await anyio.lowlevel.checkpoint()


UNCLOSED = """
import sys
import anyio
from anysaga.storages import SQLAlchemyStorage
from anysaga.testing._storage._harness import created

async def main():
    global storage
    storage = SQLAlchemyStorage(sys.argv[1])
    await created(storage)

anyio.run(main, backend=sys.argv[2])
print("done")
"""


async def test_an_unclosed_storage_does_not_hang_the_interpreter(tmp_path: Path, anyio_backend_name: str) -> None:
    command = [sys.executable, "-c", UNCLOSED, _address(tmp_path), anyio_backend_name]
    run = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)  # noqa: ASYNC221
    assert (run.stdout, run.stderr) == ("done\n", "")


WITHOUT_GREENLET = """
import sys
sys.modules["greenlet"] = None
from anysaga.storages import SQLAlchemyStorage
try:
    SQLAlchemyStorage("sqlite+aiosqlite:///orders.db")
except ImportError as error:
    print(error)
SQLAlchemyStorage("sqlite:///orders.db")
"""


async def test_without_greenlet_the_extra_is_named() -> None:
    command = [sys.executable, "-c", WITHOUT_GREENLET]
    run = subprocess.run(command, capture_output=True, text=True, check=True)  # noqa: ASYNC221
    assert "needs greenlet: pip install 'anysaga[sql]'" in run.stdout
