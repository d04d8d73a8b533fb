"""The tables of a store: creating them, bringing older ones forward, and telling which ones are not ours to touch."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import sqlalchemy as sa

from anysaga._errors import StorageRefused
from anysaga.storages.sql._database import Database
from anysaga.storages.sql._tables import SCHEMA_VERSION, Tables

Migration = Callable[[sa.Connection, Database, Tables], None]


def _add_outbox(connection: sa.Connection, database: Database, tables: Tables) -> None:
    database.create_tables(connection, [tables.outbox])


MIGRATIONS: Mapping[int, Migration] = {1: _add_outbox}
"""How the tables of a version become those of the next one, in place."""

_VERSION = "schema_version"


def is_ready(connection: sa.Connection, database: Database, tables: Tables, *, create: bool) -> bool:
    """Whether the tables are there, in the version that this code knows. False: they have to be brought forward.

    Raises `StorageRefused` if they are not, and may not be created or brought forward, or are of a later version.
    """
    version = _version(connection, tables)
    if version == SCHEMA_VERSION:
        return True
    if version is not None and version > SCHEMA_VERSION:
        raise StorageRefused(
            database.address,
            f"its tables are of schema version {version}, and this anysaga works with {SCHEMA_VERSION}: "
            "use the release of anysaga that made them, or another table_prefix",
        )
    if not create:
        raise StorageRefused(database.address, _missing(tables, version))
    return False


def bring_forward(connection: sa.Connection, database: Database, tables: Tables) -> None:
    """Create the tables, or make those of an earlier version what they are now.

    Raises `StorageRefused` if they are of a later version by now.
    """
    with database.alone(connection):
        if not is_ready(connection, database, tables, create=True):  # another process may have done it
            _bring_forward(connection, database, tables)


def _bring_forward(connection: sa.Connection, database: Database, tables: Tables) -> None:
    meta, version = tables.meta, _version(connection, tables)
    if version is None:
        database.create_tables(connection, tables.metadata.sorted_tables)
        connection.execute(sa.insert(meta), {"name": _VERSION, "value": SCHEMA_VERSION})
        return
    for older in range(version, SCHEMA_VERSION):
        MIGRATIONS[older](connection, database, tables)
    connection.execute(sa.update(meta).where(meta.c.name == _VERSION).values(value=SCHEMA_VERSION))


def _version(connection: sa.Connection, tables: Tables) -> int | None:
    """The version of the tables; None if there are none, or not all of them: not every database creates all at once."""
    meta = tables.meta
    if not sa.inspect(connection).has_table(meta.name):
        return None
    version: int | None = connection.scalar(sa.select(meta.c.value).where(meta.c.name == _VERSION))
    return version


def _missing(tables: Tables, version: int | None) -> str:
    if version is None:
        return f"it has no table {tables.meta.name!r}: check table_prefix, or let create_schema=True create the tables"
    return (
        f"its tables are of schema version {version}, and this anysaga works with {SCHEMA_VERSION}: "
        "open it once with create_schema=True, which brings them forward in place"
    )
