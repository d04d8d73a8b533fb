"""Stores on database servers: each test module has tables of its own, emptied for each test."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from uuid import uuid4

import sqlalchemy as sa

from anysaga.storages import SQLAlchemyStorage
from anysaga.storages.sql._tables import Tables

DRIVERS = {"psycopg": "postgres", "asyncpg": "postgres", "pymysql": "mysql"}
"""The services that the drivers speak to."""

_BLOCKING = {"asyncpg": "psycopg"}


class ServerStorage(SQLAlchemyStorage):
    """Remembers where it is, for twins and for tests that look into its tables."""

    def __init__(self, server: Server, **options: object) -> None:
        self.server = server
        self.label = uuid4().hex
        super().__init__(server.url, table_prefix=server.prefix, label=self.label, **options)  # type: ignore[arg-type]


class Server:
    """One database, by one driver, and the tables of one prefix in it."""

    def __init__(self, address: str, driver: str, prefix: str) -> None:
        self.prefix = prefix
        self.url = _with_driver(address, driver)
        self.engine = sa.create_engine(_with_driver(address, _BLOCKING.get(driver, driver)), poolclass=sa.NullPool)
        self.tables = Tables(prefix)

    def new_storage(self, **options: object) -> ServerStorage:
        """Make a store whose tables are empty, or not there yet."""
        self.empty()
        return self.twin(**options)

    def twin(self, **options: object) -> ServerStorage:
        """Make one more store on the same tables."""
        return ServerStorage(self, **options)

    def empty(self) -> None:
        """Forget all sagas."""
        with self.engine.begin() as connection:
            for table in self._tables_there(connection):
                if table.name != self.tables.meta.name:
                    connection.execute(sa.delete(table))

    def create(self) -> None:
        """Create the tables, if they are not there."""
        if not sa.inspect(self.engine).has_table(self.tables.meta.name):
            storage = self.twin()
            storage._core.open()
            storage._core.close()

    def kill(self, storage: ServerStorage) -> None:
        """Declare an incarnation dead."""
        owners = self.tables.owners
        with self.engine.begin() as connection:
            connection.execute(sa.update(owners).where(owners.c.label == storage.label).values(dead=1))

    def drop(self) -> None:
        """Remove the tables."""
        with self.engine.begin() as connection:
            for table in self._tables_there(connection):
                table.drop(connection)

    def _tables_there(self, connection: sa.Connection) -> list[sa.Table]:
        there = set(sa.inspect(connection).get_table_names())
        return [table for table in self.tables.metadata.sorted_tables if table.name in there]


def servers(require_service: Callable[[str], str], prefix: str) -> Callable[[str], Server]:
    """From the name of a driver to a server with tables of this prefix. Skips where there is no such server."""

    @cache
    def server_of(driver: str) -> Server:
        return Server(require_service(DRIVERS[driver]), driver, f"{prefix}_{uuid4().hex[:8]}_")

    return server_of


def place_of(url: sa.URL) -> tuple[str, int] | str:
    """A server's host and port, or the path of its Unix socket."""
    port = url.port or (5432 if url.get_backend_name() == "postgresql" else 3306)
    folder = url.query.get("host")
    return f"{folder}/.s.PGSQL.{port}" if folder else (url.host or "127.0.0.1", port)


def _with_driver(address: str, driver: str) -> sa.URL:
    url = sa.make_url(address)
    url = url.set(drivername=f"{url.get_backend_name()}+{driver}")
    # PyMySQL would read all certificates of the machine for each connection, which takes longer than most tests.
    return url.set(query={"ssl_disabled": "true", **url.query}) if driver == "pymysql" else url
