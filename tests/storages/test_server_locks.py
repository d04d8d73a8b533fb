"""What a transaction on a server locks: the sagas that it writes, and never the lease, which others may wait for."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import sqlalchemy as sa
from server_stores import Server
from test_group_commit import together

from anysaga._errors import StaleFence, StorageError
from anysaga._records import Claim, EntryKind
from anysaga.storages.sql._group import Group
from anysaga.storages.sql._postgresql import PostgreSQLDatabase
from anysaga.storages.sql._writes import Writes
from anysaga.testing._storage._harness import created, entry, new_saga, write

pytestmark = pytest.mark.anyio


def _free(server: Server, table: sa.Table) -> list[str]:
    """The ids of the rows of a table that nobody has locked."""
    with server.engine.begin() as connection:
        query = sa.select(table.c.id).order_by(table.c.id).with_for_update(skip_locked=True)
        return list(connection.scalars(query))


async def test_sagas_that_a_batch_has_looked_at_are_locked_until_it_is_committed(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else somebody could claim one in between, and its log would get the entries of its former owner."""
    free: list[list[str]] = []
    record_all = Writes.record_all

    def look_and_record(self: Writes, *arguments: Any) -> Any:
        free.append(_free(server, server.tables.sagas))
        return record_all(self, *arguments)

    monkeypatch.setattr(Writes, "record_all", look_and_record)
    async with server.new_storage() as storage:
        claims = [await created(storage, f"saga-{number}") for number in range(3)]
        lost = Claim(claims[1].record, 7, 0)  # so that the batch is looked at
        storage._core.writer._good_at = -math.inf  # as after a while: else it may be one statement
        writes = [write(claim, entry(2, EntryKind.DONE)) for claim in (claims[0], lost)]
        results = await together(storage, *(partial(storage.record, each) for each in writes))
    assert [type(result) for result in results] == [int, StaleFence]
    assert free == [["saga-2"]]


async def test_sagas_that_somebody_else_has_locked_hold_up_no_other(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The others of their batch are durable before those are waited for."""
    sagas = server.tables.sagas
    seen: list[tuple[int, int]] = []
    commit_each = Group._commit_each
    async with server.new_storage(busy_timeout=1.0) as storage:
        claims = [await created(storage, f"saga-{number}") for number in range(3)]
        storage._core.writer._good_at = -math.inf
        with server.engine.connect() as other:
            for saga_id in ("saga-1", "saga-2"):  # one by one: MySQL locks all that it looks at, in a small table all
                other.execute(sa.select(sagas.c.id).where(sagas.c.id == saga_id).with_for_update()).all()

            def look_and_commit_each(self: Group, slots: Any) -> None:
                if slots:
                    with server.engine.connect() as third:
                        seq = third.scalar(sa.select(sagas.c.seq).where(sagas.c.id == "saga-0"))
                    seen.append((len(slots), seq or 0))
                    other.rollback()
                commit_each(self, slots)

            monkeypatch.setattr(Group, "_commit_each", look_and_commit_each)
            results = await together(
                storage,
                *(partial(storage.record, write(claim, entry(2, EntryKind.DONE))) for claim in claims[:2]),
                partial(storage.release, claims[2]),
            )
        summaries = await storage.find()
    assert seen == [(2, 2)]
    assert [type(result) for result in results] == [int, int, type(None)]
    assert [(summary.seq, summary.owner is None) for summary in summaries] == [(2, False), (2, False), (1, True)]


@pytest.mark.parametrize("good_at", [math.inf, -math.inf], ids=["one statement", "a transaction"])
@pytest.mark.parametrize("driver", ["psycopg", "asyncpg"])
async def test_postgresql_leaves_out_what_others_have_locked_without_waiting_for_it(
    server_of: Callable[[str], Server], monkeypatch: pytest.MonkeyPatch, driver: str, good_at: float
) -> None:
    """All sagas of the process would wait with it; and once that took too long, the batch would be looked at anew."""
    server = server_of(driver)
    sagas = server.tables.sagas
    met: list[Exception] = []
    blames_a_row, record_one = PostgreSQLDatabase.blames_a_row, Writes.record_one

    def listen(self: PostgreSQLDatabase, error: Exception) -> bool:
        met.append(error)
        return blames_a_row(self, error)

    monkeypatch.setattr(PostgreSQLDatabase, "blames_a_row", listen)
    async with server.new_storage(busy_timeout=0.5) as storage:
        claims = [await created(storage, f"saga-{number}") for number in range(3)]
        storage._lease.stop()
        storage._core.writer._good_at = good_at
        with server.engine.connect() as other:
            other.execute(sa.select(sagas.c.id).where(sagas.c.id == "saga-1").with_for_update()).all()

            def let_go_and_record(self: Writes, *arguments: Any) -> Any:
                other.rollback()
                return record_one(self, *arguments)

            monkeypatch.setattr(Writes, "record_one", let_go_and_record)
            writes = (write(claim, entry(2, EntryKind.DONE)) for claim in claims)
            results = await together(storage, *(partial(storage.record, each) for each in writes))
    assert [type(result) for result in results] == [int, int, int]
    assert not [error for error in met if isinstance(error, StorageError)]


async def test_sagas_begin_with_a_lease_that_was_renewed_before_and_no_batch_locks_it(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    free: list[list[str]] = []
    insert = Writes.insert

    def look_and_insert(self: Writes, *arguments: Any) -> Any:
        free.append(_free(server, server.tables.owners))
        return insert(self, *arguments)

    async with server.new_storage() as storage:
        await created(storage)
        lease = storage._lease
        lease.stop()
        lease.owner.renewed = lease._clock.monotonic() - lease.span + lease.interval
        monkeypatch.setattr(Writes, "insert", look_and_insert)
        await storage.create(new_saga("saga-2"))
        assert free == [[lease.owner.id]]
        assert lease.is_young(lease.owner)
