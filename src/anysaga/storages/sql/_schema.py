"""Creating the tables, and telling whether the ones that are there are ours."""

from __future__ import annotations

import sqlalchemy as sa

from anysaga._errors import StorageRefused
from anysaga.storages.sql._tables import SCHEMA_VERSION, Tables

_VERSION = "schema_version"


def prepare(connection: sa.Connection, tables: Tables, address: str, *, create: bool) -> None:
    """Make sure that the tables are there, in the version that this code knows.

    Raises `StorageRefused` if they are not, and may not be created or are of another version.
    """
    meta = tables.meta
    if not sa.inspect(connection).has_table(meta.name):
        if not create:
            raise StorageRefused(
                address,
                f"it has no table {meta.name!r}: check table_prefix, or let create_schema=True create the tables",
            )
        tables.metadata.create_all(connection)
        connection.execute(sa.insert(meta), {"name": _VERSION, "value": SCHEMA_VERSION})
        return
    version = connection.scalar(sa.select(meta.c.value).where(meta.c.name == _VERSION))
    if version != SCHEMA_VERSION:
        raise StorageRefused(
            address,
            f"its tables are of schema version {version}, and this anysaga works with {SCHEMA_VERSION}: "
            "use the release of anysaga that made them, or another table_prefix",
        )
