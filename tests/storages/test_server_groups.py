"""Group commit on servers: one saga's conflict or bad row fails that saga alone. The laws are those of SQLite."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Callable
from functools import partial
from time import monotonic
from typing import Any

import psycopg
import pytest
import sqlalchemy as sa
from server_stores import Server
from sqlalchemy import event
from test_group_commit import (
    commits,
    test_a_bad_row_fails_its_saga_alone,
    test_a_claim_from_a_batch_is_what_is_stored,
    test_a_conflict_fails_its_saga_alone,
    test_an_id_that_is_taken_is_taken_in_a_batch_too,
    test_an_unknown_saga_fails_alone,
    test_releases_and_ends_go_with_the_rest,
    test_sagas_at_once_share_a_commit,
    test_the_same_write_again_is_a_success,
    together,
)

from anysaga._errors import NotStorable, SagaAlreadyRunning
from anysaga._limits import MAX_CONTEXT_BYTES
from anysaga._records import Claim, EntryKind
from anysaga.storages import SQLAlchemyStorage
from anysaga.storages.sql._at_once import AtOnce, Written
from anysaga.storages.sql._server import driver_of
from anysaga.testing._storage._harness import created, entry, new_saga, write

__all__ = [
    "commits",
    "test_a_bad_row_fails_its_saga_alone",
    "test_a_claim_from_a_batch_is_what_is_stored",
    "test_a_conflict_fails_its_saga_alone",
    "test_an_id_that_is_taken_is_taken_in_a_batch_too",
    "test_an_unknown_saga_fails_alone",
    "test_releases_and_ends_go_with_the_rest",
    "test_sagas_at_once_share_a_commit",
    "test_the_same_write_again_is_a_success",
]

pytestmark = pytest.mark.anyio


@pytest.fixture
async def storage(server: Server) -> AsyncIterator[SQLAlchemyStorage]:
    async with server.new_storage() as storage:
        await storage.find()
        storage._lease.stop()  # its commits would be counted, too
        yield storage


@pytest.fixture(params=["psycopg", "asyncpg"])
async def on_postgres(
    request: pytest.FixtureRequest, server_of: Callable[[str], Server]
) -> AsyncIterator[SQLAlchemyStorage]:
    """A store that can write a batch in one statement."""
    async with server_of(request.param).new_storage() as storage:
        yield storage


async def test_a_batch_is_one_statement_however_many_sagas_it_has(
    on_postgres: SQLAlchemyStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []
    claims = [await created(on_postgres, f"saga-{number}") for number in range(5)]
    send = AtOnce.write

    def listen(self: AtOnce, connection: sa.Connection, new: list[Any], writes: list[Any], owner: str) -> Written:
        sizes.append(len(writes))
        return send(self, connection, new, writes, owner)

    monkeypatch.setattr(AtOnce, "write", listen)
    writes = (write(claim, entry(2, EntryKind.DONE)) for claim in claims)
    await together(on_postgres, *(partial(on_postgres.record, each) for each in writes))
    assert sizes == [5]


async def test_a_saga_that_begins_and_a_write_are_one_message_each(
    server_of: Callable[[str], Server], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A message is what psycopg executes, or a commit, and none is sent by itself."""
    said: list[str] = []
    async with server_of("psycopg").new_storage() as storage:
        await created(storage, "before")  # enters the owner, too
        storage._lease.stop()
        execute: Any = psycopg.RawCursor.execute

        def listen(self: Any, query: str, *arguments: Any) -> Any:
            said.append(query.split(maxsplit=1)[0])
            return execute(self, query, *arguments)

        with monkeypatch.context() as patch:
            patch.setattr(psycopg.RawCursor, "execute", listen)
            await storage.record(write(await created(storage), entry(2, EntryKind.DONE)))
    assert said == ["WITH", "WITH"]


async def test_a_batch_may_be_larger_than_what_mysql_takes_at_once(server_of: Callable[[str], Server]) -> None:
    """A server that reads a longer statement breaks the connection; and would again when the same is sent again."""
    large = f'"{"x" * (MAX_CONTEXT_BYTES - 2)}"'
    names = [f"saga-{number}" for number in range(132)]  # of 256 KiB; the limit is 16 MiB
    async with server_of("pymysql").new_storage() as storage:
        await storage.find()
        claims = await together(storage, *(partial(storage.create, new_saga(name, context=large)) for name in names))
        assert {type(claim) for claim in claims} == {Claim}
        writes = [write(claim, entry(2, EntryKind.DONE, context=large)) for claim in claims if isinstance(claim, Claim)]
        moments = await together(storage, *(partial(storage.record, each) for each in writes))
        assert {type(moment) for moment in moments} == {int}


