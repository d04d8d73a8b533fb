"""A failure leaves as one of our errors with its cause, and leaves the store usable."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from anysaga._errors import CorruptRecord, NotStorable, StorageUnavailable
from anysaga._records import EntryKind, SagaState
from anysaga.storages import SQLAlchemyStorage
from anysaga.storages.sql._runner import Runner
from anysaga.testing._storage._harness import created, entry, freed, ids, new_saga, write

pytestmark = pytest.mark.anyio


@pytest.fixture(params=["sqlite", "sqlite+aiosqlite"])
async def storage(tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[SQLAlchemyStorage]:
    async with SQLAlchemyStorage(f"{request.param}:///{tmp_path / 'orders.db'}", busy_timeout=0.05) as storage:
        yield storage


@pytest.fixture
def rival(tmp_path: Path, storage: SQLAlchemyStorage) -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(tmp_path / "orders.db", isolation_level=None)) as rival:
        yield rival


async def test_a_lock_that_is_held_too_long_is_unavailable(
    storage: SQLAlchemyStorage, rival: sqlite3.Connection
) -> None:
    claim = await created(storage)
    rival.execute("BEGIN IMMEDIATE")
    with pytest.raises(StorageUnavailable, match=r"more than 0\.05 s") as caught:
        await storage.record(write(claim, entry(2, EntryKind.DONE)))
    assert isinstance(caught.value.__cause__, sqlite3.OperationalError)
    assert (await storage.load("saga-1")).summary.seq == 1  # readers do not wait for writers
    rival.execute("ROLLBACK")
    await storage.record(write(claim, entry(2, EntryKind.DONE)))


async def test_who_waits_for_ages_does_not_wait_in_vain(tmp_path: Path) -> None:
    async with SQLAlchemyStorage(tmp_path / "sagas.db", busy_timeout=1e9) as storage:
        milliseconds = storage._core.writer.run(
            lambda connection: connection.exec_driver_sql("PRAGMA busy_timeout").scalar()
        )
    assert milliseconds == 2**31 - 1


async def test_opening_under_a_lock_is_unavailable_and_tried_again(tmp_path: Path, rival: sqlite3.Connection) -> None:
    rival.execute("BEGIN IMMEDIATE")
    second = SQLAlchemyStorage(tmp_path / "orders.db", busy_timeout=0.0)
    with pytest.raises(StorageUnavailable):
        await second.open()
    rival.execute("ROLLBACK")
    await second.open()
    await second.aclose()


async def test_deferred_work_waits_for_better_times(storage: SQLAlchemyStorage, rival: sqlite3.Connection) -> None:
    claim = await created(storage)
    storage._lease.stop()
    rival.execute("BEGIN IMMEDIATE")
    storage.defer(write(claim, entry(2, EntryKind.WITHDRAWN), release=True))
    for _ in range(2):
        with pytest.raises(StorageUnavailable):
            storage._lease.beat()
    rival.execute("ROLLBACK")
    storage._lease.beat()
    assert (await storage.load("saga-1")).summary.owner is None


async def test_a_release_that_failed_is_repeated(storage: SQLAlchemyStorage, rival: sqlite3.Connection) -> None:
    claim = await created(storage)
    storage._lease.stop()
    rival.execute("BEGIN IMMEDIATE")
    with pytest.raises(StorageUnavailable):
        await storage.release(claim)
    rival.execute("ROLLBACK")
    storage._lease.beat()
    assert (await storage.load("saga-1")).summary.owner is None


async def test_closing_runs_what_was_deferred(tmp_path: Path, storage: SQLAlchemyStorage) -> None:
    second = SQLAlchemyStorage(tmp_path / "orders.db")
    claim = await created(second)
    second._lease.stop()
    second.defer(write(claim, entry(2, EntryKind.WITHDRAWN), release=True))
    await second.aclose()
    assert (await storage.load("saga-1")).summary.seq == 2


async def test_closing_works_though_the_store_does_not(tmp_path: Path, rival: sqlite3.Connection) -> None:
    second = SQLAlchemyStorage(tmp_path / "orders.db", busy_timeout=0.0)
    claim = await created(second)
    rival.execute("BEGIN IMMEDIATE")
    await second.aclose()
    assert claim.lost


async def test_a_full_disk_is_told_as_such_and_changes_nothing(storage: SQLAlchemyStorage) -> None:
    claim = await created(storage)
    _limit_pages(storage, 1)
    huge = "x" * 5_000_000
    with pytest.raises(StorageUnavailable, match="full") as caught:
        await storage.record(write(claim, entry(2, EntryKind.DONE, response=huge)))
    assert isinstance(caught.value.__cause__, sqlite3.OperationalError)
    _limit_pages(storage, 1_000_000)
    await storage.record(write(claim, entry(2, EntryKind.DONE)))
    assert [each.response for each in (await storage.load("saga-1")).entries] == [None, None]


def _limit_pages(storage: SQLAlchemyStorage, pages: int) -> None:
    storage._core.writer.run(lambda connection: connection.exec_driver_sql(f"PRAGMA max_page_count = {pages}"))


async def test_a_connection_that_broke_while_it_was_idle_is_replaced_unseen(storage: SQLAlchemyStorage) -> None:
    claim = await created(storage)
    await storage.load("saga-1")
    for runner in (storage._core.writer, storage._core.reader):
        _break(runner, storage)
    await storage.record(write(claim, entry(2, EntryKind.DONE)))
    assert (await storage.load("saga-1")).summary.seq == 2


async def test_a_connection_that_breaks_twice_is_told(storage: SQLAlchemyStorage) -> None:
    await created(storage)
    runner = storage._core.writer

    def breaks(_: sa.Connection) -> None:
        _break(runner, storage, inside=True)
        raise sqlite3.OperationalError("gone")

    with pytest.raises(StorageUnavailable, match="gone"):
        runner.run(breaks)


def _break(runner: Runner, storage: SQLAlchemyStorage, *, inside: bool = False) -> None:
    assert runner._connection is not None
    driver = runner._connection.connection.dbapi_connection
    assert driver is not None
    if inside:
        driver.close()
    else:
        storage._core.database.host.call(driver.close)


async def test_a_commit_that_fails_leaves_no_transaction_open(
    storage: SQLAlchemyStorage, rival: sqlite3.Connection
) -> None:
    claim = await created(storage)
    storage._core.writer.run(
        lambda connection: connection.exec_driver_sql(
            "CREATE TABLE child (parent REFERENCES anysaga_sagas(id) DEFERRABLE INITIALLY DEFERRED)"
        )
    )
    connection = storage._core.writer._connection
    assert connection is not None
    driver: Any = connection.connection.dbapi_connection
    storage._core.database.host.call(lambda: driver.execute("PRAGMA foreign_keys = ON"))
    with pytest.raises(StorageUnavailable, match="FOREIGN KEY"):
        storage._core.writer.run(lambda connection: connection.exec_driver_sql("INSERT INTO child VALUES ('nobody')"))
    rival.execute("BEGIN IMMEDIATE")
    rival.execute("ROLLBACK")
    await storage.record(write(claim, entry(2, EntryKind.DONE)))


async def test_text_that_is_no_text_is_not_storable(storage: SQLAlchemyStorage) -> None:
    with pytest.raises(NotStorable):
        await storage.create(new_saga(context='"\ud800"'))
    claim = await created(storage)
    with pytest.raises(NotStorable):
        await storage.record(write(claim, entry(2, EntryKind.DONE, response='"\ud800"')))
    with pytest.raises(NotStorable):
        await storage.record(write(claim, entry(2, EntryKind.DONE, attempt=2**70)))
    await storage.record(write(claim, entry(2, EntryKind.DONE)))


DAMAGE = {
    "kind": "UPDATE anysaga_entries SET kind = 'WONDER' WHERE saga_id = 'bad'",
    "outcome": "UPDATE anysaga_entries SET outcome = 'MAYBE' WHERE saga_id = 'bad'",
    "log": "DELETE FROM anysaga_entries WHERE saga_id = 'bad'",
    "start": "DELETE FROM anysaga_starts WHERE saga_id = 'bad'",
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE.keys())
async def test_a_damaged_log_is_handed_over_with_its_problem(
    storage: SQLAlchemyStorage, rival: sqlite3.Connection, damage: str
) -> None:
    """The engine can then park that saga, a person can abandon it, and the others are claimed as ever."""
    for saga_id in ("a", "bad", "c"):
        await freed(storage, saga_id)
    rival.execute(damage)
    assert "damaged" in ((await storage.load("bad")).problem or "")
    claims = await storage.claim_due(["order"], 10)
    assert ids(claims) == ["a", "bad", "c"]
    assert [claim.record.problem is None for claim in claims] == [True, False, True]


async def test_a_damaged_row_parks_itself_only(storage: SQLAlchemyStorage, rival: sqlite3.Connection) -> None:
    """A saga whose row cannot be read is parked by the store, and does not stop the others."""
    for saga_id in ("a", "bad", "c"):
        await freed(storage, saga_id)
    rival.execute("UPDATE anysaga_sagas SET state = 'WONDER' WHERE id = 'bad'")
    with pytest.raises(CorruptRecord):
        await storage.load("bad")
    with pytest.raises(CorruptRecord):
        await storage.find()
    assert ids(await storage.claim_due(["order"], 10)) == ["a", "c"]
    (parked,) = await storage.find(states=[SagaState.PARKED])
    assert parked.saga_id == "bad"
    assert "damaged" in (parked.note or "")
    assert await storage.claim_due(["order"], 10) == []
