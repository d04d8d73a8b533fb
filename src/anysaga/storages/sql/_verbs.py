"""All that is said in SQL on the tables of one prefix. Made once: making it takes as long as opening a file."""

from __future__ import annotations

from functools import lru_cache

import sqlalchemy as sa

from anysaga._records import frozen
from anysaga.storages.sql._circuits import Circuits
from anysaga.storages.sql._database import Database
from anysaga.storages.sql._operations import Operations
from anysaga.storages.sql._outbox import OutboxRows
from anysaga.storages.sql._statements import Statements
from anysaga.storages.sql._tables import Tables
from anysaga.storages.sql._writes import Writes

_MOST_KEPT = 64


@frozen
class Verbs:
    """Plain functions of a connection, and the tables that they work on. Any number of storages use them at once."""

    tables: Tables
    operations: Operations
    writes: Writes
    outbox: OutboxRows
    circuits: Circuits


def verbs_of(prefix: str, dialect: sa.Dialect, database: Database) -> Verbs:
    """The verbs for the tables of a prefix in this kind of database, by this driver. Raises `InvalidArgument`."""
    kind = (dialect.name, dialect.driver, dialect.paramstyle)
    return _made(prefix, kind, database.one_writer, database.updates_from_rows, database.takes_json)


@lru_cache(_MOST_KEPT)
def _made(
    prefix: str,
    _kind: tuple[str, str, str],  # statements keep their text, which is that of one kind
    one_writer: bool,  # noqa: FBT001 - called by position, which the cache is quicker with
    updates_from_rows: bool,  # noqa: FBT001 - the same
    takes_json: bool,  # noqa: FBT001 - the same
) -> Verbs:
    tables = Tables(prefix)
    statements = Statements(
        tables, locks_rows=not one_writer, updates_from_rows=updates_from_rows, takes_json=takes_json
    )
    outbox = OutboxRows(tables)
    return Verbs(tables, Operations(statements), Writes(statements, outbox), outbox, Circuits(tables))