def test_a_statement_of_mysql_may_take_longer_than_connecting(server_of: Callable[[str], Server]) -> None:
    """PyMySQL has one limit for both; it would break whoever waits for a lock, or brings large tables forward."""
    core = server_of("pymysql").twin()._core
    core.open()
    try:
        driver = core.writer.run(driver_of)
    finally:
        core.close()
    assert (driver._read_timeout, driver._write_timeout) == (None, None)


async def test_after_a_while_a_batch_is_no_single_statement(
    on_postgres: SQLAlchemyStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The connection may have died, and nobody could tell whether the statement took effect."""
    await created(on_postgres)
    writer = on_postgres._core.writer
    assert writer.is_warm
    monkeypatch.setattr("anysaga.storages.sql._runner.monotonic", lambda: monotonic() + 5.0)
    assert not writer.is_warm


@pytest.mark.parametrize("change", [{"expires_at": 0}, {"dead": 1}], ids=["expired", "dead"])
async def test_no_saga_begins_for_an_owner_whose_lease_ran_out_unheard(server: Server, change: dict[str, int]) -> None:
    """As on a machine that slept, whose own clock did not: the saga would be taken at once, and run twice."""
    async with server.new_storage() as storage, server.twin() as other:
        await created(storage)
        storage._lease.stop()
        with server.engine.begin() as connection:
            connection.execute(sa.update(server.tables.owners).values(change))
        assert storage._lease.is_young(storage._lease.owner)
        await storage.confirm(await created(storage, "saga-2"))
        with pytest.raises(SagaAlreadyRunning):
            await other.claim("saga-2")


async def test_a_saga_that_begins_in_one_statement_is_stored_as_its_claim_says(
    on_postgres: SQLAlchemyStorage,
) -> None:
    await created(on_postgres)  # enters the owner, which takes more than one
    claim = await created(on_postgres, "saga-2", timeout=9.0)
    assert claim.record == await on_postgres.load("saga-2")


async def test_what_json_cannot_say_is_stored_nevertheless(on_postgres: SQLAlchemyStorage) -> None:
    claim = await created(on_postgres)
    await on_postgres.record(write(claim, entry(2, EntryKind.DONE, duration=math.inf)))
    assert (await on_postgres.load("saga-1")).entries[-1].duration == math.inf


@pytest.mark.parametrize(
    ("driver", "bad"),
    [("psycopg", {"response": '"\0"'}), ("asyncpg", {"response": '"\0"'}), ("pymysql", {"duration": math.inf})],
)
async def test_what_the_server_cannot_keep_is_not_storable_and_fails_its_saga_alone(
    server_of: Callable[[str], Server], driver: str, bad: dict[str, Any]
) -> None:
    """Also where the driver refuses it without a code of the server."""
    async with server_of(driver).new_storage() as storage:
        good, other = await created(storage, "good"), await created(storage, "other")
        writes = [write(good, entry(2, EntryKind.DONE)), write(other, entry(2, EntryKind.DONE, **bad))]
        results = await together(storage, *(partial(storage.record, each) for each in writes))
    assert [type(result) for result in results] == [int, NotStorable]


@pytest.mark.parametrize("driver", ["psycopg", "asyncpg"])
async def test_a_text_that_no_server_keeps_is_no_fault_of_the_server(
    server_of: Callable[[str], Server], driver: str
) -> None:
    async with server_of(driver).new_storage() as storage:
        with pytest.raises(NotStorable):
            await storage.load("saga\0")


async def test_psycopg_begins_each_transaction_once(server_of: Callable[[str], Server]) -> None:
    """The server warns of a second BEGIN, which would be a message too many besides."""
    said: list[str | None] = []
    server = server_of("psycopg")
    engine = sa.create_engine(server.url)

    @event.listens_for(engine, "connect")
    def listen(driver: Any, _record: object) -> None:  # pyright: ignore[reportUnusedFunction]
        driver.add_notice_handler(lambda notice: said.append(notice.message_primary))

    server.create()
    server.empty()
    async with SQLAlchemyStorage(engine, table_prefix=server.prefix) as storage:
        await created(storage, "saga-1")
        await storage.find()
    engine.dispose()
    assert said == []
