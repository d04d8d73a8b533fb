"""What a disk can do to a store: an error of ours or a wait, and nothing lost."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import closing
from pathlib import Path

import anyio
import pytest
from attrs import define, field

from anysaga import Saga, SagaState, Step, recover_saga
from anysaga._errors import StorageError, StorageUnavailable
from anysaga._records import EntryKind
from anysaga.storages import SQLAlchemyStorage
from anysaga.testing._storage._harness import created, entry, new_saga, write

pytestmark = [pytest.mark.anyio, pytest.mark.parametrize("kind", ["sqlite", "sqlite+aiosqlite"])]


@pytest.fixture
async def storage(tmp_path: Path, kind: str) -> AsyncIterator[SQLAlchemyStorage]:
    async with SQLAlchemyStorage(f"{kind}:///{tmp_path / 'orders.db'}", busy_timeout=30.0) as storage:
        yield storage


def _on_disk(file: Path) -> list[tuple[str, int]]:
    with closing(sqlite3.connect(file)) as reader:
        return reader.execute("SELECT state, seq FROM anysaga_sagas ORDER BY id").fetchall()


def _limit_pages(storage: SQLAlchemyStorage, pages: int) -> None:
    storage._core.writer.run(lambda connection: connection.exec_driver_sql(f"PRAGMA max_page_count = {pages}"))


async def test_a_disk_that_fills_up_stops_at_a_whole_write(storage: SQLAlchemyStorage, tmp_path: Path) -> None:
    claim = await created(storage)
    _limit_pages(storage, 40)
    text = f'"{"x" * 4000}"'
    seq = 1
    with pytest.raises(StorageUnavailable, match="full"):
        for seq in range(2, 100):
            await storage.record(write(claim, entry(seq, EntryKind.DONE, response=text)))
    assert _on_disk(tmp_path / "orders.db") == [("RUNNING", seq - 1)]
    with pytest.raises(StorageUnavailable, match="full"):
        await storage.create(new_saga("other", context=text * 50))
    _limit_pages(storage, 1_000_000)
    await storage.record(write(claim, entry(seq, EntryKind.DONE, response=text)))
    assert len((await storage.load("saga-1")).entries) == seq


async def test_a_store_turned_read_only_says_so_and_comes_back(storage: SQLAlchemyStorage, tmp_path: Path) -> None:
    claim = await created(storage)
    _set_query_only(storage, on=True)
    with pytest.raises(StorageError, match="read-only"):
        await storage.record(write(claim, entry(2, EntryKind.DONE)))
    assert _on_disk(tmp_path / "orders.db") == [("RUNNING", 1)]
    _set_query_only(storage, on=False)
    await storage.record(write(claim, entry(2, EntryKind.DONE)))


def _set_query_only(storage: SQLAlchemyStorage, *, on: bool) -> None:
    _say(storage, f"PRAGMA query_only = {on}")


def _say(storage: SQLAlchemyStorage, statement: str) -> None:
    """Execute a statement on the connection that writes, outside of any transaction."""
    connection = storage._core.writer._connection
    assert connection is not None
    driver = connection.connection.dbapi_connection
    assert driver is not None
    storage._core.database.host.call(lambda: driver.cursor().execute(statement))


async def test_a_lock_held_for_a_while_is_waited_for(storage: SQLAlchemyStorage, tmp_path: Path) -> None:
    claim = await created(storage)
    recorded: list[int] = []

    async def record() -> None:
        recorded.append(await storage.record(write(claim, entry(2, EntryKind.DONE))))

    with closing(sqlite3.connect(tmp_path / "orders.db", isolation_level=None)) as rival:
        rival.execute("BEGIN IMMEDIATE")
        async with anyio.create_task_group() as group:
            group.start_soon(record)
            await anyio.wait_all_tasks_blocked()
            assert recorded == []
            rival.execute("COMMIT")
    assert _on_disk(tmp_path / "orders.db") == [("RUNNING", 2)]


def _delete_wal(file: Path) -> None:
    for suffix in ("-wal", "-shm"):
        file.with_name(file.name + suffix).unlink()


def _replace_by_a_letter(file: Path) -> None:
    _delete_wal(file)
    file.unlink()
    file.write_text("this is a letter, not a database; " * 100)


@pytest.mark.parametrize("harm", [_delete_wal, _replace_by_a_letter])
async def test_files_taken_away_are_an_error_of_ours_at_worst(
    tmp_path: Path, kind: str, harm: Callable[[Path], None]
) -> None:
    """What SQLite makes of it is its own affair; no driver's error comes through, and nobody hangs."""
    file = tmp_path / "orders.db"
    storage = SQLAlchemyStorage(f"{kind}:///{file}", busy_timeout=0.0)
    claim = await created(storage)
    harm(file)
    for seq in (2, 3):
        try:
            await storage.record(write(claim, entry(seq, EntryKind.DONE)))
            await storage.load("saga-1")
        except StorageError:
            break
    await storage.aclose()


async def test_a_wal_left_by_a_crash_is_read_and_without_it_what_was_checkpointed(tmp_path: Path, kind: str) -> None:
    """The WAL belongs to the file: with it nothing is lost; without it the store still opens, at an older moment."""
    file = tmp_path / "orders.db"
    storage = SQLAlchemyStorage(f"{kind}:///{file}")
    claim = await created(storage)
    _say(storage, "PRAGMA wal_checkpoint(TRUNCATE)")
    await storage.record(write(claim, entry(2, EntryKind.DONE)))
    _copy(file, tmp_path / "with.db", "", "-wal")
    _copy(file, tmp_path / "without.db", "")
    await storage.aclose()
    for name, seq in (("with", 2), ("without", 1)):
        async with SQLAlchemyStorage(f"{kind}:///{tmp_path / name}.db") as copied:
            assert (await copied.load("saga-1")).summary.seq == seq


def _copy(file: Path, target: Path, *suffixes: str) -> None:
    for suffix in suffixes:
        target.with_name(target.name + suffix).write_bytes(file.with_name(file.name + suffix).read_bytes())


@define
class Order:
    papers: list[str] = field(factory=list)


class Print(Step[Order]):
    """Fills the context, and with it the disk."""

    async def act(self, order: Order) -> None:
        order.papers.append("x" * 40_000)

    async def compensate(self, order: Order) -> None:
        order.papers.pop()


class PrintAgain(Print):
    """As `Print`."""


class PrintLast(Print):
    """As `Print`."""


async def test_a_saga_on_a_full_disk_is_neither_lost_nor_undone(storage: SQLAlchemyStorage, tmp_path: Path) -> None:
    """The store's error is the caller's; the saga stays where it was, and goes on once there is room."""
    saga = Saga[Order](name="order", steps=[Print, PrintAgain, PrintLast], storage=storage)
    await storage.open()
    pages = storage._core.reader.run(lambda connection: connection.exec_driver_sql("PRAGMA page_count").scalar())
    _limit_pages(storage, int(pages or 0) + 12)
    with pytest.raises(StorageUnavailable, match="full"):
        await saga.run(Order(), saga_id="o")
    assert _on_disk(tmp_path / "orders.db") in ([("RUNNING", 1)], [("RUNNING", 3)])
    _limit_pages(storage, 1_000_000)
    await storage.find()  # the claim is given back with the next transaction, or by the heartbeat before it
    with anyio.fail_after(30):
        while (await storage.load("o")).summary.owner is not None:
            storage._core.lease.beat()
    result = await recover_saga(saga, "o")
    assert result.state is SagaState.COMPLETED
    assert len(result.context.papers) == 3
