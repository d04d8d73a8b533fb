"""Processes that start at once on an empty database: the tables are created once, and everybody can work."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import pytest
import sqlalchemy as sa
from server_stores import DRIVERS, Server

from anysaga import StorageUnavailable
from anysaga.storages import SQLAlchemyStorage
from anysaga.storages.sql._mysql import _LOCK
from anysaga.storages.sql._tables import SCHEMA_VERSION

CREATORS = 6


def _open_at_once(new_storage: Callable[[], SQLAlchemyStorage]) -> list[Exception]:
    """Open stores in threads, each with connections of its own. Returns what they raised."""
    storages = [new_storage() for _ in range(CREATORS)]
    barrier, errors = threading.Barrier(CREATORS), list[Exception]()

    def open_one(storage: SQLAlchemyStorage) -> None:
        barrier.wait()
        try:
            storage._core.open()
        except Exception as error:  # noqa: BLE001  # for the test to look at
            errors.append(error)
        finally:
            storage._core.close()

    threads = [threading.Thread(target=open_one, args=[storage]) for storage in storages]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return errors


@pytest.mark.parametrize("driver", DRIVERS)
def test_all_who_open_an_empty_server_succeed(driver: str, server_of: Callable[[str], Server]) -> None:
    server = server_of(driver)
    for _ in range(2):
        server.drop()
        assert _open_at_once(server.twin) == []
        with server.engine.connect() as connection:
            assert connection.scalars(sa.select(server.tables.meta.c.value)).all() == [SCHEMA_VERSION]


@pytest.mark.parametrize("kind", ["sqlite", "sqlite+aiosqlite"])
def test_all_who_open_a_new_file_succeed(kind: str, tmp_path: Path) -> None:
    for number in range(3):
        address = f"{kind}:///{tmp_path / str(number)}.db"
        assert _open_at_once(lambda address=address: SQLAlchemyStorage(address)) == []  # type: ignore[misc]


def test_mysql_lets_the_next_one_at_the_tables_once_what_was_done_can_be_seen(
    server_of: Callable[[str], Server],
) -> None:
    """The lock there is one of the connection, which lives as long as its store."""
    server = server_of("pymysql")
    storage, meta, seen = server.twin(), server.tables.meta, list[object]()

    def work(connection: sa.Connection) -> None:
        with storage._core.database.alone(connection):
            connection.execute(sa.insert(meta), {"name": "law", "value": 1})
        with server.engine.begin() as other:
            seen.append(other.scalar(sa.select(sa.func.is_free_lock(_LOCK))))
            seen.append(other.execute(sa.delete(meta).where(meta.c.name == "law")).rowcount)

    try:
        storage._core.open()
        storage._core.writer.run(work)
    finally:
        storage._core.close()
    assert seen == [1, 1]


def test_mysql_completes_tables_whose_creation_died_in_the_middle(server_of: Callable[[str], Server]) -> None:
    """Nothing of it is undone there, and each index is a statement of its own."""
    server = server_of("pymysql")
    server.create()
    complete, tables = _layout(server), server.tables
    with server.engine.begin() as connection:
        connection.execute(sa.delete(tables.meta))
        tables.entries.drop(connection)
        for index in tables.sagas.indexes:
            index.drop(connection)
    assert _open_at_once(server.twin) == []
    assert _layout(server) == complete


def _layout(server: Server) -> dict[str, set[str]]:
    """The tables and their indexes, and what is known about them all."""
    inspector = sa.inspect(server.engine)
    with server.engine.connect() as connection:
        version = {str(row) for row in connection.execute(sa.select(server.tables.meta))}
    return {"version": version} | {
        table.name: {str(index["name"]) for index in inspector.get_indexes(table.name)}
        for table in server.tables.metadata.sorted_tables
        if inspector.has_table(table.name)
    }


def test_who_waits_too_long_for_the_creator_of_mysqls_tables_is_told(server_of: Callable[[str], Server]) -> None:
    """And makes none beside it."""
    server = server_of("pymysql")
    server.drop()
    storage = server.twin(busy_timeout=0)
    try:
        with server.engine.connect() as creator:
            creator.scalar(sa.select(sa.func.get_lock(_LOCK, 0)))
            with pytest.raises(StorageUnavailable, match="another process is still creating its tables"):
                storage._core.open()
        assert not sa.inspect(server.engine).has_table(server.tables.meta.name)
    finally:
        storage._core.close()
